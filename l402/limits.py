"""Rate limits: what is counted together, and how long whoever is over a limit has to wait.

Callers are counted after they are authenticated, by token id: garbage cannot fill the storage,
and strangers cannot drain a bucket. Challenges are counted by address, since each costs an invoice.
"""

import logging
import re
import time
from collections.abc import Callable
from functools import cached_property, partial
from operator import attrgetter

from l402.addresses import place
from l402.errors import ConfigurationError
from l402.memory import FixedWindows, Rate, Rates, Windows, windows
from l402.storages import Counter, shared_by

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

    def bucket(self, token_id: bytes, rates: Rates | None, endpoint: str) -> Callable[[], int]:
        """Return what counts requests in a token's own bucket.

        With `rates` of the view's own, it is one for the endpoint alone.
        """
        if rates is None:
            bucket = windows(self.token, f"token/{token_id.hex()}")
        else:
            bucket = windows(rates, f"view/{token_id.hex()}/{endpoint}")
        # This process's memory cannot fail: it is asked without a detour.
        return partial(self._hit if self._memory is None else self._memory.count, bucket)

    def admit(self, token_id: bytes, rates: Rates | None, endpoint: str) -> int:
        """Count a request of a token in its bucket."""
        return self.bucket(token_id, rates, endpoint)()

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
            limiter.count(windows(self.challenge_total, "probe"))
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
        own = windows(self.challenge, f"{what}/{place(address)}")
        total = windows(self.challenge_total, f"{what}/all")
        return (
            self._hit(total, share=_FALLBACK_SHARE, count=False)
            or self._hit(own, share=_FALLBACK_SHARE)
            or self._hit(total, share=_FALLBACK_SHARE)
        )

    def _reach(self) -> Counter:
        """Return what counts, and see whether that is this process's memory, which cannot fail."""
        limiter = self._limiter()
        if isinstance(limiter, FixedWindows):
            self._memory = limiter
        return limiter

    def _hit(self, bucket: Windows, *, share: int = 1, count: bool = True) -> int:
        now = self._monotonic()
        if now >= self._storage_down_until:
            try:
                counter = self._reach()
                wait = counter.count(bucket) if count else counter.wait(bucket)
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
        shares = tuple((key, _part(rate, share)) for key, rate in bucket)
        return self._fallback.count(shares) if count else self._fallback.wait(shares)


def _part(rate: Rate, share: int) -> Rate:
    return Rate(max(1, rate.amount // share), rate.seconds)
