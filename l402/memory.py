"""Rate limits in memory, for one process: what most apps count in.

So they load neither Flask-Limiter nor `limits`, whose storage in memory grows with every key and
sweeps all of them on a timer of 10 ms: its threads cost a paid request more than the limit itself.
"""

import time
from threading import Lock
from typing import NamedTuple

from l402.forks import in_child

_NONE = 0, 0.0


class Rate(NamedTuple):
    """So many requests in so many seconds; the strategies of `limits` take it for theirs."""

    amount: int
    seconds: int

    def get_expiry(self) -> int:
        """Return the window's length in seconds."""
        return self.seconds

    def key_for(self, *identifiers: str) -> str:
        """Return the key of a bucket by its one name."""
        return f"{identifiers[0]}/{self.amount}/{self.seconds}"


class Window(NamedTuple):
    """When a window ends, in unix seconds; now if there is none."""

    reset_time: float


class FixedWindows:
    """Counts as a strategy of `limits` does, in a dict of windows that begin with their first hit.

    When it is full, ended windows go first, then the oldest.
    """

    def __init__(self, size: int = 50_000) -> None:
        self._size = size
        self._begin()
        in_child(self._begin)

    def _begin(self) -> None:
        self._windows: dict[str, tuple[int, float]] = {}
        self._lock = Lock()

    def hit(self, rate: Rate, name: str) -> bool:
        """Count in a bucket's window, and tell whether that was within the rate."""
        return self.count(rate.key_for(name), rate.seconds) <= rate.amount

    def test(self, rate: Rate, name: str) -> bool:
        """Tell whether the next one would be within the rate."""
        count, ends = self._windows.get(rate.key_for(name), _NONE)
        return ends <= time.time() or count < rate.amount

    def get_window_stats(self, rate: Rate, name: str) -> Window:
        """Return when a bucket's window ends."""
        _, ends = self._windows.get(rate.key_for(name), _NONE)
        return Window(max(time.time(), ends))

    def count(self, key: str, seconds: float) -> int:
        """Count in the window of `key`, which begins now if there is none, for `seconds`."""
        now = time.time()
        with self._lock:
            count, ends = self._windows.get(key, _NONE)
            if ends <= now:
                self._windows.pop(key, None)  # so that it counts as the newest
                count, ends = 0, now + seconds
                if len(self._windows) >= self._size:
                    self._make_room(now)
            count += 1
            self._windows[key] = count, ends
            return count

    def _make_room(self, now: float) -> None:
        live = [(key, window) for key, window in self._windows.items() if window[1] > now]
        self._windows = dict(live[-self._size * 9 // 10 :])
