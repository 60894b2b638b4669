"""The figures of the days."""

import re
from datetime import UTC, date, datetime, timedelta, timezone
from itertools import chain

from support import sales
from support.books import buy, plan, reserve, use
from support.sales import ISSUED, payment_hash

from l402.store import Store
from l402.store.days import _FIGURES, DayCount

pytest_plugins = ["support.databases"]

FIRST, SECOND = date(2030, 3, 17), date(2030, 3, 18)
MIDNIGHT = datetime(2030, 3, 18, tzinfo=UTC)
TICK = timedelta(microseconds=1)
DAYS = ISSUED + 10**6  # so that nothing is late


def sale(number: int, valid_until: int = DAYS, **changes):
    return sales.sale(number, valid_until=valid_until, **changes)


def test_challenges(store: Store) -> None:
    """Counts of challenges add up by day, service and endpoint, and are summed by service."""
    add = store.counts.count_challenges
    add({})
    add({(FIRST, "quotes", "quote"): 2, (FIRST, "quotes", "fact"): 3, (SECOND, "other", "x"): 1})
    add({(FIRST, "quotes", "quote"): 5})
    assert store.days.stats(FIRST, SECOND) == [
        DayCount(FIRST, "quotes", 10, 0, 0),
        DayCount(SECOND, "other", 1, 0, 0),
    ]


def test_sales(store: Store) -> None:
    """Sales count on the UTC day of their first presentation, up to its last microsecond."""
    store.payments.admit(sale(1, msat=1), MIDNIGHT - TICK)
    store.payments.admit(sale(2, msat=10), MIDNIGHT)
    store.payments.admit(sale(3, msat=100, service="other"), MIDNIGHT)
    store.payments.admit(sale(4, msat=1000), MIDNIGHT.astimezone(timezone(timedelta(hours=-8))))
    assert store.days.stats(FIRST, SECOND) == [
        DayCount(FIRST, "quotes", 0, 1, 1),
        DayCount(SECOND, "other", 0, 1, 100),
        DayCount(SECOND, "quotes", 0, 2, 1010),
    ]
    assert store.days.stats(FIRST, FIRST) == [DayCount(FIRST, "quotes", 0, 1, 1)]
    assert store.days.stats(SECOND + timedelta(days=1), SECOND + timedelta(days=9)) == []


def test_what_is_no_sale(store: Store) -> None:
    """Late and revoked payments are no sales; one revoked afterwards stays in the book."""
    store.revocations.revoke("payment", payment_hash(1).hex())
    store.payments.admit(sale(1), MIDNIGHT)
    store.payments.admit(sale(2, valid_until=int(MIDNIGHT.timestamp())), MIDNIGHT)
    store.payments.admit(sale(3), MIDNIGHT)
    store.revocations.revoke("payment", payment_hash(3).hex())
    store.counts.count_challenges({(SECOND, "quotes", "quote"): 4})
    assert store.days.stats(SECOND, SECOND) == [DayCount(SECOND, "quotes", 4, 1, 10_000)]


def test_large_sums(store: Store) -> None:
    """Sums of money are exact whole numbers, however large."""
    for number in range(4):
        store.payments.admit(sale(number, msat=2**60 + 1), MIDNIGHT)
    assert store.days.stats(SECOND, SECOND)[0].msat == 2**62 + 4


# --- uses of credit


def today(store: Store) -> date:
    """The day of the first entry, by the database's own clock."""
    return next(store.ledger.entries()).at.date()


def test_uses(store: Store) -> None:
    """What is charged counts on its day; what is reserved, given back or paid does not."""
    buy(store, 1, now=MIDNIGHT, valid_until=DAYS, ends_at=DAYS)
    use(store, 1, 2_000, now=MIDNIGHT)
    use(store, 1, 3_000, now=MIDNIGHT, endpoint="fact")
    store.uses.release(reserve(store, 1, 1_000, now=MIDNIGHT))
    reserve(store, 1, 1_000, now=MIDNIGHT)
    day = today(store)
    assert store.days.stats(day, day) == [DayCount(day, "quotes", 0, 0, 0, 2, 5_000)]
    assert store.days.stats(day + timedelta(days=1), day + timedelta(days=1)) == []
    assert store.days.stats(SECOND, SECOND) == [DayCount(SECOND, "quotes", 0, 1, 10_000)]


def test_by_endpoint(store: Store) -> None:
    """Challenges, sales and uses can be told apart by endpoint."""
    buy(store, 1, now=MIDNIGHT, valid_until=DAYS, ends_at=DAYS)
    store.payments.admit(sale(2, endpoint="fact", msat=7), MIDNIGHT)
    use(store, 1, 2_000, now=MIDNIGHT)
    use(store, 1, 3_000, now=MIDNIGHT, endpoint="fact")
    store.counts.count_challenges({(SECOND, "quotes", "fact"): 4})
    day = today(store)
    assert store.days.stats(day, day, by_endpoint=True) == [
        DayCount(day, "quotes", 0, 0, 0, 1, 3_000, "fact"),
        DayCount(day, "quotes", 0, 0, 0, 1, 2_000, "quote"),
    ]
    assert store.days.stats(SECOND, SECOND, by_endpoint=True) == [
        DayCount(SECOND, "quotes", 4, 1, 7, endpoint="fact"),
        DayCount(SECOND, "quotes", 0, 1, 10_000, endpoint="quote"),
    ]


def test_days_are_found_by_indexes(store: Store) -> None:
    """The figures of a day cost that day's rows, not the whole record's."""
    period = {
        "first": FIRST, "last": FIRST, "start": MIDNIGHT, "end": MIDNIGHT + timedelta(days=1),
    }  # fmt: skip
    for figures in _FIGURES.values():
        plans = [plan(store, each.params(period)) for each in chain.from_iterable(figures)]
        names = ("l402_challenge_count", "presented_at", "l402_closing", "at", "l402_closing")
        for found, index in zip(plans, names, strict=True):
            assert re.search(rf"(?i)index.*{index}", found), found
            assert not re.search("(?i)seq scan|SCAN l402|SCAN TABLE", found), found
