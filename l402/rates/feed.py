"""One currency's rate in one process: read in the background, and used as long as it may be.

A reading runs on a thread of its own, begun by the request that finds the last one old: an idle
process reads nothing. Only a request without any rate in force waits for it, and not for long.
"""

import logging
import math
import time
from collections.abc import Callable
from threading import Event, Lock, Thread

from l402.errors import RateError
from l402.forks import in_child
from l402.rates.rate import Rate, Reading
from l402.rates.sources import Source

_EVERY = 60.0  # seconds between two readings
_PATIENCE = 3.0  # seconds that a request waits for one; a URL ends within 2.5
_JUMP = 5  # a fifth of the last rate, up or down, is not believed at once

_log = logging.getLogger("l402.rates")


class _Flight:
    """A reading under way."""

    def __init__(self) -> None:
        self._landed = Event()
        self._patience_ends = time.monotonic() + _PATIENCE

    def wait(self) -> bool:
        """Wait for its end; return False if it is late, at once where it has been for long."""
        return self._landed.wait(max(0.0, self._patience_ends - time.monotonic()))

    def land(self) -> None:
        self._landed.set()


class Feed:
    """The rate of `currency` from `source`, at most `max_age` seconds old by `clock`."""

    def __init__(
        self, source: Source, currency: str, max_age: float, clock: Callable[[], float]
    ) -> None:
        self._source, self._currency = source, currency
        self._max_age, self._clock = max_age, clock
        self._every = min(_EVERY, max_age / 2)
        self._good: Rate | None = None  # the last that was believed
        self._doubt: Rate | None = None  # the first of those that say that it jumped
        self._state: object = frozenset[str]()  # what was last said of in the log
        self._begin()
        in_child(self._begin)

    def _begin(self) -> None:
        """Start afresh, also in a forked child: the parent's thread is the parent's."""
        self._lock = Lock()
        self._flight: _Flight | None = None
        self._tried_at = -math.inf
        self._trouble = ("unread", "it was not read yet")  # its kind, and in words

    def rate(self) -> Rate:
        """Return the rate in force.

        :raises RateError: there is none
        """
        now = self._clock()
        good = self._good
        if good and 0 <= now - good.read_at < self._every:
            return good
        flight = self._flying(now)
        if good := self._in_force(now):
            return good
        if flight and not flight.wait():
            self._failed("late", "no answer in time")
        if good := self._in_force(self._clock()):
            return good
        self._complain()
        raise RateError(f"no rate of {self._currency}: {self._trouble[1]}", self._retry_after())

    def _in_force(self, now: float) -> Rate | None:
        good = self._good
        # A clock that was set back makes a rate of unknown age, which is too old.
        return good if good and 0 <= now - good.read_at <= self._max_age else None

    def _flying(self, now: float) -> _Flight | None:
        """Return the reading under way, if one is; begin one if it is time."""
        with self._lock:
            due = not 0 <= now - self._tried_at < self._every
            if self._flight or not due:
                return self._flight
            self._tried_at = now
            flight = self._flight = _Flight()
        try:
            Thread(target=self._fly, args=(flight, now), name="l402-rates", daemon=True).start()
        except RuntimeError:  # too many threads, or the interpreter is ending
            self._failed("failed", "no thread could be begun to read it")
            self._land(flight)
        return flight

    def _fly(self, flight: _Flight, now: float) -> None:
        """Read; the rate is as old as the question, however long the answer took."""
        try:
            self._take(self._source.read(self._currency), now)
        except RateError as error:
            self._failed("failed", str(error))
        except Exception as error:
            self._failed("failed", f"its source failed with {type(error).__name__}")
        finally:
            self._land(flight)

    def _land(self, flight: _Flight) -> None:
        with self._lock:
            self._flight = None
        flight.land()

    def _take(self, reading: Reading, now: float) -> None:
        rate = Rate(self._currency, reading.per_bitcoin, now)
        if self._good and _jumped(self._good, rate) and not self._confirmed(rate):
            self._failed(
                "jumped",
                f"{rate.words} is more than a fifth off the last, {self._good.words}: not believed"
                f" until it is still there {self._max_age:g} s after it was first seen",
            )
            return
        self._good, self._doubt = rate, None
        left_out = "; ".join(f"{name}: {fault}" for name, fault in reading.left_out.items())
        source = f"without {left_out}" if left_out else "with nothing left out"
        self._say(frozenset(reading.left_out), logging.WARNING, f"{rate.words} read {source}")

    def _confirmed(self, rate: Rate) -> bool:
        """Tell whether a jump was seen long enough ago to be believed; note it if it is new."""
        first = self._doubt
        if first is None or rate.read_at < first.read_at or _jumped(first, rate):
            self._doubt = first = rate
        return rate.read_at - first.read_at >= self._max_age

    def _failed(self, kind: str, fault: str) -> None:
        self._trouble = (kind, fault)
        self._complain()

    def _complain(self) -> None:
        kind, fault = self._trouble
        good = self._in_force(self._clock())
        level = logging.WARNING if good else logging.ERROR
        meanwhile = f"{good.words} is still in force" if good else "nothing is sold in it"
        self._say((kind, level), level, f"no rate of {self._currency}, {meanwhile}: {fault}")

    def _say(self, state: object, level: int, text: str) -> None:
        """Log what is new: a line for each outage and one for its end, not one per reading."""
        with self._lock:
            if state == self._state:
                return
            self._state = state
        _log.log(level, text)

    def _retry_after(self) -> int:
        now, due = self._clock(), self._tried_at + self._every
        if self._doubt:
            due = max(due, self._doubt.read_at + self._max_age)
        return max(1, math.ceil(min(due - now, self._max_age)))


def _jumped(before: Rate, after: Rate) -> bool:
    last, now = before.per_bitcoin.as_integer_ratio(), after.per_bitcoin.as_integer_ratio()
    old, new = last[0] * now[1], now[0] * last[1]
    return abs(new - old) * _JUMP > old
