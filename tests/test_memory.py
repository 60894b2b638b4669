"""Rate limits that are counted in memory."""

import time
from threading import Thread
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter

from l402.memory import FixedWindows, Rate, windows
from l402.storages import Strategy

HOUR, DAY = 3600, 86400


@settings(deadline=None, max_examples=200)
@given(
    amounts=st.tuples(st.integers(1, 4), st.integers(1, 6)),
    asked=st.lists(st.tuples(st.sampled_from("ab"), st.booleans()), max_size=20),
)
def test_it_counts_as_limits_does(amounts, asked) -> None:
    """Whoever counts or only asks, in any order, is told the same by a strategy of `limits`."""
    ours, theirs = FixedWindows(), Strategy(FixedWindowRateLimiter(MemoryStorage()))
    rates = (Rate(amounts[0], HOUR), Rate(amounts[1], DAY))
    for name, counts in asked:
        bucket = windows(rates, name)
        found, expected = (
            counter.count(bucket) if counts else counter.wait(bucket) for counter in (ours, theirs)
        )
        assert bool(found) == bool(expected)
        assert abs(found - expected) <= 60


class GivingWay(dict[str, tuple[int, float]]):
    """Lets another thread go on between the look at a window and what is made of it."""

    def get(self, *asked: Any) -> Any:
        found = super().get(*asked)
        time.sleep(0)
        return found


def test_a_bucket_lets_in_exactly_its_amount() -> None:
    """Threads that count at once take no more together, and none is turned away too soon."""
    counter, bucket = FixedWindows(), windows((Rate(500, HOUR), Rate(600, DAY)), "a")
    counter._windows = GivingWay()
    let_in: list[int] = []

    def count() -> None:
        let_in.extend(1 for _ in range(400) if not counter.count(bucket))

    threads = [Thread(target=count) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(let_in) == 500


def test_an_ended_window_begins_anew() -> None:
    """A window that is over counts from nought, and keeps nobody waiting."""
    counter, over = FixedWindows(), windows((Rate(1, 0),), "a")
    assert [counter.count(over), counter.wait(over), counter.count(over)] == [0, 0, 0]


def test_a_flood_of_keys_stays_within_its_size() -> None:
    """Strangers cannot grow it; the newest windows stay."""
    counter, rates = FixedWindows(size=1000), (Rate(1, HOUR),)
    for number in range(100_000):
        counter.count(windows(rates, str(number)))
    assert len(counter._windows) <= 1000
    assert counter.count(windows(rates, "99999")) > 0
