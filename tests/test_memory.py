"""The bounded storage of rate limits."""

from limits import parse
from limits.storage import storage_from_string
from limits.strategies import FixedWindowRateLimiter

from l402.memory import BoundedMemoryStorage


def test_it_counts_windows_as_limits_asks() -> None:
    """A strategy of `limits` on it admits exactly the amount, and clears and resets."""
    storage = storage_from_string("l402-memory://")
    assert isinstance(storage, BoundedMemoryStorage)
    assert storage.check()
    limiter, rate = FixedWindowRateLimiter(storage), parse("2/hour")
    assert [limiter.hit(rate, "a") for _ in range(3)] == [True, True, False]
    assert limiter.get_window_stats(rate, "a").remaining == 0
    assert limiter.hit(rate, "b")
    limiter.clear(rate, "a")
    assert limiter.hit(rate, "a")
    assert storage.reset() == 2
    assert storage.get("a") == 0


def test_an_ended_window_begins_anew() -> None:
    """A window that is over counts from nought."""
    storage = BoundedMemoryStorage()
    assert storage.incr("a", 0) == 1
    assert storage.incr("a", 60) == 1
    assert storage.incr("a", 60) == 2
    assert storage.get("a") == 2


def test_a_flood_of_keys_stay_within_its_size() -> None:
    """Strangers cannot grow it; the newest windows stay."""
    storage = BoundedMemoryStorage(size=1000)
    for number in range(100_000):
        storage.incr(str(number), 3600)
    assert len(storage._windows) <= 1000
    assert storage.get("99999") == 1
