"""The ``Authorization`` header of a paying request, in every form that deployed clients send.

``L402 <macaroon>:<preimage>``, with these liberties, each of them some client's habit: the older
scheme ``LSAT``; the scheme doubled; base64 of either alphabet, padded or not; hex in any case;
several credentials joined by commas, which is how WSGI servers hand on repeated header lines.
Werkzeug's ``request.authorization`` mangles all of it, so this reads the raw text.
"""

import binascii
import re
from base64 import b64decode, b64encode
from dataclasses import dataclass

from l402.errors import Malformed
from l402.protocol.macaroon import MAX_BYTES

MAX_HEADER = 16 * 1024
MAX_CREDENTIALS = 4

_SCHEME = re.compile(r"[ \t]*(?:L402|LSAT)(?:[ \t]+|$)", re.IGNORECASE | re.ASCII)
_CREDENTIAL = re.compile(
    r"(?:([A-Za-z0-9+/]+)|([A-Za-z0-9_-]+))={0,2}:([0-9A-Fa-f]{64})[ \t]*", re.ASCII
)
_URL_SAFE = str.maketrans("-_", "+/")


@dataclass(frozen=True, slots=True, repr=False)
class Credential:
    """What one payer shows: the macaroon's bytes and the preimage's 32."""

    macaroon: bytes
    preimage: bytes


def parse(header: str) -> list[Credential]:
    """Return the distinct credentials of a header's text, at most four, in their order.

    An empty list means that the header speaks of other schemes only. One malformed credential
    does not spoil a good one beside it.

    :raises Malformed: over 16 KiB or four credentials, or none of those shown has the right form
    """
    if len(header) > MAX_HEADER:
        raise Malformed(f"the Authorization header is longer than {MAX_HEADER} bytes")
    shown = [part for part in header.split(",") if _SCHEME.match(part)]
    if len(shown) > MAX_CREDENTIALS:
        raise Malformed(f"more than {MAX_CREDENTIALS} credentials in one request")
    good: list[Credential] = []
    fault: Malformed | None = None
    for part in shown:
        try:
            good.append(_credential(part))
        except Malformed as error:
            fault = fault or error
    if fault and not good:
        raise fault
    return list(dict.fromkeys(good))


def _credential(part: str) -> Credential:
    for _ in range(2):  # a Go client's cache sends "L402 LSAT …"
        if scheme := _SCHEME.match(part):
            part = part[scheme.end() :]
    found = _CREDENTIAL.fullmatch(part)
    if not found:
        raise Malformed("write: Authorization: L402 <macaroon in base64>:<preimage, 64 hex digits>")
    standard, url_safe, preimage = found.groups()
    return Credential(_bytes(standard or url_safe.translate(_URL_SAFE)), bytes.fromhex(preimage))


def _bytes(text: str) -> bytes:
    padded = text + "=" * (-len(text) % 4)
    try:
        raw = b64decode(padded, validate=True)
    except binascii.Error as error:
        raise Malformed("the macaroon is not base64") from error
    if b64encode(raw).decode() != padded:
        raise Malformed("the macaroon is not base64: bits are left over at its end")
    if len(raw) > MAX_BYTES:
        raise Malformed(f"the macaroon is longer than {MAX_BYTES} bytes")
    return raw
