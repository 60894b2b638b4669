"""A node that only pretends: really signed invoices on regtest's prefix, and no money at all."""

import hmac
import secrets
import time
from base64 import b32encode
from collections.abc import Callable
from functools import cached_property
from hashlib import sha256
from typing import TYPE_CHECKING, NoReturn

from l402.errors import InvalidInvoice, NodeRefused
from l402.nodes.base import Issued, Node
from l402.protocol import bolt11

if TYPE_CHECKING:
    from coincurve import PrivateKey

# BOLT 9: TLV onion (8) and payment secret (14) required, multi-part payment (17) offered.
_FEATURES = bolt11.numeral(1 << 8 | 1 << 14 | 1 << 17, 4)
_BASE32_TO_BECH32 = bytes.maketrans(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", bolt11.CHARSET)


class SimulatedNode(Node):
    """Issues invoices that only `settle` pays, in any process that holds the same secret.

    Nothing is stored: the payee's key follows from `secret` (32 random bytes or more), and an
    invoice's preimage from `secret` and the payment secret that the invoice shows.
    """

    network = "simulated"
    invoice_network = "regtest"
    can_look_up = False

    def __init__(self, secret: bytes, clock: Callable[[], float] = time.time) -> None:
        self._secret = secret
        self._clock = clock

    def create_invoice(self, msat: int, description: str, expiry: int) -> Issued:
        """Issue an invoice with a fresh payment hash; `msat` need not be whole sats.

        :raises NodeRefused: an amount or expiry below 1, or more than 639 bytes of description
        """
        if msat < 1 or expiry < 1:
            raise NodeRefused("simulated node: amount and expiry must be positive")
        if len(description.encode()) > bolt11.MAX_DESCRIPTION:
            raise NodeRefused("simulated node: the description is longer than 639 bytes")
        now = int(self._clock())
        return self._issue(msat, description, now, expiry, secrets.token_bytes(32))

    def look_up(self, payment_hash: bytes) -> NoReturn:
        """Refuse: paying here leaves no trace.

        :raises NodeRefused: always
        """
        raise NodeRefused("simulated node: it keeps no record of payments")

    def settle(self, text: str) -> bytes:
        """Pay the BOLT 11 invoice in `text` and return its preimage (32 bytes).

        :raises NodeRefused: it is no invoice, or not ours to the last letter, or it has expired
        """
        try:
            request = bolt11.decode(text)
        except InvalidInvoice as error:
            raise NodeRefused(f"simulated node: no invoice: {error}") from error
        payment_secret = request.payment_secret or b""
        # Signatures are deterministic (RFC 6979), so writing the invoice again shows that the
        # payee is us and that nobody edited the amount.
        ours = self._issue(
            request.msat or 0,
            request.description or "",
            request.created_at,
            request.expiry,
            payment_secret,
        )
        if not hmac.compare_digest(ours.bolt11, text.lower()):
            raise NodeRefused("simulated node: an invoice of another node")
        if self._clock() >= request.expires_at:
            raise NodeRefused("simulated node: the invoice has expired")
        return self._preimage(payment_secret)

    def __repr__(self) -> str:
        return "SimulatedNode()"

    def _issue(
        self, msat: int, description: str, created_at: int, expiry: int, payment_secret: bytes
    ) -> Issued:
        payment_hash = sha256(self._preimage(payment_secret)).digest()
        hrp = b"lnbcrt" + _amount(msat)
        data = (
            bolt11.numeral(created_at, bolt11.TIMESTAMP_LENGTH)
            + _field(b"p", _letters(payment_hash))
            + _field(b"s", _letters(payment_secret))
            + _field(b"d", _letters(description.encode()))
            + _field(b"x", bolt11.numeral(expiry, (expiry.bit_length() + 4) // 5))
            + _field(b"9", _FEATURES)
        )
        data += _letters(self._payee.sign_recoverable(_signed_octets(hrp, data)))
        return Issued((hrp + b"1" + data + bolt11.checksum(hrp, data)).decode(), payment_hash)

    @cached_property
    def _payee(self) -> "PrivateKey":
        from coincurve import PrivateKey  # 20 ms of start-up that no other node needs

        return PrivateKey(self._derive(b"payee key"))

    def _preimage(self, payment_secret: bytes) -> bytes:
        return self._derive(b"preimage", payment_secret)

    def _derive(self, purpose: bytes, salt: bytes = b"") -> bytes:
        """32 bytes for one purpose; the label keeps them apart from all else under `secret`."""
        return hmac.digest(self._secret, b"l402 simulated " + purpose + b"\0" + salt, "sha256")


def _amount(msat: int) -> bytes:
    """The amount as short as BOLT 11 can write it."""
    pico = msat * bolt11.PICO_PER_MSAT
    suffix, unit = next(item for item in bolt11.MULTIPLIERS.items() if pico % item[1] == 0)
    return b"%d%s" % (pico // unit, suffix)


def _field(tag: bytes, letters: bytes) -> bytes:
    return tag + bolt11.numeral(len(letters), 2) + letters


def _letters(octets: bytes) -> bytes:
    """Bytes as bech32 letters: base32 with another alphabet."""
    return b32encode(octets).rstrip(b"=").translate(_BASE32_TO_BECH32)


def _signed_octets(hrp: bytes, data: bytes) -> bytes:
    """What BOLT 11 has the payee sign: the data's bits follow `hrp`, zeros fill the last byte."""
    padding = -5 * len(data) % 8
    bits = 5 * len(data) + padding
    return hrp + (bolt11.number(data) << padding).to_bytes(bits // 8)
