"""The figures of the days."""

from datetime import UTC, date, datetime, timedelta, timezone

from support import sales
from support.sales import ISSUED, payment_hash

from l402.store import Store
from l402.store.counts import DayCount

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
    assert store.counts.stats(FIRST, SECOND) == [
        DayCount(FIRST, "quotes", 10, 0, 0),
        DayCount(SECOND, "other", 1, 0, 0),
    ]


def test_sales(store: Store) -> None:
    """Sales count on the UTC day of their first presentation, up to its last microsecond."""
    store.payments.admit(sale(1, msat=1), MIDNIGHT - TICK)
    store.payments.admit(sale(2, msat=10), MIDNIGHT)
    store.payments.admit(sale(3, msat=100, service="other"), MIDNIGHT)
    store.payments.admit(sale(4, msat=1000), MIDNIGHT.astimezone(timezone(timedelta(hours=-8))))
    assert store.counts.stats(FIRST, SECOND) == [
        DayCount(FIRST, "quotes", 0, 1, 1),
        DayCount(SECOND, "other", 0, 1, 100),
        DayCount(SECOND, "quotes", 0, 2, 1010),
    ]
    assert store.counts.stats(FIRST, FIRST) == [DayCount(FIRST, "quotes", 0, 1, 1)]
    assert store.counts.stats(SECOND + timedelta(days=1), SECOND + timedelta(days=9)) == []


def test_what_is_no_sale(store: Store) -> None:
    """Late and revoked payments are no sales; one revoked afterwards stays in the book."""
    store.revocations.revoke("payment", payment_hash(1).hex())
    store.payments.admit(sale(1), MIDNIGHT)
    store.payments.admit(sale(2, valid_until=int(MIDNIGHT.timestamp())), MIDNIGHT)
    store.payments.admit(sale(3), MIDNIGHT)
    store.revocations.revoke("payment", payment_hash(3).hex())
    store.counts.count_challenges({(SECOND, "quotes", "quote"): 4})
    assert store.counts.stats(SECOND, SECOND) == [DayCount(SECOND, "quotes", 4, 1, 10_000)]


def test_large_sums(store: Store) -> None:
    """Sums of money are exact whole numbers, however large."""
    for number in range(4):
        store.payments.admit(sale(number, msat=2**60 + 1), MIDNIGHT)
    assert store.counts.stats(SECOND, SECOND)[0].msat == 2**62 + 4
