"""The price of a call is set aside once, however often that is tried.

A try whose connection broke may have been done all the same, or be done while the next one waits
for its turn at the balance: the call is then told what that one set aside.
"""

import time
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from l402.store import balances, replies, steps
from l402.store.engine import Database
from l402.store.leases import Lease
from l402.store.ledger import Account
from l402.store.orders import Order, Reserved, Short
from l402.store.replies import Call, Conflict, Reply

Outcome = Reserved | Short | Reply | Conflict


class Reservation:
    """What one call asks of its account, in the name of the process that has the lease."""

    def __init__(
        self, db: Database, lease: Lease, order: Order, now: datetime, call: Call | None
    ) -> None:
        self._db, self._lease, self._order, self._call = db, lease, order, call
        self._values = steps.asked(order, lease.process, now)
        self._begun = time.monotonic() if lease.due() else None
        self._tried = False

    def make(self) -> Outcome:
        """Make the use, and write the lease if it is due; or say what there is instead.

        :raises StoreError: if the store does not answer; the use may have been made
        """
        outcome = self._db.run(self._once)
        if self._begun is not None and isinstance(outcome, Reserved):
            self._lease.note(self._begun)
        return outcome

    def _once(self) -> Outcome:
        if not self._tried:
            self._tried = True
            return self._try()
        outcome = self._made() or self._try()
        return outcome if isinstance(outcome, Reserved) else self._made() or outcome

    def _made(self) -> Reserved | None:
        with self._db.read() as connection:
            held = connection.execute(steps.HELD, self._values).first()
        return self._reserved(held) if held else None

    def _try(self) -> Outcome:
        if self._begun is None and self._call is None:
            # If a crash of the server undoes it, `take` finds nothing: the call is not served.
            held = self._db.alone(steps.RESERVE, self._values, may_be_lost=True)
            if held is not None:
                return self._reserved(held)
        with self._db.write() as connection:
            outcome = self._hold(connection)
            if not isinstance(outcome, Reserved):
                connection.rollback()
            elif self._begun is not None:
                self._lease.write(connection)
        return outcome

    def _hold(self, connection: Connection) -> Outcome:
        """Make the use, or say what there is instead; the caller undoes the rest then."""
        values, call, now = self._values, self._call, self._values["now"]
        account = Account(values["token"], self._order.service)
        # The key first: a repeat that comes while the last unit is held is in progress, not short.
        if call and (known := replies.claim(connection, call, *account, values["own"], now)):
            return known
        held = steps.RESERVE.run(connection, values)
        if held is not None:
            return self._reserved(held)
        row = balances.look(connection, account)
        return Short(row.balance, row.ends_at <= now) if row else Short(None, False)

    def _reserved(self, held: Any) -> Reserved:
        return Reserved(self._order.use_id, held.balance, held.ends_at)
