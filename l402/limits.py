"""Rate limits: what is counted together, and how long whoever is over a limit has to wait.

Callers are counted after they are authenticated, by token id: garbage cannot fill the storage,
and strangers cannot drain a bucket. Challenges are counted by address, since each costs an invoice.
"""

import logging
import math
import re
import time
from collections.abc import Callable
from functools import cached_property
from operator import attrgetter
from typing import NamedTuple

from l402.addresses import place
from l402.errors import ConfigurationError
from l402.memory import FixedWindows, Rate
from l402.storages import Counter, shared_by

Rates = tuple[Rate, ...]


class Bucket(NamedTuple):
    """What is counted together, and how much of it is let through; `key` names it.

    `windows` are the keys of the rates' windows in this process's memory.
    """

    rates: Rates
    key: str
    windows: tuple[tuple[Rate, str], ...]

    @classmethod
    def of(cls, rates: Rates, key: str) -> "Bucket":
        """Return a bucket by its key."""
        name = _name(FixedWindows, key)
        return cls(rates, key, tuple((rate, rate.key_for(name)) for rate in rates))


_DAY = 86400
_UNITS = {
    "second": 1, "minute": 60, "hour": 3600, "day": _DAY, "month": 30 * _DAY, "year": 360 * _DAY,
}  # fmt: skip
#: As Flask-Limiter has them written: ``60/minute``, ``60 per minute``, ``1/2 hours``.
_RATE = re.compile(
    r"\s*([0-9]{1,18})\s*(?:/|per)\s*([0-9]{1,9})?\s*(second|minute|hour|day|month|year)s?\s*"
)

_log = logging.getLogger("l402.limits")
_RETRY_STORAGE_AFTER = 1.0  # seconds
#: While the storage is down each process counts challenges for itself, so it grants fewer.
_FALLBACK_SHARE = 4


def parse_rates(text: str, name: str) -> Rates:
    """Parse a rate limit such as ``60/minute`` or ``5/second;1000/day``.

    :raises ConfigurationError: naming `name`
    """
    parts = re.split("[,;|]", text.lower()) if isinstance(text, str) else [""]
    found = [_RATE.fullmatch(part) for part in parts]
    if None in found:
        raise ConfigurationError(
            f"{name}: {text!r} is no rate limit; write '60/minute' or '5/second;1000/day'"
        )
    rates = [_rate(*each.groups()) for each in found if each]
    if any(min(rate.amount, rate.seconds) < 1 for rate in rates):
        raise ConfigurationError(f"{name}: {text!r} would let nobody in; the least is 1")
    return tuple(sorted(rates, key=attrgetter("seconds")))


def _rate(amount: str, multiple: str | None, unit: str) -> Rate:
    return Rate(int(amount), int(multiple or 1) * _UNITS[unit])


