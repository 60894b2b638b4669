"""What the node says was paid, beside what was presented: the sums, and where the two differ."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, Text, bindparam, exists, func, not_, select

from l402.store import closings
from l402.store.closings import AtNode
from l402.store.engine import LEISURE, Database
from l402.store.settlements import Settled
from l402.store.tables import Key, payment, settlement

_PAGE = 500  # payments


@dataclass(frozen=True, slots=True)
class Presented:
    """A payment on record; the fields are those of `l402.store.models.Payment`."""

    payment_hash: str
    token_id: str
    msat: int
    presented_at: datetime


@dataclass(frozen=True, slots=True)
class AmountDifference:
    """An invoice for which more or less arrived than was sold for it, both in msat.

    `expected` is what is on record, or what the invoice asked for if it was never presented.
    """

    payment_hash: str
    handle: str
    expected: int
    received: int


@dataclass(frozen=True, slots=True)
class Sum:
    """How many invoices, and how many msat."""

    count: int
    msat: int


@dataclass(frozen=True, slots=True)
class Sums:
    """The two sides, on one network.

    What is `settled` at the node is `presented` or `unused`, each by what arrived; what is
    `recorded` here is presented too or not among the settlements (`unread`), by what was sold.
    """

    settled: Sum
    presented: Sum
    unused: Sum
    recorded: Sum
    unread: Sum


_ON = bindparam("network", type_=Text)
_HERE = settlement.c.network == _ON
_SETTLED = payment.c.payment_hash == settlement.c.payment_hash
_BOTH = settlement.outerjoin(payment, _SETTLED)
_KNOWN = payment.c.payment_hash.is_not(None)
_EXPECTED = func.coalesce(payment.c.msat, settlement.c.msat).label("expected")
_UNREAD = not_(exists().where(_SETTLED))


def _sum(msat: Any, of: Any) -> tuple[Any, Any]:
    return func.count().filter(of), func.coalesce(func.sum(msat).filter(of), 0)


_SUMS_AT_NODE = (
    select(*_sum(settlement.c.received, _KNOWN), *_sum(settlement.c.received, not_(_KNOWN)))
    .select_from(_BOTH)
    .where(_HERE)
)
_SUMS_HERE = select(
    *_sum(payment.c.msat, not_(_UNREAD)),
    *_sum(payment.c.msat, _UNREAD),
).where(payment.c.network == _ON)
_UNUSED = (
    select(settlement)
    .select_from(_BOTH)
    .where(_HERE, not_(_KNOWN))
    .order_by(settlement.c.settled_at, settlement.c.payment_hash)
)
_DIFFERENCES = (
    select(settlement.c.payment_hash, settlement.c.handle, _EXPECTED, settlement.c.received)
    .select_from(_BOTH)
    .where(_HERE, settlement.c.received != _EXPECTED)
    .order_by(settlement.c.settled_at, settlement.c.payment_hash)
)
_UNREAD_PAGE = (
    select(payment.c.payment_hash, payment.c.token_id, payment.c.msat, payment.c.presented_at)
    .where(
        payment.c.network == _ON,
        payment.c.payment_hash > bindparam("after", type_=Key),
        _UNREAD,
    )
    .order_by(payment.c.payment_hash)
    .limit(_PAGE)
)


class Comparison:
    """Compares the settlements with the payments of one network; changes nothing."""

    def __init__(self, db: Database, network: str) -> None:
        self.db = db
        self.network = network

    def unread(self) -> Iterator[Presented]:
        """Give the payments on record that are not among the settlements, page by page.

        No transaction is open meanwhile: the node may be asked of each.

        :raises StoreError: if they could not be read
        """
        after = ""
        while True:
            with self.db.read(LEISURE) as connection:
                page = connection.execute(_UNREAD_PAGE, self._at(after=after)).all()
            yield from (Presented(*row) for row in page)
            if len(page) < _PAGE:
                return
            after = page[-1].payment_hash

    def run(
        self, unused: Callable[[Settled], None], differs: Callable[[AmountDifference], None]
    ) -> Sums:
        """Call `unused` with each paid invoice that was never presented, `differs` with odd ones.

        All from one moment of the record; a thousand rows at most are in memory at a time.

        :raises StoreError: if they could not be read
        """
        with self.db.snapshot() as connection:
            at_node = connection.execute(_SUMS_AT_NODE, self._at()).one()
            here = connection.execute(_SUMS_HERE, self._at()).one()
            for row in connection.execute(_UNUSED, self._at()):
                unused(Settled(**row._mapping))
            for row in connection.execute(_DIFFERENCES, self._at()):
                differs(AmountDifference(**row._mapping))
            purged = closings.at_node(connection, self.network)
        return _sums(at_node, here, purged)

    def _at(self, **more: str) -> dict[str, str]:
        return {"network": self.network, **more}


def _sums(at_node: Row[Any], here: Row[Any], purged: AtNode) -> Sums:
    presented, presented_msat, unused, unused_msat = map(int, at_node)
    read, read_msat, unread, unread_msat = map(int, here)
    presented, presented_msat = presented + purged.read, presented_msat + purged.received
    recorded = read + unread + purged.recorded, read_msat + unread_msat + purged.recorded_msat
    return Sums(
        settled=Sum(presented + unused, presented_msat + unused_msat),
        presented=Sum(presented, presented_msat),
        unused=Sum(unused, unused_msat),
        recorded=Sum(*recorded),
        unread=Sum(unread + purged.unread, unread_msat + purged.unread_msat),
    )
