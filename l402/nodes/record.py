"""A node's answer, read field by field: nothing in it counts that is not of the known shape."""

import re
from typing import Any

from l402.errors import NodeUnreachable

_MOST = 21 * 10**17  # msat: there is no more bitcoin


class Record:
    """One JSON object that the node called `node` answered; every reader is strict.

    A reader raises NodeUnreachable, which names the field and not its value, if the field is
    missing or odd.
    """

    def __init__(self, node: str, fields: dict[str, Any]) -> None:
        self._node, self._fields = node, fields

    def text(self, name: str) -> str:
        """Return text."""
        value = self._fields.get(name)
        if not isinstance(value, str):
            raise self.odd(name)
        return value

    def hash(self, name: str) -> bytes:
        """Return the 32 bytes that 64 hex digits stand for."""
        value = self.text(name)
        if not re.fullmatch("[0-9A-Fa-f]{64}", value):
            raise self.odd(name)
        return bytes.fromhex(value)

    def amount(self, name: str) -> int:
        """Return an amount, in whatever unit the node counts."""
        value = self._fields.get(name)
        if type(value) is not int or not 0 <= value <= _MOST:
            raise self.odd(name)
        return value

    def flag(self, name: str) -> bool:
        """Return true or false."""
        value = self._fields.get(name)
        if not isinstance(value, bool):
            raise self.odd(name)
        return value

    def record(self, name: str) -> "Record":
        """Return the object within."""
        value = self._fields.get(name)
        if not isinstance(value, dict):
            raise self.odd(name)
        return Record(self._node, value)

    def records(self, name: str) -> list["Record"]:
        """Return the objects of the list within."""
        value = self._fields.get(name)
        if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
            raise self.odd(name)
        return [Record(self._node, one) for one in value]

    def odd(self, name: str) -> NodeUnreachable:
        """Return the error that says that field `name` is not as it should be."""
        return NodeUnreachable(
            f"its answer is not of {self._node}'s shape: {name} is missing or odd"
        )
