"""Closings: what was purged, as sums by day, so that every figure stays what it was.

A sum is taken of the very rows that were deleted, in the transaction that deletes them. The
database lets nobody else write closings, nor anybody delete one.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, bindparam, func, select

from l402.store.ledger import EFFECTS, PURCHASE
from l402.store.payments import CREDIT, GRANTED, PASS
from l402.store.tables import Key, closing, credit, insertion
from l402.store.totals import KINDS, Totals

ENTRY, PAYMENT, BALANCE, SETTLEMENT = "entry", "payment", "balance", "settlement"
#: Of the book of settlements: payments that the node's list had, and those that it had not.
READ, UNREAD = "read", "unread"
#: The kinds, in the book of payments, of those that were granted.
SOLD = tuple(f"{kind} {GRANTED}" for kind in (PASS, CREDIT))

_BOUGHT = f"{CREDIT} {GRANTED}"
_KEYS = ("day", "book", "kind", "service", "endpoint", "network")
_ADD = insertion(
    closing,
    " ".join(closing.c.keys()),
    f"ON CONFLICT ({', '.join(_KEYS)}) DO UPDATE"
    " SET number = l402_closing.number + excluded.number, msat = l402_closing.msat + excluded.msat",
)


class Line(NamedTuple):
    """What is summed up together; what a book does not know is empty."""

    day: date
    book: str
    kind: str
    service: str = ""
    endpoint: str = ""
    network: str = ""


@dataclass
class Closings:
    """Sums that are being taken; amounts in msat."""

    _sums: dict[Line, tuple[int, int]] = field(default_factory=dict)

    def add(self, line: Line, msat: int = 0) -> None:
        """Count one row."""
        number, sum_ = self._sums.get(line, (0, 0))
        self._sums[line] = number + 1, sum_ + msat

    def write(self, connection: Connection) -> None:
        """Add the sums to what was closed before."""
        # In one order everywhere, or two purges could wait for each other's rows.
        rows = [
            {**line._asdict(), "number": number, "msat": msat}
            for line, (number, msat) in sorted(self._sums.items())
        ]
        if rows:
            connection.execute(_ADD, rows)


_BOOKS = select(
    closing.c.book,
    closing.c.kind,
    closing.c.service,
    func.sum(closing.c.number).label("number"),
    func.sum(closing.c.msat).label("msat"),
).group_by(closing.c.book, closing.c.kind, closing.c.service)
_CARRIED = (
    select(credit.c.service, func.sum(credit.c.carried).label("msat"))
    .where(credit.c.carried != 0)
    .group_by(credit.c.service)
)
_NODE = (
    select(
        closing.c.kind,
        func.sum(closing.c.number).label("number"),
        func.sum(closing.c.msat).label("msat"),
    )
    .where(closing.c.network == bindparam("network", type_=Key))
    .group_by(closing.c.kind)
)


class Imbalance(NamedTuple):
    """Two sums of a service that must be equal, and are not; in msat, or a number of rows."""

    service: str
    what: str
    expected: int
    found: int


class Closed:
    """All that was ever closed, read from one moment of the record."""

    def __init__(self, connection: Connection) -> None:
        self._books = connection.execute(_BOOKS).all()
        self._carried = {row.service: int(row.msat) for row in connection.execute(_CARRIED)}

    def totals(self) -> Totals:
        """Give what the purged balances and entries came to."""
        figures: dict[str, int] = {}
        for row in self._books:
            if row.book == ENTRY:
                figures["entries"] = figures.get("entries", 0) + int(row.number)
                if name := KINDS.get(row.kind):
                    figures[name] = figures.get(name, 0) + int(row.msat)
            elif row.book == BALANCE:
                figures["accounts"] = figures.get("accounts", 0) + int(row.number)
        return Totals(**figures)

    def imbalances(self) -> Iterator[Imbalance]:
        """Name what does not agree with itself, service by service.

        What was added and taken off is what the accounts that are left began with, and each
        purchase was paid by a payment that went with it.
        """
        services = {row.service for row in self._books} | self._carried.keys()
        for service in sorted(services):
            own = [row for row in self._books if row.service == service]
            entries = [row for row in own if row.book == ENTRY]
            left = sum(EFFECTS.get(row.kind, 0) * int(row.msat) for row in entries)
            bought = [row for row in own if (row.book, row.kind) == (ENTRY, PURCHASE)]
            paid = [row for row in own if (row.book, row.kind) == (PAYMENT, _BOUGHT)]
            pairs = {
                "carried from what was purged": (left, self._carried.get(service, 0)),
                "payments of credit that were purged": (_sum(bought, "msat"), _sum(paid, "msat")),
                "number of these": (_sum(bought, "number"), _sum(paid, "number")),
            }
            for what, (expected, found) in pairs.items():
                if expected != found:
                    yield Imbalance(service, what, expected, found)


class AtNode(NamedTuple):
    """Of a network's purged payments: those that the node's list had, all, and the others.

    `received` is what arrived for what was `read`, the other amounts what was sold; in msat.
    """

    read: int
    received: int
    recorded: int
    recorded_msat: int
    unread: int
    unread_msat: int


def at_node(connection: Connection, network: str) -> AtNode:
    """Give the sums of what was purged, as a reconciliation needs them."""
    rows = connection.execute(_NODE, {"network": network}).all()
    sums = {row.kind: (int(row.number), int(row.msat)) for row in rows}
    read, unread = sums.pop(READ, (0, 0)), sums.pop(UNREAD, (0, 0))
    numbers, amounts = zip(*sums.values(), strict=True) if sums else ((0,), (0,))
    return AtNode(*read, sum(numbers), sum(amounts), *unread)


def _sum(rows: Iterable[Row[*tuple[Any, ...]]], name: str) -> int:
    return sum(int(row._mapping[name]) for row in rows)
