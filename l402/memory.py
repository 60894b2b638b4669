"""Rate limits in memory, for one process: what most apps count in.

So they load neither Flask-Limiter nor `limits`, whose storage in memory grows with every key and
sweeps all of them on a timer of 10 ms: its threads cost a paid request more than the limit itself.
"""

import math
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
        """Return the key of a window by its one name, which is its key."""
        return identifiers[0]


#: What is counted together, in a window for each of these, the shortest first.
Rates = tuple[Rate, ...]
#: A bucket's windows, each with its key.
Windows = tuple[tuple[str, Rate], ...]


def windows(rates: Rates, name: str) -> Windows:
    """Return the windows of the bucket of that name."""
    return tuple((f"{name}/{rate.amount}/{rate.seconds}", rate) for rate in rates)


class FixedWindows:
    """Counts in a dict of windows, each of which begins with its first hit.

    When it is full, ended windows go first, then the oldest.
    """

    def __init__(self, size: int = 50_000) -> None:
        self._size = size
        self._begin()
        in_child(self._begin)

    def _begin(self) -> None:
        self._windows: dict[str, tuple[int, float]] = {}
        self._lock = Lock()

    def count(self, bucket: Windows) -> int:
        """Count once; return 0, or the seconds to wait, at least 1, if a window is full.

        The shortest window is first, and behind one that is full nothing is counted.
        """
        now = time.time()
        with self._lock:
            for key, rate in bucket:
                count, ends = self._windows.get(key, _NONE)
                if ends <= now:
                    self._windows.pop(key, None)  # so that it counts as the newest
                    count, ends = 0, now + rate.seconds
                    if len(self._windows) >= self._size:
                        self._make_room(now)
                if count >= rate.amount:
                    break
                self._windows[key] = count + 1, ends
            else:
                return 0
        return self.wait(bucket) or 1  # it may have ended just now

    def wait(self, bucket: Windows) -> int:
        """Return 0 if the next one would be let in, or else the seconds to wait, at least 1."""
        found = [(self._windows.get(key, _NONE), rate) for key, rate in bucket]
        now = time.time()
        full = [ends for (count, ends), rate in found if count >= rate.amount and ends > now]
        return max(1, math.ceil(max(full) - now)) if full else 0

    def _make_room(self, now: float) -> None:
        live = [(key, window) for key, window in self._windows.items() if window[1] > now]
        self._windows = dict(live[-self._size * 9 // 10 :])
