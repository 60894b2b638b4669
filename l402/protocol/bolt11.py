"""Reading BOLT 11 payment requests: what a node's invoice asks, before a token is minted for it.

Strict and total: any text is either understood or refused with `InvalidInvoice`. The signature and
the feature bits are for the payer to judge; the invoice comes from our own node.
"""

import re
from typing import Final, NamedTuple

from l402.errors import InvalidInvoice

#: bech32's letters, in the order of their values 0 to 31 (BIP 173)
CHARSET: Final = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l"
#: BIP 173 currency prefix → network
NETWORKS: Final = {b"bc": "mainnet", b"tb": "testnet", b"tbs": "signet", b"bcrt": "regtest"}
#: amount suffix → pico-bitcoin in one of it, largest first
MULTIPLIERS: Final = {b"": 10**12, b"m": 10**9, b"u": 10**6, b"n": 10**3, b"p": 1}
#: pico-bitcoin in one msat
PICO_PER_MSAT: Final = 10
#: letters of the timestamp (35 bits), and of the signature with its recovery id (520 bits)
TIMESTAMP_LENGTH: Final = 7
SIGNATURE_LENGTH: Final = 104
#: bytes of a description: what the 1023 letters of the longest field hold
MAX_DESCRIPTION: Final = 639
#: seconds that an invoice is good for when it names no expiry
DEFAULT_EXPIRY: Final = 3600

_MAX_LENGTH = 7089  # the most that a QR code holds; lnd reads no more either
_CHECKSUM_LENGTH = 6
# Twenty digits cover all bitcoin in pico-bitcoin, and keep int() far from its limit of digits.
_HRP = re.compile(rb"ln(bcrt|bc|tbs|tb)(?:([1-9][0-9]{0,19})([munp]?))?")
# The tagged fields that we read, with the length that a fixed one must have.
_FIELDS = {b"p": 52, b"s": 52, b"h": 52, b"d": None, b"x": None}

_VALUES = bytes.maketrans(CHARSET, bytes(range(32)))
_DIGITS = bytes.maketrans(CHARSET, b"0123456789abcdefghijklmnopqrstuv")
_GENERATOR = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)


def _feedback(top: int) -> int:
    """What the five bits that leave the checksum's register bring back into it."""
    feedback = 0
    for bit, generator in enumerate(_GENERATOR):
        feedback ^= generator * (top >> bit & 1)
    return feedback


_FEEDBACK = tuple(map(_feedback, range(32)))


class PaymentRequest(NamedTuple):
    """A decoded invoice: amount in msat, times in seconds (since 1970), hashes of 32 bytes."""

    network: str  #: mainnet, testnet, signet or regtest
    msat: int | None  #: None: the payer may choose the amount
    payment_hash: bytes
    created_at: int
    expiry: int
    description: str | None  #: exactly one of description and description_hash is there
    description_hash: bytes | None
    payment_secret: bytes | None

    @property
    def expires_at(self) -> int:
        """Unix time in seconds after which the payee refuses the payment."""
        return self.created_at + self.expiry


def decode(text: str) -> PaymentRequest:
    """Read a payment request in lower or upper case, without ``lightning:`` before it.

    Stricter than BOLT 11 where two readers could differ: a field that we read stands at most once,
    padding is minimal and zero, and expiries are bounded to the timestamp's 35 bits.

    :raises InvalidInvoice: whatever else the text may be
    """
    hrp, data = _bech32(text)
    network, msat = _prefix_and_amount(hrp)
    if len(data) < TIMESTAMP_LENGTH + SIGNATURE_LENGTH:
        raise InvalidInvoice("too short for a timestamp and a signature")
    fields = _fields(data[TIMESTAMP_LENGTH:-SIGNATURE_LENGTH])
    if b"p" not in fields:
        raise InvalidInvoice("no payment hash")
    if (b"d" in fields) == (b"h" in fields):
        raise InvalidInvoice("neither or both of description and description hash")
    return PaymentRequest(
        network=network,
        msat=msat,
        payment_hash=octets(fields[b"p"]),
        created_at=number(data[:TIMESTAMP_LENGTH]),
        expiry=_expiry(fields[b"x"]) if b"x" in fields else DEFAULT_EXPIRY,
        description=_utf8(fields[b"d"]) if b"d" in fields else None,
        description_hash=octets(fields[b"h"]) if b"h" in fields else None,
        payment_secret=octets(fields[b"s"]) if b"s" in fields else None,
    )


