"""Metering: a call that says itself what it costs, as it goes on.

What is charged adds up in memory. It is taken where the view returns, or written down bit by bit
while a stream goes out (see `l402.streams`); what is set aside for it grows as it is used up.
"""

import math
from collections.abc import Callable
from datetime import UTC, datetime
from threading import Lock

from l402.errors import CreditExhausted
from l402.store.orders import Order, Short
from l402.store.uses import Uses


class Tally:
    """What a call says it costs, in msat; nobody is charged for it. Threads may share it."""

    def __init__(self) -> None:
        self.charged = 0
        self.balance: int | None = None
        self._covered: float = math.inf
        self._lock, self._closed = Lock(), False

    def charge(self, msat: int) -> None:
        """Add `msat`.

        :raises ValueError: it is no int of at least 0
        :raises CreditExhausted: there is less left
        :raises StoreError: more could not be set aside
        :raises RuntimeError: the call is over
        """
        if type(msat) is not int or msat < 0:  # True is an int, and no amount
            raise ValueError(f"charge(msat={msat!r}): write an int >= 0, in thousandths of a sat")
        with self._lock:
            if self._closed:
                raise RuntimeError(
                    "charge() came after the answer was complete: charge before the view returns,"
                    " or within the generator that it answers with"
                )
            charged = self.charged + msat
            if charged > self._covered:
                self._cover(charged)
            self.charged = charged

    def close(self) -> None:
        """Let nothing be charged any more."""
        with self._lock:
            self._closed = True

    def _cover(self, msat: int) -> None:
        """See that there is as much, in all."""


class Meter(Tally):
    """What a use of credit is charged, which never is more than is set aside for it.

    `most` is what its holder lets it cost, if he set a limit; `reserve` what is set aside at a
    time, and `balance` what is left of the credit besides.
    """

    def __init__(
        self,
        uses: Uses,
        order: Order,
        balance: int,
        most: int | None,
        clock: Callable[[], float],
    ) -> None:
        super().__init__()
        self._uses, self._order, self._clock = uses, order, clock
        self._held = self.reserve = order.msat
        self.balance, self._most = balance, math.inf if most is None else most
        self._covered = min(self._held, self._most)

    def note(self, msat: int) -> None:
        """Write down that so much was charged, for good.

        :raises StoreError: it could not be
        """
        self._uses.charge(self._order.use_id, msat)

    def abandon(self) -> None:
        """Have what was not written down given back, by and by."""
        self._uses.abandon(self._order.use_id)

    def _cover(self, msat: int) -> None:
        if msat > self._most:
            raise CreditExhausted("narrowed", msat)
        while msat > self._held:
            lack = msat - self._held
            now = datetime.fromtimestamp(self._clock(), UTC)
            found = self._uses.extend(self._order, self._held, lack, max(lack, self.reserve), now)
            if isinstance(found, Short):
                raise CreditExhausted("expired" if found.ended else "exhausted", msat)
            self._held, self.balance = found.held, found.balance
        self._covered = min(self._held, self._most)
