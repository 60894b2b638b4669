"""Macaroons in the V2 binary format, as Go's ``macaroon.v2`` and pymacaroons write them.

pymacaroons writes them down. The signature, which minting and checking share, and the parser are
here, strict and without callbacks: its parser takes trailing bytes and raises whatever it stumbles
over, and its verifier runs predicates before it has looked at the signature. The tests hold all of
it against pymacaroons.

A packet is ``type, length, bytes`` (type and length are varints), a section ends with type 0::

    02  [01 location] 02 identifier 00  { 02 caveat 00 }*  00  06 signature
"""

import hmac
from binascii import hexlify
from collections.abc import Iterable, Sequence
from functools import lru_cache
from hashlib import sha256
from typing import Any, NamedTuple

from l402.errors import Invalid, Malformed
from l402.protocol.keys import hmac_sha256

#: Never empty: pymacaroons and Go serialise an empty location differently.
LOCATION = "l402"
MAX_BYTES = 8192
MAX_CAVEATS = 32

_VERSION = 2
_EOS, _LOCATION, _IDENTIFIER, _SIGNATURE = 0, 1, 2, 6
_KEY_GENERATOR = b"macaroons-key-generator"


class Macaroon(NamedTuple):
    """A parsed macaroon; nothing of it is verified yet."""

    identifier: bytes
    caveats: tuple[str, ...]
    signature: bytes

    def signed_by(self, root_key: bytes) -> bool:
        """Tell whether the signature ends the HMAC chain that begins with `root_key`."""
        signature = _signature(root_key, self.identifier, self.caveats)
        return hmac.compare_digest(signature, self.signature)


def mint(root_key: bytes, identifier: bytes, caveats: Sequence[str]) -> bytes:
    """Sign `caveats`, in their order, and return the V2 binary macaroon."""
    import pymacaroons  # not before the first one: it brings libsodium along

    macaroon = pymacaroons.Macaroon(
        location=LOCATION,
        identifier=identifier,
        signature=hexlify(_signature(root_key, identifier, caveats)),
        caveats=[_first_party(caveat) for caveat in caveats],
        version=pymacaroons.MACAROON_V2,
    )
    raw: bytes = pymacaroons.serializers.BinarySerializer().serialize_raw(macaroon)
    return raw


def parse(raw: bytes) -> Macaroon:
    """Parse a V2 binary macaroon of first-party caveats in UTF-8, to its last byte.

    :raises Malformed: over `MAX_BYTES` or `MAX_CAVEATS`
    :raises Invalid: any other bytes that do not have this form
    """
    if len(raw) > MAX_BYTES:
        raise Malformed(f"the macaroon is longer than {MAX_BYTES} bytes")
    reader = _Reader(raw)
    if reader.byte() != _VERSION:
        raise Invalid("not a macaroon of version 2")
    reader.skip(_LOCATION)
    identifier = reader.field(_IDENTIFIER)
    reader.end_of_section()
    caveats: list[str] = []
    while not reader.at_end_of_section():
        caveats.append(_text(reader.field(_IDENTIFIER)))
        reader.end_of_section()
        if len(caveats) > MAX_CAVEATS:
            raise Malformed(f"the macaroon has more than {MAX_CAVEATS} caveats")
    signature = reader.field(_SIGNATURE)
    if len(signature) != sha256().digest_size or reader.position != len(raw):
        raise Invalid("the macaroon does not end with a signature of 32 bytes")
    return Macaroon(identifier, tuple(caveats), signature)


def _signature(root_key: bytes, identifier: bytes, caveats: Iterable[str]) -> bytes:
    """Follow the chain: each caveat is signed with the signature over all before it."""
    link = hmac_sha256(hmac_sha256(_KEY_GENERATOR, root_key), identifier)
    for caveat in caveats:
        link = hmac_sha256(link, caveat.encode())
    return link


@lru_cache(maxsize=256)  # nearly all that are minted say what others said just now
def _first_party(caveat: str) -> Any:
    import pymacaroons

    return pymacaroons.Caveat(caveat_id=caveat, version=pymacaroons.MACAROON_V2)


class _Reader:
    """Reads packets in turn; a wrong or missing one is `Invalid`."""

    def __init__(self, raw: bytes) -> None:
        self.raw, self.position = raw, 0

    def byte(self) -> int:
        if self.position >= len(self.raw):
            raise Invalid("the macaroon is cut short")
        self.position += 1
        return self.raw[self.position - 1]

    def field(self, kind: int) -> bytes:
        if self.byte() != kind:
            raise Invalid("the macaroon has another field where one of ours is expected")
        length = self._varint()
        self.position += length
        if self.position > len(self.raw):
            raise Invalid("the macaroon is cut short")
        return self.raw[self.position - length : self.position]

    def skip(self, kind: int) -> None:
        if self.raw[self.position : self.position + 1] == bytes([kind]):
            self.field(kind)

    def end_of_section(self) -> None:
        if self.byte() != _EOS:
            raise Invalid("the macaroon has a field too many, such as a third-party caveat's")

    def at_end_of_section(self) -> bool:
        if self.raw[self.position : self.position + 1] != bytes([_EOS]):
            return False
        self.position += 1
        return True

    def _varint(self) -> int:
        low = self.byte()
        if low < 0x80:
            return low
        high = self.byte()  # two bytes reach 16,383, beyond MAX_BYTES
        if not 0 < high < 0x80:
            raise Invalid("the macaroon has a length that is too long, or padded")
        return (low & 0x7F) | high << 7


def _text(caveat: bytes) -> str:
    try:
        return caveat.decode()
    except UnicodeDecodeError as error:
        raise Invalid("the macaroon has a caveat that is not UTF-8") from error
