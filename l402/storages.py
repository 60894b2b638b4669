"""Where rate limits are counted: the only file that knows Flask-Limiter.

A Limiter that is initialised on the host puts hooks on every route of it. So ours lives on a
private app of its own, with the host's ``RATELIMIT_…`` configuration, and is asked directly. A
host's own Limiter can be handed in; then its storage and strategy are used. Where neither names
anything but fixed windows in memory, none is made.
"""

import math
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib import import_module
from threading import Lock
from typing import TYPE_CHECKING, Any, Protocol

from flask import Flask

from l402.memory import FixedWindows, Rate, Windows

if TYPE_CHECKING:
    from flask_limiter import Limiter
    from limits.strategies import RateLimiter

_STORAGE_KEYS = (
    "RATELIMIT_STORAGE_URI",
    "RATELIMIT_STORAGE_OPTIONS",
    "RATELIMIT_STRATEGY",
)
#: A paid request waits no longer than this for its limit, seconds.
_REDIS_TIMEOUTS = {"socket_timeout": 0.1, "socket_connect_timeout": 0.1}


class Counter(Protocol):
    """What counts, by the bucket; both methods return 0, or the seconds to wait, at least 1."""

    def count(self, bucket: Windows, /) -> int:
        """Count once, in each window up to the first that is full."""

    def wait(self, bucket: Windows, /) -> int:
        """Tell how long the next one would have to wait."""


class Strategy:
    """Counts with a strategy of `limits`, and so of Flask-Limiter."""

    def __init__(self, strategy: "RateLimiter") -> None:
        self.strategy = strategy
        # Strategies store what others cannot read, so each has keys of its own.
        self._prefix = f"l402/{type(strategy).__name__}"

    def count(self, bucket: Windows) -> int:
        """As `Counter.count`."""
        for window in bucket:
            if not self._ask(self.strategy.hit, window):
                return self._until_free(bucket, window)
        return 0

    def wait(self, bucket: Windows) -> int:
        """As `Counter.wait`."""
        shut = (window for window in bucket if not self._ask(self.strategy.test, window))
        return self._until_free(bucket, first) if (first := next(shut, None)) else 0

    def _until_free(self, bucket: Windows, full: tuple[str, Rate]) -> int:
        """Return the seconds until every window lets somebody in; `full` is one that does not."""
        ask, stats = self.strategy.test, self.strategy.get_window_stats
        shut = [window for window in bucket if window is full or not self._ask(ask, window)]
        reset: float = max(self._ask(stats, window).reset_time for window in shut)
        return max(1, math.ceil(reset - time.time()))

    def _ask(self, question: Callable[..., Any], window: tuple[str, Rate]) -> Any:
        key, rate = window
        return question(rate, f"{self._prefix}/{key}")


def knows_storage(uri: str) -> bool:
    """Tell whether a storage of this scheme exists; a wrong one would look like an outage."""
    from limits import storage  # only if one is named

    known: Mapping[str, object] = storage.SCHEMES  # type: ignore[attr-defined]
    return uri.partition("://")[0] in known


def shared_by(counter: Counter) -> str | None:
    """Name the storage that counts for several processes; None for this one's memory."""
    if not isinstance(counter, Strategy):
        return None
    from limits.storage import MemoryStorage

    storage = counter.strategy.storage
    return None if isinstance(storage, MemoryStorage) else type(storage).__name__


def host_limiter(limiter: "Limiter") -> Callable[[], Counter]:
    """Return how to reach the counter of a host's Limiter, which may be initialised later."""
    return lambda: Strategy(limiter.limiter)


def private_limiter(config: Mapping[str, Any], storage_uri: str | None) -> Callable[[], Counter]:
    """Return how to reach a counter of our own, made at first use with the host's settings."""
    made: list[Counter] = []
    making = Lock()

    def reach() -> Counter:
        if not made:
            # One at a time: the storage imports its driver, and takes half an import for a fault.
            with making:
                if not made:
                    made.append(_make(config, storage_uri))
        return made[0]

    return reach


def _make(config: Mapping[str, Any], storage_uri: str | None) -> Counter:
    uri = storage_uri or config.get("RATELIMIT_STORAGE_URI")
    if not uri and config.get("RATELIMIT_STRATEGY", "fixed-window") == "fixed-window":
        return FixedWindows()
    from flask_limiter import Limiter  # only for what our own windows cannot do

    app = Flask("l402.limits")
    app.config.update({key: config[key] for key in _STORAGE_KEYS if key in config})
    app.config["RATELIMIT_STORAGE_URI"] = uri = uri or "memory://"
    if uri.startswith(("redis", "valkey")):
        given = app.config.get("RATELIMIT_STORAGE_OPTIONS") or {}
        app.config["RATELIMIT_STORAGE_OPTIONS"] = _redis_options(uri) | given
    return Strategy(Limiter(key_func=str, app=app).limiter)


def _redis_options(uri: str) -> dict[str, Any]:
    """Return what keeps a Redis that fails from holding up whoever paid."""
    scheme = uri.partition("://")[0]
    if not scheme.endswith("+cluster"):
        return _REDIS_TIMEOUTS
    driver = scheme.partition("+")[0]
    with suppress(ImportError):  # the storage says what is missing
        backoff, retry = (import_module(f"{driver}.{name}") for name in ("backoff", "retry"))
        # A cluster's client tries four times, a quarter of a second apart, within one request.
        return _REDIS_TIMEOUTS | {"retry": retry.Retry(backoff.NoBackoff(), 0)}
    return _REDIS_TIMEOUTS
