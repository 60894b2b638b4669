"""What a day brought: challenges handed out, payments presented, and calls drawn on balances."""

from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, time, timedelta
from itertools import chain
from operator import add
from typing import Any, NamedTuple

from sqlalchemy import Row, Select, bindparam, func, select

from l402.store.clock import Moment, UtcDay
from l402.store.closings import ENTRY, PAYMENT, SOLD
from l402.store.engine import LEISURE, Database
from l402.store.ledger import USE
from l402.store.payments import GRANTED
from l402.store.tables import challenge_count, closing, entry, payment


class DayCount(NamedTuple):
    """One service's UTC day, or one endpoint's; money in msat.

    `challenges` are unpaid invoices, `sales` payments granted and `msat` their sum; `uses` are
    calls that were charged to a balance and `used_msat` what they took off it. `endpoint` is None
    where a service's endpoints are counted together.
    """

    day: date
    service: str
    challenges: int
    sales: int
    msat: int
    uses: int = 0
    used_msat: int = 0
    endpoint: str | None = None


_START, _END = bindparam("start", type_=Moment()), bindparam("end", type_=Moment())


def _challenges(*by: str) -> Select[Any]:
    columns = [challenge_count.c.day, *(challenge_count.c[name] for name in by)]
    days = challenge_count.c.day.between(bindparam("first"), bindparam("last"))
    return select(*columns, func.sum(challenge_count.c.challenges)).where(days).group_by(*columns)


def _sales(*by: str) -> Select[Any]:
    at, columns = payment.c.presented_at, [payment.c[name] for name in by]
    day = UtcDay(at).label("day")
    sums = select(day, *columns, func.count(), func.sum(payment.c.msat))
    days = sums.where(at >= _START, at < _END, payment.c.status == GRANTED)
    return days.group_by(day, *columns)


def _uses(*by: str) -> Select[Any]:
    columns = [entry.c[name] for name in by]
    day = UtcDay(entry.c.at).label("day")
    sums = select(day, *columns, func.count(), func.sum(entry.c.msat))
    days = sums.where(entry.c.at >= _START, entry.c.at < _END, entry.c.kind == USE)
    return days.group_by(day, *columns)


def _closed(book: str, kinds: Sequence[str], *by: str) -> Select[Any]:
    """What was purged of the days."""
    columns = [closing.c.day, *(closing.c[name] for name in by)]
    sums = select(*columns, func.sum(closing.c.number), func.sum(closing.c.msat))
    days = closing.c.day.between(bindparam("first"), bindparam("last"))
    return sums.where(days, closing.c.book == book, closing.c.kind.in_(kinds)).group_by(*columns)


#: Challenges, sales and uses, what was purged of these two behind them: by service, and by service
#: and endpoint.
_FIGURES = {
    by: (
        [_challenges(*by)],
        [_sales(*by), _closed(PAYMENT, SOLD, *by)],
        [_uses(*by), _closed(ENTRY, [USE], *by)],
    )
    for by in (("service",), ("service", "endpoint"))
}


class Days:
    """The figures of the days; people ask for them, requests only write what is counted there."""

    def __init__(self, db: Database) -> None:
        self.db = db

    def stats(self, since: date, until: date, *, by_endpoint: bool = False) -> list[DayCount]:
        """Give the figures of each UTC day from `since` to `until`, both included, by service.

        `by_endpoint` counts each endpoint of a service for itself, a sale for the one whose
        challenge was paid. A sale counts on the day of its first presentation, if it was granted
        then, and a use on the day on which it was charged; a later revocation changes nothing in
        the book.

        :raises StoreError: if they could not be read
        """
        period = {
            "first": since,
            "last": until,
            "start": _midnight(since),
            "end": _midnight(until + timedelta(days=1)),
        }
        by = ("service", "endpoint") if by_endpoint else ("service",)
        with self.db.read(LEISURE) as connection:
            asked, sold, used = (
                _keyed(
                    chain.from_iterable(connection.execute(each, period) for each in figures),
                    1 + len(by),
                )
                for figures in _FIGURES[by]
            )
        none = (0, 0)
        return [
            _day_count(key, asked.get(key, none), sold.get(key, none), used.get(key, none))
            for key in sorted(asked.keys() | sold.keys() | used.keys())
        ]


def _keyed(rows: Iterable[Row[Any]], width: int) -> dict[tuple[Any, ...], tuple[int, ...]]:
    """Take rows apart: day, service and perhaps endpoint, and the figures, which add up."""
    sums: dict[tuple[Any, ...], tuple[int, ...]] = {}
    for row in rows:
        figures = tuple(map(int, row[width:]))
        before = sums.get(tuple(row[:width]), (0,) * len(figures))
        sums[tuple(row[:width])] = tuple(map(add, before, figures))
    return sums


def _day_count(
    key: tuple[Any, ...], asked: Sequence[int], sold: Sequence[int], used: Sequence[int]
) -> DayCount:
    day, service, *endpoint = key
    return DayCount(
        day=day,
        service=service,
        challenges=asked[0],
        sales=sold[0],
        msat=sold[1],
        uses=used[0],
        used_msat=used[1],
        endpoint=endpoint[0] if endpoint else None,
    )


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)
