"""What a day brought: challenges handed out, payments presented, and their sum."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

from sqlalchemy import bindparam, func, select

from l402.store.clock import Moment, UtcDay
from l402.store.engine import LEISURE, Database
from l402.store.payments import GRANTED
from l402.store.tables import challenge_count, insertion, payment


@dataclass(frozen=True, slots=True)
class DayCount:
    """One service's UTC day: challenges (unpaid invoices), payments granted, and their msat."""

    day: date
    service: str
    challenges: int
    sales: int
    msat: int


_ADD = insertion(
    challenge_count,
    "day service endpoint challenges",
    "ON CONFLICT (day, service, endpoint) DO UPDATE"
    " SET challenges = l402_challenge_count.challenges + excluded.challenges",
)
_CHALLENGES = (
    select(
        challenge_count.c.day,
        challenge_count.c.service,
        func.sum(challenge_count.c.challenges).label("challenges"),
    )
    .where(challenge_count.c.day.between(bindparam("first"), bindparam("last")))
    .group_by(challenge_count.c.day, challenge_count.c.service)
)
_DAY = UtcDay(payment.c.presented_at).label("day")
_SALES = (
    select(_DAY, payment.c.service, func.count().label("sales"), func.sum(payment.c.msat))
    .where(
        payment.c.presented_at >= bindparam("start", type_=Moment()),
        payment.c.presented_at < bindparam("end", type_=Moment()),
        payment.c.status == GRANTED,
    )
    .group_by(_DAY, payment.c.service)
)


class Counts:
    """The figures of the days."""

    def __init__(self, db: Database) -> None:
        self.db = db

    def count_challenges(self, challenges: Mapping[tuple[date, str, str], int]) -> None:
        """Add to the counts, by UTC day, service and endpoint.

        As with `Credentials.count_uses`, a commit of unknown outcome may count twice.

        :raises StoreError: if they could not be written
        """
        # In one order everywhere, or two processes could wait for each other's rows.
        rows = [
            {"day": day, "service": service, "endpoint": endpoint, "challenges": n}
            for (day, service, endpoint), n in sorted(challenges.items())
        ]

        def write() -> None:
            with self.db.write() as connection:
                connection.execute(_ADD, rows)

        if rows:
            self.db.run(write)

    def stats(self, since: date, until: date) -> list[DayCount]:
        """Give the figures of each UTC day from `since` to `until`, both included, by service.

        A sale counts on the day of its first presentation, if it was granted then; a later
        revocation changes nothing in the book.

        :raises StoreError: if they could not be read
        """
        start, end = _midnight(since), _midnight(until + timedelta(days=1))
        with self.db.read(LEISURE) as connection:
            asked = connection.execute(_CHALLENGES, {"first": since, "last": until}).all()
            sold = connection.execute(_SALES, {"start": start, "end": end}).all()
        challenges = {(day, service): int(n) for day, service, n in asked}
        sales = {(day, service): (n, int(msat)) for day, service, n, msat in sold}
        return [
            DayCount(*key, challenges.get(key, 0), *sales.get(key, (0, 0)))
            for key in sorted(challenges.keys() | sales.keys())
        ]


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)
