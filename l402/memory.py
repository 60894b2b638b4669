"""A bounded place in memory for rate limits, for one process.

The storage that `limits` brings grows with every key and sweeps all of them on a timer of 10 ms,
whose threads cost a paid request more than the limit itself.
"""

import time
from threading import Lock

from limits.storage import Storage

from l402.forks import in_child

SCHEME = "l402-memory"
_NONE = 0, 0.0


class BoundedMemoryStorage(Storage):
    """Fixed windows in a dict; when it is full, ended windows go first, then the oldest."""

    STORAGE_SCHEME = [SCHEME]

    def __init__(
        self, uri: str | None = None, *, size: int = 50_000, **options: float | str | bool
    ) -> None:
        super().__init__(uri, wrap_exceptions=False, **options)
        self._size = size
        self._begin()
        in_child(self._begin)

    def _begin(self) -> None:
        self._windows: dict[str, tuple[int, float]] = {}
        self._lock = Lock()

    @property
    def base_exceptions(self) -> type[Exception]:
        """What this storage may raise: nothing of its own."""
        return MemoryError

    def count(self, key: str, seconds: float, amount: int = 1) -> int:
        """Count in the window of `key`, which begins now if there is none, for `seconds`."""
        now = time.time()
        with self._lock:
            count, ends = self._windows.get(key, _NONE)
            if ends <= now:
                self._windows.pop(key, None)  # so that it counts as the newest
                count, ends = 0, now + seconds
                if len(self._windows) >= self._size:
                    self._make_room(now)
            count += amount
            self._windows[key] = count, ends
            return count

    def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        """Count as the strategies of `limits` ask for it, which wraps this."""
        return self.count(key, expiry, amount)

    def get(self, key: str) -> int:
        """Return the count in the window of `key`."""
        count, ends = self._windows.get(key, _NONE)
        return count if ends > time.time() else 0

    def get_expiry(self, key: str) -> float:
        """Return when the window of `key` ends, in unix seconds; now if there is none."""
        return max(time.time(), self._windows.get(key, _NONE)[1])

    def check(self) -> bool:
        """Tell that it works."""
        return True

    def reset(self) -> int:
        """Forget everything; return how many windows that were."""
        with self._lock:
            count = len(self._windows)
            self._windows.clear()
        return count

    def clear(self, key: str) -> None:
        """Forget the window of `key`."""
        with self._lock:
            self._windows.pop(key, None)

    def _make_room(self, now: float) -> None:
        live = [(key, window) for key, window in self._windows.items() if window[1] > now]
        self._windows = dict(live[-self._size * 9 // 10 :])