class Limits:
    """Counts requests in buckets; every method returns 0, or the seconds to wait."""

    def __init__(
        self,
        *,
        token: Rates,
        challenge: Rates,
        challenge_total: Rates,
        limiter: Callable[[], Counter],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.token, self.challenge, self.challenge_total = token, challenge, challenge_total
        self._limiter, self._monotonic = limiter, monotonic
        self._storage_down_until = 0.0  # 0 while it counts
        self._memory: FixedWindows | None = None  # if that is what counts

    @cached_property
    def _fallback(self) -> Counter:
        return FixedWindows()

    def bucket(self, token_id: bytes, rates: Rates | None, endpoint: str) -> Bucket:
        """Return a token's own bucket, or with `rates` of the view's own one for the endpoint."""
        if rates is None:
            return Bucket.of(self.token, f"token/{token_id.hex()}")
        return Bucket.of(rates, f"view/{token_id.hex()}/{endpoint}")

    def admit(self, token_id: bytes, rates: Rates | None, endpoint: str) -> int:
        """Count a request of a token in its bucket."""
        return self.count(self.bucket(token_id, rates, endpoint))

    def count(self, bucket: Bucket) -> int:
        """Count a request in a bucket."""
        if (memory := self._memory) is None:
            return self._hit(bucket.rates, bucket.key)
        for rate, window in bucket.windows:  # as `_wait` does, with fewer calls
            if memory.count(window, rate.seconds) > rate.amount:
                return _until_free(memory, bucket.rates, rate, bucket.key)
        return 0

    def admit_challenge(self, address: str | None) -> int:
        """Count a challenge against its address, and against the total over all."""
        return self._admit_stranger("challenge", address)

    def admit_inquiry(self, address: str | None) -> int:
        """Count a question about a credential's state as a challenge is, in buckets of its own."""
        return self._admit_stranger("inquiry", address)

    def probe(self) -> str | None:
        """Count once, and name the storage that did; None for this process's memory.

        :raises ConfigurationError: the storage's driver is not installed
        :raises Exception: the storage's own, whatever keeps it from counting
        """
        from limits.errors import ConfigurationError as NoDriver  # only the doctor asks

        try:
            limiter = self._limiter()
            _wait(limiter, self.challenge_total, "probe", count=True)
        except NoDriver as error:
            raise ConfigurationError(
                "the driver of L402_RATELIMIT_STORAGE_URI is not installed; for Redis:"
                " pip install 'Flask-L402[redis]'"
            ) from error
        return shared_by(limiter)

    def _admit_stranger(self, what: str, address: str | None) -> int:
        """Count for an address and in total.

        While the total is full no address is counted, or a flood of them would fill the storage.
        """
        own, total = f"{what}/{place(address)}", f"{what}/all"
        return (
            self._hit(self.challenge_total, total, share=_FALLBACK_SHARE, count=False)
            or self._hit(self.challenge, own, share=_FALLBACK_SHARE)
            or self._hit(self.challenge_total, total, share=_FALLBACK_SHARE)
        )

    def _reach(self) -> Counter:
        """Return what counts, and see whether that is this process's memory, which cannot fail."""
        limiter = self._limiter()
        if isinstance(limiter, FixedWindows):
            self._memory = limiter
        return limiter

    def _hit(self, rates: Rates, key: str, *, share: int = 1, count: bool = True) -> int:
        now = self._monotonic()
        if now >= self._storage_down_until:
            try:
                wait = _wait(self._reach(), rates, key, count)
            # Each storage has errors of its own, and none may stop a sale.
            except Exception as error:
                first = not self._storage_down_until
                self._storage_down_until = now + _RETRY_STORAGE_AFTER
                if first:  # told last: others meet the failure while a log is written
                    told = "the rate limits' storage failed (%s): each process counts for itself"
                    _log.warning(told, type(error).__name__)
            else:
                if 0 < self._storage_down_until <= now:  # asked since it failed
                    self._storage_down_until = 0.0
                    _log.warning("the rate limits' storage counts again")
                return wait
        shares = tuple(Rate(max(1, rate.amount // share), rate.seconds) for rate in rates)
        return _wait(self._fallback, shares, key, count)


def _wait(limiter: Counter, rates: Rates, key: str, count: bool) -> int:
    """Count in each rate's window, the shortest first, up to the first that is full."""
    name = _name(type(limiter), key)
    ask = limiter.hit if count else limiter.test
    for rate in rates:
        if not ask(rate, name):
            return _until_free(limiter, rates, rate, key)
    return 0


def _until_free(limiter: Counter, rates: Rates, full: Rate, key: str) -> int:
    """Return the seconds until every window of a bucket lets somebody in; `full` is one that is."""
    name = _name(type(limiter), key)
    shut = [rate for rate in rates if rate is full or not limiter.test(rate, name)]
    reset = max(limiter.get_window_stats(rate, name).reset_time for rate in shut)
    return max(1, math.ceil(reset - time.time()))


def _name(strategy: type[Counter], key: str) -> str:
    # Strategies store what others cannot read, so each has keys of its own.
    return f"l402/{strategy.__name__}/{key}"
