"""Uses of credit: each call sets its price aside, and takes it or gives it back, exactly once.

No transaction is open while the call is served. The row of a use is made when it is reserved and
deleted when it is resolved, with an entry whose operation names the use: so it is resolved once,
whoever races, and a call that runs again after a lost commit finds out what was done. While a
metered call is served its row grows: by what is charged for good, and by what is set aside.
"""

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy import Row

from l402.errors import StoreError
from l402.forks import in_child
from l402.store import leases, meters, replies, settlement, steps
from l402.store.engine import Database
from l402.store.meters import Extended
from l402.store.orders import Order, Reserved, Short
from l402.store.replies import Answer, Call, Conflict
from l402.store.reservations import Outcome, Reservation

_log = logging.getLogger("l402.store")

_MOST_GIVEN_BACK = 20  # of one account's, in the time of one request


class Uses:
    """The calls in flight."""

    def __init__(self, db: Database) -> None:
        self.db = db
        self._begin()
        in_child(self._begin)

    def _begin(self) -> None:
        """Hold nothing yet, also in a forked child: its parent's uses are its parent's."""
        self._lease = leases.Lease()
        self._held: dict[bytes, tuple[Call, datetime] | None] = {}
        self._unsure = False  # whether the store left the outcome of a use untold
        self._reserved_lately = False
        self._reserves = False  # whether it ever did

    def reserve(self, order: Order, now: datetime, call: Call | None = None) -> Outcome:
        """Set the price of a call aside, if the balance has it at `now`.

        With `call`, what is known under its key comes first, whatever the balance: the answer
        that it got, or why it gets none. Only `Reserved` must be resolved.

        :raises StoreError: if it could not be reserved; what may have been is given back
        """
        self._held[order.use_id] = (call, now) if call else None
        outcome: Outcome | None = None
        try:
            outcome = self._reserve(order, now, call)
            stuck = isinstance(outcome, Short) or outcome is Conflict.IN_PROGRESS
            if stuck and self._unblock(order.token_id.hex()):
                outcome = self._reserve(order, now, call)
        finally:
            if not isinstance(outcome, Reserved):
                self._held.pop(order.use_id, None)
                self._unsure = self._unsure or outcome is None  # it may have been committed
        return outcome

    def extend(
        self, order: Order, held: int, least: int, most: int, now: datetime
    ) -> Extended | Short:
        """Set more aside for a use that holds `held`: `most`, or what is left if it is `least`.

        :raises StoreError: if it could not be, or the use was given back meanwhile
        """

        def grow() -> Extended | Short:
            with self.db.write() as connection:
                return meters.extend(connection, order, held, least, most, now)

        outcome = self.db.run(grow)
        if isinstance(outcome, Short) and self._unblock(order.token_id.hex()):
            outcome = self.db.run(grow)
        return outcome

    def charge(self, use_id: bytes, msat: int) -> None:
        """Note that a use in flight has been charged `msat` so far, whatever becomes of it.

        :raises StoreError: if it could not be, or the use was given back meanwhile
        """
        self.db.run(partial(meters.charge, self.db, use_id.hex(), msat))

    def take(self, use_id: bytes, answer: Answer | None = None, msat: int | None = None) -> int:
        """Spend what was reserved, or `msat` of it, and give the balance; taking twice takes once.

        What was given back meanwhile is debited again, and what the balance no longer has is
        written off. `answer` is kept under the key of the call, if it had one.

        :raises StoreError: if it could not be taken; do not serve then, it will be given back
        """
        key, keyed = use_id.hex(), self._held.get(use_id)
        values = {"own": key, "cost": msat}

        def spend() -> int:
            if answer is None and (left := self.db.alone(steps.TAKE, values)):
                return int(left.balance)
            with self.db.write() as connection:
                left = steps.TAKE.run(connection, values)
                if left is None:
                    return settlement.settle(connection, key, msat, keyed, answer)
                if answer is not None:
                    replies.finish(connection, key, answer)
            return int(left.balance)

        with self._resolving(use_id):
            return self.db.run(spend)

    def release(self, use_id: bytes) -> int | None:
        """Give back what was reserved and not charged; give the balance, or None if it is resolved.

        :raises StoreError: if it could not be given back; `renew` will
        """
        with self._resolving(use_id):
            return self.db.run(lambda: self._give_back(use_id.hex()))

    def abandon(self, use_id: bytes) -> None:
        """Leave a use to `renew`: nobody is there any more who would resolve it."""
        self._unsure = True
        self._held.pop(use_id, None)

    def renew(self) -> None:
        """Extend the lease of this process, if it holds uses or held one since the last time.

        Call it at least every `leases.RENEW` seconds. It also gives back the uses of this process
        that no request of it holds any more, because the store did not tell what became of them.

        :raises StoreError: if the store does not answer, or one of them could not be given back
        """
        if self._held or self._reserved_lately:
            self._reserved_lately = False
            begun = time.monotonic()
            self.db.run(partial(self._lease.renew, self.db))
            self._lease.note(begun)
        if self._reserves:
            # In this order: what is reserved after the look is not seen, what was before is held.
            own = self.db.fetch(leases.OWN, {"process": self._lease.process})
            unheld = [row for row in own if bytes.fromhex(row.use_id) not in self._held]
            _, failed = self._sweep(unheld, lapsed=False)
            if failed:
                raise failed
            self._unsure = False

    def recover(self, limit: int = 100) -> int:
        """Give back the uses of processes whose lease has lapsed, the oldest first.

        :raises StoreError: if the store does not answer
        """
        lapsed = self.db.fetch(leases.LAPSED, {"most": limit})
        given_back, failed = self._sweep(lapsed, lapsed=True)
        if failed:
            _log.warning("a use of a silent process could not be given back: %s", failed)
        if gone := [row.process for row in self.db.fetch(leases.GONE)]:
            self.db.run(partial(leases.end, self.db, gone))
        return given_back

    def holds(self) -> bool:
        """Tell whether this process has uses in flight."""
        return bool(self._held) or self._unsure

    def _reserve(self, order: Order, now: datetime, call: Call | None) -> Outcome:
        self._reserved_lately = self._reserves = True
        return Reservation(self.db, self._lease, order, now, call).make()

    def _give_back(self, key: str, *, lapsed: bool = False) -> int | None:
        step = steps.GIVE_BACK_LAPSED if lapsed else steps.GIVE_BACK
        left = self.db.alone(step, {"own": key})
        return None if left is None else int(left.balance)

    def _unblock(self, token_id: str) -> int:
        """Give back what dead processes hold of an account, before their uses are swept up."""
        mine = {"token": token_id, "most": _MOST_GIVEN_BACK}
        return self._sweep(self.db.fetch(leases.LAPSED_OF, mine), lapsed=True)[0]

    def _sweep(self, uses: Sequence[Row[Any]], *, lapsed: bool) -> tuple[int, StoreError | None]:
        """Give each back by itself, so that no two wait; tell how many were, and a failure."""
        given_back, failed, end = 0, None, time.monotonic() + leases.RENEW
        for row in uses:
            try:
                balance = self.db.run(partial(self._give_back, row.use_id, lapsed=lapsed))
                given_back += balance is not None
            except StoreError as error:  # one account's damaged books must not stop the others'
                failed = error
                if time.monotonic() >= end:
                    break
        return given_back, failed

    @contextmanager
    def _resolving(self, use_id: bytes) -> Iterator[None]:
        """Let go of a use; if it could not be resolved, it is for `renew` to give back."""
        resolved = False
        try:
            yield
            resolved = True
        finally:  # also when a worker's thread is ended
            self._unsure = self._unsure or not resolved
            self._held.pop(use_id, None)
