"""Payments are booked when they are first presented, once, if they grant anything."""

import time
from collections.abc import Callable
from datetime import UTC, datetime

from flask import Flask

from l402 import signals
from l402.denials import Denial, Reason
from l402.errors import NodeError
from l402.nodes.base import Settlement
from l402.nodes.desk import NodeDesk
from l402.protocol.token import Token
from l402.store import Store
from l402.store.payments import Sale
from l402.sync import Sync

_RETRY_UNSETTLED = 3  # seconds, for Retry-After
#: How often, and how far apart, a payment in flight is asked for before the caller is told to wait.
_SETTLEMENT_TRIES, _SETTLEMENT_PAUSE = 4, 0.25


def sale(shown: Token) -> Sale:
    """Return what the record keeps of a token: only what we signed."""
    return Sale(shown.payment_hash, shown.token_id, **shown.grant._asdict())


class Bookings:
    """Books what was paid; with `strict`, once the node says so."""

    def __init__(
        self,
        *,
        sender: Flask,
        store: Store,
        sync: Sync,
        desk: NodeDesk,
        strict: bool,
        clock: Callable[[], float],
    ) -> None:
        self.sender, self.store, self.sync, self.desk = sender, store, sync, desk
        self.strict, self.clock = strict, clock

    def refusal(self, shown: Token) -> Denial | None:
        """See that a token's payment is booked and not revoked; return a refusal if not.

        :raises StoreError: if the record could not be read, or the payment not be booked
        """
        self.sync.require_fresh(grace=shown.booked)
        return None if shown.booked else self._book(shown)

    def _book(self, shown: Token) -> Denial | None:
        """Write a payment into the record, once; return why the token is refused all the same."""
        if self.strict and not self.store.payments.recorded(shown.payment_hash):
            refused = self._unsettled(shown.payment_hash)
            if refused:
                return refused
        now = datetime.fromtimestamp(self.clock(), UTC)
        standing = self.store.payments.admit(sale(shown), now, now if self.strict else None)
        if standing.foreign:
            self.store.ledger.forget()  # what is behind the URL may be another record by now
            return Denial(Reason.WRONG_LEDGER)
        if standing.revoked:
            return Denial(Reason.REVOKED)
        if standing.late:
            return Denial(Reason.EXPIRED)
        shown.booked = True
        if standing.first:
            signals.first_paid.send(
                self.sender,
                token_id=shown.token_id.hex(),
                payment_hash=shown.payment_hash.hex(),
                msat=shown.grant.msat,
            )
        return None

    def _unsettled(self, payment_hash: bytes) -> Denial | None:
        """Ask the node for the payment (strict verification); one in flight gets a short while."""
        wait = Denial(Reason.UNSETTLED, retry_after=_RETRY_UNSETTLED)
        for attempt in range(_SETTLEMENT_TRIES):
            if attempt:
                time.sleep(_SETTLEMENT_PAUSE)
            try:
                settlement = self.desk.look_up(payment_hash)
            except NodeError:
                return wait
            if settlement is Settlement.SETTLED:
                return None
            if settlement in (Settlement.GONE, Settlement.UNDERPAID):
                return Denial(Reason.UNPAID)
        return wait
