"""Every key of ours, derived from the operator's secret: nothing to store and nothing to leak.

HKDF-SHA256 (RFC 5869) with a label per purpose, so that no kind of token, handle or wallet
credential ever verifies as another.
"""

import hmac
from collections.abc import Sequence

MIN_SECRET_BYTES = 32

_SALT = b"Flask-L402"


class KeyRing:
    """Secrets, the newest first: it derives new keys, the older ones still recognise theirs."""

    def __init__(self, secrets: Sequence[bytes]) -> None:
        if not secrets or any(len(secret) < MIN_SECRET_BYTES for secret in secrets):
            raise ValueError(f"a secret key has at least {MIN_SECRET_BYTES} bytes")
        self._pseudorandom_keys = [hmac_sha256(_SALT, secret) for secret in secrets]

    def derive(self, label: str, context: bytes = b"") -> bytes:
        """Return the newest secret's 32-byte key for this purpose."""
        return _expand(self._pseudorandom_keys[0], label, context)

    def derive_all(self, label: str, context: bytes = b"") -> list[bytes]:
        """Return every secret's key for this purpose, the newest first."""
        return [_expand(key, label, context) for key in self._pseudorandom_keys]

    def handle(self, token_id: bytes) -> str:
        """Return what an invoice's description ends in, so that a sale is found by its payment.

        It is ``l402:``, 16 hex digits of the token id, ``:`` and 8 of an HMAC over them, which
        tells our invoices from others at the same node.
        """
        return _handle(self.derive("handle"), token_id[:8])

    def recognise(self, handle: str) -> str | None:
        """Return the 16 hex digits of the token id if `handle` is one of ours, else None."""
        _, _, rest = handle.partition("l402:")
        try:
            prefix, shown = bytes.fromhex(rest[:16]), handle.encode()
        except ValueError:  # a command line's undecodable bytes too
            return None
        known = (_handle(key, prefix) for key in self.derive_all("handle"))
        matches = [h for h in known if hmac.compare_digest(h.encode(), shown)]
        return prefix.hex() if matches else None


def hmac_sha256(key: bytes, message: bytes) -> bytes:
    """Return the 32 bytes of HMAC-SHA256 (RFC 2104)."""
    # hmac.digest() lets go of the interpreter lock, and where many threads want that, getting it
    # back takes a thousand times as long as the HMAC.
    return hmac.new(key, message, "sha256").digest()


def _handle(key: bytes, prefix: bytes) -> str:
    return f"l402:{prefix.hex()}:{hmac_sha256(key, prefix)[:4].hex()}"


def _expand(pseudorandom_key: bytes, label: str, context: bytes) -> bytes:
    # One block of RFC 5869's expansion: T(1) = HMAC(PRK, info ‖ 0x01); no label contains a NUL.
    return hmac_sha256(pseudorandom_key, label.encode() + b"\0" + context + b"\x01")
