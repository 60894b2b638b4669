"""Credentials that this process has verified, so that a repeat costs no HMAC and no SQL."""

from collections.abc import Callable, Sequence
from hashlib import blake2b
from threading import Lock

from l402.forks import in_child
from l402.protocol.token import Token
from l402.store.revocations import Revoked


class VerifiedTokens:
    """Authentic tokens by the exact header text that showed them, bounded; the oldest go first.

    The key is never the token id: a wrong preimage would find the entry. Holders can write one
    token in many ways (other base64, appended caveats), so each token id has few places.
    """

    def __init__(self, size: int = 4096, texts_per_token: int = 4) -> None:
        self._size, self._texts_per_token = size, texts_per_token
        self._begin()
        in_child(self._begin)

    def _begin(self) -> None:
        self._tokens: dict[bytes, tuple[Token, ...]] = {}
        self._texts: dict[bytes, list[bytes]] = {}
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._tokens)

    def get(self, header: str) -> tuple[Token, ...] | None:
        """Return the tokens that this very text was verified to show."""
        return self._tokens.get(_key(header))

    def put(self, header: str, tokens: tuple[Token, ...]) -> None:
        """Remember fully verified tokens."""
        key = _key(header)
        with self._lock:
            if key in self._tokens:
                return
            self._tokens[key] = tokens
            for token in tokens:
                texts = self._texts.setdefault(token.token_id, [])
                texts.append(key)
                if len(texts) > self._texts_per_token:
                    self._remove(texts[0])
            if len(self._tokens) > self._size:
                self._remove(next(iter(self._tokens)))

    def evict(self, match: Callable[[Token], bool]) -> None:
        """Forget every entry that shows a token for which `match` is true.

        Its token is no longer taken as booked either, for a request may be holding it already.
        """
        with self._lock:
            for key, tokens in list(self._tokens.items()):
                matching = [token for token in tokens if match(token)]
                for token in matching:
                    token.booked, token.others = False, {}
                if matching:
                    self._remove(key)

    def _remove(self, key: bytes) -> None:
        for token in self._tokens.pop(key, ()):
            texts = self._texts[token.token_id]
            texts.remove(key)
            if not texts:
                del self._texts[token.token_id]


def concerned(revoked: Sequence[Revoked]) -> Callable[[Token], bool]:
    """Return what tells whether any of these revocations concerns a token or what it opens."""
    subjects = {rule.subject for rule in revoked if rule.issued_before is None}
    services = {
        rule.subject: rule.issued_before.timestamp()
        for rule in revoked
        if rule.issued_before is not None
    }

    def concerns(shown: Token) -> bool:
        token_id = shown.token_id.hex()
        rights = {shown.payment_hash: shown.grant, **shown.others}
        names = {token_id, token_id[:16], *(payment_hash.hex() for payment_hash in rights)}
        return not names.isdisjoint(subjects) or any(
            grant.issued_at < services.get(grant.service, 0) for grant in rights.values()
        )

    return concerns


def _key(header: str) -> bytes:
    # A digest, so that an entry's size does not depend on what the caller wrote.
    return blake2b(header.encode("latin-1", "replace"), digest_size=32).digest()
