"""A Lightning node that answers at once, so that a challenge shows what we add to a node's time."""

import secrets
import time
from typing import NoReturn

from l402.errors import NodeRefused
from l402.nodes.base import Issued, Node
from l402.nodes.simulated import SimulatedNode

_INVOICES = 64
#: The desk refuses invoices dated a minute ago, so there are fresh ones in time; making them takes
#: less than a thousandth of it. In seconds.
_FRESH = 30


class InstantNode(Node):
    """Hands out invoices over `msat` that were made before, over and over.

    They are really signed, so that checking them takes as long as ever; paying one opens nothing.
    """

    network = "regtest"
    invoice_network = "regtest"
    can_look_up = False

    def __init__(self, msat: int, expiry: int) -> None:
        self._msat, self._expiry = msat, expiry
        self._encoder = SimulatedNode(secrets.token_bytes(32))
        self._made_at = float("-inf")
        self._invoices: list[Issued] = []
        self._next = 0

    def _prepare(self) -> None:
        self._invoices = [
            self._encoder.create_invoice(self._msat, "made before it was asked for", self._expiry)
            for _ in range(_INVOICES)
        ]
        self._made_at = time.monotonic()

    def create_invoice(self, msat: int, description: str, expiry: int) -> Issued:
        """Hand out the next invoice.

        :raises NodeRefused: of another amount or expiry than those that were made
        """
        if (msat, expiry) != (self._msat, self._expiry):
            raise NodeRefused(f"instant node: made for {self._msat} msat and {self._expiry} s")
        if time.monotonic() - self._made_at > _FRESH:
            self._prepare()
        self._next = (self._next + 1) % _INVOICES
        return self._invoices[self._next]

    def look_up(self, payment_hash: bytes) -> NoReturn:
        """Refuse.

        :raises NodeRefused: always
        """
        raise NodeRefused("instant node: it keeps no record of payments")

    def __repr__(self) -> str:
        return "InstantNode()"