def checksum(hrp: bytes, data: bytes) -> bytes:
    """The six letters that close ``hrp 1 data`` (bech32, BIP 173).

    `hrp` is lowercase ASCII, `data` letters of `CHARSET`.
    """
    register = 1
    expanded = bytes(c >> 5 for c in hrp) + b"\0" + bytes(c & 31 for c in hrp)
    for value in expanded + data.translate(_VALUES) + bytes(_CHECKSUM_LENGTH):
        register = (register & 0x1FFFFFF) << 5 ^ value ^ _FEEDBACK[register >> 25]
    return numeral(register ^ 1, _CHECKSUM_LENGTH)


def number(letters: bytes) -> int:
    """The big-endian number that letters of `CHARSET` stand for; none stand for 0."""
    return int(b"0" + letters.translate(_DIGITS), 32)


def numeral(value: int, length: int) -> bytes:
    """The lowest `length` base-32 digits of `value` as letters of `CHARSET`."""
    return bytes(CHARSET[value >> 5 * place & 31] for place in reversed(range(length)))


def octets(letters: bytes) -> bytes:
    """The bytes in letters of `CHARSET`, five bits each.

    :raises InvalidInvoice: the padding is longer than needed, or not zero
    """
    length, padding = divmod(5 * len(letters), 8)
    value = number(letters)
    if padding > 4 or value & (1 << padding) - 1:
        raise InvalidInvoice("a field with wrong padding")
    return (value >> padding).to_bytes(length)


def _bech32(text: str) -> tuple[bytes, bytes]:
    """Human-readable part and data letters, both lowercase, without the checksum."""
    if len(text) > _MAX_LENGTH:
        raise InvalidInvoice(f"longer than {_MAX_LENGTH} characters")
    if not text.isascii() or text not in (text.lower(), text.upper()):
        raise InvalidInvoice("not ASCII of a single case")
    hrp, separator, data = text.lower().encode().rpartition(b"1")
    if not separator or len(data) < _CHECKSUM_LENGTH or data.translate(None, CHARSET):
        raise InvalidInvoice("not bech32")
    data, given = data[:-_CHECKSUM_LENGTH], data[-_CHECKSUM_LENGTH:]
    if checksum(hrp, data) != given:
        raise InvalidInvoice("wrong checksum")
    return hrp, data


def _prefix_and_amount(hrp: bytes) -> tuple[str, int | None]:
    """Network, and the amount in msat if there is one."""
    match = _HRP.fullmatch(hrp)
    if match is None:
        raise InvalidInvoice("unknown network or malformed amount")
    prefix, amount, multiplier = match.groups()
    if amount is None:
        return NETWORKS[prefix], None
    msat, fraction = divmod(int(amount) * MULTIPLIERS[multiplier], PICO_PER_MSAT)
    if fraction:
        raise InvalidInvoice("an amount that is no whole number of msat")
    return NETWORKS[prefix], msat


def _fields(data: bytes) -> dict[bytes, bytes]:
    """The tagged fields that we read, by tag; BOLT 11 has a reader skip all others."""
    fields: dict[bytes, bytes] = {}
    end = 0
    while end < len(data):
        tag, start = data[end : end + 1], end + 3
        end = start + number(data[end + 1 : start])
        if end > len(data):
            raise InvalidInvoice("a field that runs into the signature")
        letters = data[start:end]
        if tag not in _FIELDS or _FIELDS[tag] not in (None, len(letters)):
            continue
        if tag in fields:
            raise InvalidInvoice(f"more than one field {tag.decode()}")
        fields[tag] = letters
    return fields


def _expiry(letters: bytes) -> int:
    seconds = number(letters)
    if seconds >> 5 * TIMESTAMP_LENGTH:
        raise InvalidInvoice("an expiry of more than 35 bits")
    return seconds


def _utf8(letters: bytes) -> str:
    try:
        return octets(letters).decode()
    except UnicodeDecodeError as error:
        raise InvalidInvoice("a description that is not UTF-8") from error
