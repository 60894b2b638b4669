"""Rate limits: the only file that knows Flask-Limiter.

A Limiter that is initialised on the host puts hooks on every route of it. So ours lives on a
private app of its own, with the host's ``RATELIMIT_…`` configuration, and is asked directly. A
host's own Limiter can be handed in; then its storage and strategy are used.

Callers are counted after they are authenticated, by token id: garbage cannot fill the storage,
and strangers cannot drain a bucket. Challenges are counted by address, since each costs an invoice.
"""

import logging
import math
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cached_property
from importlib import import_module
from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple

import limits.errors
import limits.storage
from flask import Flask
from limits import RateLimitItem, parse_many
from limits.strategies import FixedWindowRateLimiter, RateLimiter

from l402.addresses import place
from l402.errors import ConfigurationError
from l402.memory import SCHEME, BoundedMemoryStorage

if TYPE_CHECKING:
    from flask_limiter import Limiter


class Rate(RateLimitItem):
    """So many requests in so many seconds; its key is put together once, not at each request."""

    __slots__ = ("GRANULARITY", "_seconds", "_suffix")

    def __init__(self, item: RateLimitItem, share: int = 1) -> None:
        amount = item.amount if share == 1 else max(1, item.amount // share)
        super().__init__(amount, item.multiples, item.namespace)
        self.GRANULARITY = item.GRANULARITY  # type: ignore[misc]
        self._seconds = item.get_expiry()
        self._suffix = f"/{self.amount}/{self._seconds}"

    def get_expiry(self) -> int:
        """Return the window's length in seconds."""
        return self._seconds

    def key_for(self, *identifiers: bytes | str | float) -> str:
        """Return the key of a bucket by its one name."""
        return f"{identifiers[0]!s}{self._suffix}"


Rates = tuple[Rate, ...]


class Bucket(NamedTuple):
    """What is counted together, and how much of it is let through; `key` names it."""

    rates: Rates
    key: str


_STORAGE_KEYS = ("RATELIMIT_STORAGE_URI", "RATELIMIT_STORAGE_OPTIONS", "RATELIMIT_STRATEGY")
#: A paid request waits no longer than this for its limit, seconds.
_REDIS_TIMEOUTS = {"socket_timeout": 0.1, "socket_connect_timeout": 0.1}

_log = logging.getLogger("l402.limits")
_RETRY_STORAGE_AFTER = 1.0  # seconds
#: While the storage is down each process counts challenges for itself, so it grants fewer.
_FALLBACK_SHARE = 4


def parse_rates(text: str, name: str) -> Rates:
    """Parse a rate limit such as ``60/minute`` or ``5/second;1000/day``.

    Flask-Limiter takes no notice of a limit that it cannot parse, so this is done where it shows.

    :raises ConfigurationError: naming `name`
    """
    try:
        rates = tuple(sorted(map(Rate, parse_many(text)), key=Rate.get_expiry))
    except (ValueError, TypeError, AttributeError) as error:
        raise ConfigurationError(
            f"{name}: {text!r} is no rate limit; write '60/minute' or '5/second;1000/day'"
        ) from error
    if any(rate.amount < 1 for rate in rates):
        raise ConfigurationError(f"{name}: {text!r} would let nobody in; the least is 1")
    return rates


def knows_storage(uri: str) -> bool:
    """Tell whether a storage of this scheme exists; a wrong one would look like an outage."""
    known: Mapping[str, object] = limits.storage.SCHEMES  # type: ignore[attr-defined]
    return uri.partition("://")[0] in known


class Limits:
    """Counts requests in buckets; every method returns 0, or the seconds to wait."""

    def __init__(
        self,
        *,
        token: Rates,
        challenge: Rates,
        challenge_total: Rates,
        limiter: Callable[[], RateLimiter],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.token, self.challenge, self.challenge_total = token, challenge, challenge_total
        self._limiter, self._monotonic = limiter, monotonic
        self._storage_down_until = 0.0  # 0 while it counts

    @cached_property
    def _fallback(self) -> RateLimiter:
        return FixedWindowRateLimiter(BoundedMemoryStorage())

    def bucket(self, token_id: bytes, rates: Rates | None, endpoint: str) -> Bucket:
        """Return a token's own bucket, or with `rates` of the view's own one for the endpoint."""
        if rates is None:
            return Bucket(self.token, f"token/{token_id.hex()}")
        return Bucket(rates, f"view/{token_id.hex()}/{endpoint}")

    def admit(self, token_id: bytes, rates: Rates | None, endpoint: str) -> int:
        """Count a request of a token in its bucket."""
        return self.count(self.bucket(token_id, rates, endpoint))

    def count(self, bucket: Bucket) -> int:
        """Count a request in a bucket."""
        return self._hit(*bucket)

    def admit_challenge(self, address: str | None) -> int:
        """Count a challenge against its address, and against the total over all.

        While the total is full no address is counted, or a flood of them would fill the storage.
        """
        return (
            self._hit(self.challenge_total, "challenges/all", share=_FALLBACK_SHARE, count=False)
            or self._hit(self.challenge, f"challenge/{place(address)}", share=_FALLBACK_SHARE)
            or self._hit(self.challenge_total, "challenges/all", share=_FALLBACK_SHARE)
        )

    def admit_inquiry(self, address: str | None) -> int:
        """Count a question about a credential's state against its address."""
        return self._hit(self.challenge, f"inquiry/{place(address)}", share=_FALLBACK_SHARE)

    def probe(self) -> str | None:
        """Count once, and name the storage that did; None for this process's memory.

        :raises ConfigurationError: the storage's driver is not installed
        :raises Exception: the storage's own, whatever keeps it from counting
        """
        try:
            limiter = self._limiter()
            _wait(limiter, self.challenge_total, "probe", count=True)
        except limits.errors.ConfigurationError as error:
            raise ConfigurationError(
                "the driver of L402_RATELIMIT_STORAGE_URI is not installed; for Redis:"
                " pip install 'Flask-L402[redis]'"
            ) from error
        local = isinstance(limiter.storage, BoundedMemoryStorage | limits.storage.MemoryStorage)
        return None if local else type(limiter.storage).__name__

    def _hit(self, rates: Rates, key: str, *, share: int = 1, count: bool = True) -> int:
        now = self._monotonic()
        if now >= self._storage_down_until:
            try:
                wait = _wait(self._limiter(), rates, key, count)
            # Each storage has errors of its own, and none may stop a sale.
            except Exception as error:
                if not self._storage_down_until:
                    told = "the rate limits' storage failed (%s): each process counts for itself"
                    _log.warning(told, type(error).__name__)
                self._storage_down_until = now + _RETRY_STORAGE_AFTER
            else:
                if 0 < self._storage_down_until <= now:  # asked since it failed
                    _log.warning("the rate limits' storage counts again")
                    self._storage_down_until = 0.0
                return wait
        shared = tuple(Rate(rate, share) for rate in rates)
        return _wait(self._fallback, shared, key, count)


def host_limiter(limiter: "Limiter") -> Callable[[], RateLimiter]:
    """Return how to reach the counter of a host's Limiter, which may be initialised later."""
    return lambda: limiter.limiter


def private_limiter(
    config: Mapping[str, Any], storage_uri: str | None
) -> Callable[[], RateLimiter]:
    """Return how to reach a Limiter of our own, made at first use with the host's settings."""
    made: list[RateLimiter] = []
    making = Lock()

    def make() -> RateLimiter:
        from flask_limiter import Limiter  # not before the first request

        app = Flask("l402.limits")
        app.config.update({key: config[key] for key in _STORAGE_KEYS if key in config})
        uri = storage_uri or app.config.get("RATELIMIT_STORAGE_URI") or _default(app.config)
        app.config["RATELIMIT_STORAGE_URI"] = uri
        if uri.startswith(("redis", "valkey")):
            given = app.config.get("RATELIMIT_STORAGE_OPTIONS") or {}
            app.config["RATELIMIT_STORAGE_OPTIONS"] = _redis_options(uri) | given
        return Limiter(key_func=str, app=app).limiter

    def reach() -> RateLimiter:
        if not made:
            # One at a time: the storage imports its driver, and takes half an import for a fault.
            with making:
                if not made:
                    made.append(make())
        return made[0]

    return reach


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


def _default(config: Mapping[str, Any]) -> str:
    fixed_window = config.get("RATELIMIT_STRATEGY", "fixed-window") == "fixed-window"
    return f"{SCHEME}://" if fixed_window else "memory://"


def _wait(limiter: RateLimiter, rates: Rates, key: str, count: bool) -> int:
    """Count in each rate's window, the shortest first, up to the first that is full."""
    # Strategies store what others cannot read, so each has keys of its own.
    name = f"l402/{limiter.__class__.__name__}/{key}"
    ask = limiter.hit if count else limiter.test
    for rate in rates:
        if not ask(rate, name):
            full = [each for each in rates if each is rate or not limiter.test(each, name)]
            reset = max(limiter.get_window_stats(each, name).reset_time for each in full)
            return max(1, math.ceil(reset - time.time()))
    return 0
