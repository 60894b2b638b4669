"""A node that lists its invoices, and that a test pays, holds and breaks as it likes."""

from hashlib import sha256
from typing import Any

from l402.errors import NodeUnreachable
from l402.nodes.base import Issued, Listed, Settlement
from l402.nodes.simulated import SimulatedNode
from support.sales import ISSUED


class ListingNode(SimulatedNode):
    """The simulated node with a memory; a page of its list has `page` invoices."""

    can_look_up = can_list = True

    def __init__(self, *args: Any, page: int = 3) -> None:
        super().__init__(*args)
        self.page = page
        self.list: dict[int, Listed] = {}
        self.asked: list[int] = []  # behind which positions
        self.looked_up: list[bytes] = []
        self.breaks_at: int | None = None  # the call of `invoices` that gets no answer
        self._last = 0

    def create_invoice(self, msat: int, description: str, expiry: int) -> Issued:
        issued = super().create_invoice(msat, description, expiry)
        self.add(issued.payment_hash, description, msat)
        return issued

    def settle(self, text: str) -> bytes:
        preimage = super().settle(text)
        self.change(sha256(preimage).digest(), Settlement.SETTLED)
        return preimage

    def add(self, payment_hash: bytes, description: str, msat: int = 10_000) -> int:
        """Write an open invoice, and give its position."""
        self._last += 1
        self.list[self._last] = Listed(
            self._last, payment_hash, description, Settlement.OPEN, msat, 0, 0
        )
        return self._last

    def change(
        self, payment_hash: bytes, settlement: Settlement, received: int | None = None
    ) -> None:
        """Have an invoice paid, for what it asks unless it is told, held or cancelled."""
        old = self.find(payment_hash)
        paid = settlement in (Settlement.SETTLED, Settlement.UNDERPAID)
        msat = old.msat if received is None else received
        at = ISSUED + old.position if paid else 0
        self.list[old.position] = old._replace(
            settlement=settlement, received=msat if paid else 0, settled_at=at
        )

    def find(self, payment_hash: bytes) -> Listed:
        return next(each for each in self.list.values() if each.payment_hash == payment_hash)

    def look_up(self, payment_hash: bytes) -> Any:
        self.looked_up.append(payment_hash)
        known = {each.payment_hash: each.settlement for each in self.list.values()}
        return known.get(payment_hash, Settlement.GONE)

    def invoices(self, after: int) -> list[Listed]:
        self.asked.append(after)
        if self.breaks_at == len(self.asked):
            raise NodeUnreachable("no answer in time")
        behind = [each for each in self.list.values() if each.position > after]
        return behind[: self.page]

    def __repr__(self) -> str:
        return "the node"
