"""What a macaroon of lnd's permits, read from its identifier.

lnd bakes as the macaroon bakery does: the identifier is the byte 3 and then, in Protocol Buffers,
a nonce (1), the root key's id (2), and operations (3), each an entity (1) with its actions (2).
"""

from collections.abc import Iterator

#: Of a macaroon in version 2, ahead of each field; the location may be left out.
_LOCATION, _IDENTIFIER = 1, 2
_BAKERY = 3
_OPERATION = 3
_ENTITY, _ACTION = 1, 2
_TEXT = 2  # of a Protocol Buffers field: its bytes are counted


def permissions(macaroon: bytes) -> frozenset[str] | None:
    """Return permissions such as ``invoices:read``; None if `macaroon` does not tell them.

    `macaroon` is in lnd's binary format. A caveat may narrow what is told here.
    """
    try:
        identifier = _identifier(macaroon)
        if identifier[0] != _BAKERY:
            return None
        return frozenset(_granted(identifier[1:])) or None
    except (IndexError, ValueError):
        return None


def _identifier(macaroon: bytes) -> bytes:
    rest = macaroon[1:]
    kind, field, rest = rest[0], *_counted(rest[1:])
    if kind == _LOCATION:
        kind, field = rest[0], _counted(rest[1:])[0]
    if kind != _IDENTIFIER:
        raise ValueError("no identifier")
    return field


def _granted(message: bytes) -> Iterator[str]:
    for number, operation in _fields(message):
        if number != _OPERATION:
            continue
        parts = list(_fields(operation))
        (entity,) = (value.decode() for number, value in parts if number == _ENTITY)
        yield from (f"{entity}:{value.decode()}" for number, value in parts if number == _ACTION)


def _fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    while message:
        tag, message = _number(message)
        if tag & 7 != _TEXT:
            raise ValueError("a field of another type")
        value, message = _counted(message)
        yield tag >> 3, value


def _counted(data: bytes) -> tuple[bytes, bytes]:
    """Split what begins with its own length, and the rest."""
    length, data = _number(data)
    if length > len(data):
        raise ValueError("cut short")
    return data[:length], data[length:]


def _number(data: bytes) -> tuple[int, bytes]:
    """Split a varint and the rest."""
    value = 0
    for position, byte in enumerate(data[:5]):
        value |= (byte & 127) << 7 * position
        if byte < 128:
            return value, data[position + 1 :]
    raise ValueError("no number")
