"""Rate limits that are counted in memory."""

from limits import parse
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter

from l402.memory import FixedWindows, Rate


def test_it_counts_as_limits_does() -> None:
    """It admits exactly the amount, by bucket and rate, as the strategy of `limits` would."""
    theirs = FixedWindowRateLimiter(MemoryStorage())
    for counter, rate in ((FixedWindows(), Rate(2, 3600)), (theirs, parse("2/hour"))):
        assert counter.test(rate, "a")
        assert [counter.hit(rate, "a") for _ in range(3)] == [True, True, False]
        assert not counter.test(rate, "a")
        assert counter.hit(rate, "b")


def test_limits_counts_by_our_rates() -> None:
    """A strategy of `limits` takes our rates for its own, each with a window of its own."""
    theirs = FixedWindowRateLimiter(MemoryStorage())
    assert [theirs.hit(Rate(1, 3600), "a") for _ in range(2)] == [True, False]
    assert theirs.hit(Rate(1, 60), "a")


def test_an_ended_window_begins_anew() -> None:
    """A window that is over counts from nought, and ends now."""
    counter, over = FixedWindows(), Rate(1, 0)
    assert counter.hit(over, "a")
    assert counter.test(over, "a")
    assert counter.hit(over, "a")
    assert [counter.count("b", seconds) for seconds in (0, 60, 60)] == [1, 1, 2]


def test_a_flood_of_keys_stays_within_its_size() -> None:
    """Strangers cannot grow it; the newest windows stay."""
    counter = FixedWindows(size=1000)
    for number in range(100_000):
        counter.count(str(number), 3600)
    assert len(counter._windows) <= 1000
    assert counter.count("99999", 3600) == 2
