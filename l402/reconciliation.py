"""Reconciliation: what arrived at the node, beside what was presented here.

The node's invoices are read in the order of their creation, since that is how nodes give them
out page by page. Invoices are not paid in that order: one that was open when it was listed may
settle later, and would not be seen again. So the bookmark in the record is never moved past an
invoice of ours that may still settle: each reading begins again before the first such one, and
what it meets twice is recorded once. An invoice is over a short while after ``L402_INVOICE_EXPIRY``
at the latest, so a reading repeats no more than was issued since then and since the last payment.

The bookmark stands at a paid invoice, whoever it belonged to: nodes may delete cancelled ones, and
the payment hash there tells whether it is still the same node that answers.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from l402.errors import NodeMismatch, NodeRefused
from l402.nodes.base import Listed, Settlement
from l402.nodes.desk import NodeDesk
from l402.protocol.keys import KeyRing
from l402.store.comparison import Presented
from l402.store.settlements import Bookmark, Settled, Settlements


@dataclass(frozen=True, slots=True)
class Reading:
    """How many invoices the node listed, and how many settlements of ours were new among them."""

    invoices: int
    new: int


class Reconciliation:
    """Reads a node's list of invoices into the record, and asks it about single ones."""

    def __init__(self, desk: NodeDesk, keys: KeyRing, settlements: Settlements) -> None:
        self.desk, self.keys, self.settlements = desk, keys, settlements
        self.network = desk.node.network

    def read(self, listed: Callable[[int], None], *, anew: bool = False) -> Reading:
        """Read from the bookmark, or `anew` from the first invoice, to the end.

        `listed` is told the number of invoices of each page. A page and the bookmark behind it
        are recorded together: whatever ends the reading, the next one goes on from there.

        :raises NodeRefused: the node cannot list its invoices
        :raises NodeMismatch: it is another node than the one that the bookmark was made at
        :raises NodeError: it gives no usable answer
        :raises StoreError: neither does the record
        """
        if not self.desk.node.can_list:
            raise NodeRefused(
                f"{self.desk.node!r} cannot list its invoices, so nothing can be compared with it"
            )
        if anew:
            self.settlements.forget(self.network)
        invoices = new = 0
        decided = True  # what becomes of each invoice of ours so far
        page = self.desk.invoices(self._begin())
        while page:
            handles = self._handles(page)
            read_to, decided = _read_to(page, handles, decided)
            settled = [self._settled(each, handles) for each in page if _counts(each, handles)]
            if settled or read_to:
                new += self.settlements.add(self.network, settled, read_to)
            invoices += len(page)
            listed(len(page))
            page = self.desk.invoices(page[-1].position)
        return Reading(invoices, new)

    def unsettled(self, presented: Iterator[Presented]) -> Iterator[tuple[Presented, Settlement]]:
        """Ask the node about each of these payments, and give those that did not wholly arrive.

        :raises NodeError: the node does not say
        """
        for payment in presented:
            state = self.desk.look_up(bytes.fromhex(payment.payment_hash))
            if state is not Settlement.SETTLED:
                yield payment, state

    def _begin(self) -> int:
        """Give the position of the bookmark, which is still the same invoice; 0 without one."""
        bookmark = self.settlements.bookmark(self.network)
        if bookmark is None:
            return 0
        found = self.desk.invoices(bookmark.position - 1)
        if not found or bookmark != _bookmark(found[0]):
            raise NodeMismatch(
                f"{self.desk.node!r} does not know the invoice up to which its list was read"
                f" (number {bookmark.position}): it is another node, or was restored from a backup;"
                " with --from-start all that it has is read"
            )
        return bookmark.position

    def _handles(self, page: Sequence[Listed]) -> dict[bytes, str]:
        """Give the handles of the invoices that are ours, by payment hash.

        Ours is what ends in a handle that one of our keys made, and what was presented here, be
        its key in the ring or not.
        """
        handles = {
            invoice.payment_hash: word
            for invoice in page
            if (word := invoice.description.rpartition(" ")[2]).startswith("l402:")
            and self.keys.recognise(word)
        }
        others = [i.payment_hash.hex() for i in page if i.settled and i.payment_hash not in handles]
        holders = self.settlements.holders(others) if others else {}
        for payment_hash, token_id in holders.items():
            handles[bytes.fromhex(payment_hash)] = self.keys.handle(bytes.fromhex(token_id))
        return handles

    def _settled(self, invoice: Listed, handles: dict[bytes, str]) -> Settled:
        return Settled(
            payment_hash=invoice.payment_hash.hex(),
            network=self.network,
            handle=handles[invoice.payment_hash],
            msat=invoice.msat,
            received=invoice.received,
            settled_at=datetime.fromtimestamp(invoice.settled_at, UTC),
        )


def _counts(invoice: Listed, handles: dict[bytes, str]) -> bool:
    return invoice.settled and invoice.payment_hash in handles


def _read_to(
    page: Sequence[Listed], handles: dict[bytes, str], decided: bool
) -> tuple[Bookmark | None, bool]:
    """Find the last paid invoice before the first of ours that may still settle."""
    bookmark = None
    for invoice in page if decided else ():
        if invoice.pending and invoice.payment_hash in handles:
            return bookmark, False
        if invoice.settled:
            bookmark = _bookmark(invoice)
    return bookmark, decided


def _bookmark(invoice: Listed) -> Bookmark:
    return Bookmark(invoice.position, invoice.payment_hash.hex())
