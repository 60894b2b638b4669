"""Accounts: what the holder of a token has bought, and whether it covers a request.

The token id names the account. Whoever comes back with a token that does not suffice is offered
another payment for the same account, so that a client which keeps one token never loses what it
paid: each token of an account, until its own end, opens whatever the account holds. Passes stay
rights of their own, and one of them must cover a request alone; credit is one balance for each
service.
"""

import logging
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime

from l402.bookings import Bookings
from l402.denials import Denial, Reason
from l402.errors import StoreError
from l402.metering import Meter
from l402.payment import CurrentPayment
from l402.protocol.token import CREDIT, Grant, Token
from l402.store import Store
from l402.store.orders import Order, Short, new_use_id
from l402.store.payments import Sale
from l402.store.replies import Answer, Call, Conflict, Reply
from l402.terms import Terms
from l402.validation import Rejection

_log = logging.getLogger("l402.accounts")

_RETRY_STORE = 2  # seconds, for Retry-After
_RETRY_IN_PROGRESS = 1

#: What came of a request: admitted, answered before, refused, or rejected by the view's own check.
Outcome = CurrentPayment | Reply | Denial | Rejection

UNRECORDED = Denial(Reason.STORE_UNAVAILABLE, retry_after=_RETRY_STORE)

_CONFLICTS = {
    Conflict.IN_PROGRESS: Denial(Reason.IN_PROGRESS, retry_after=_RETRY_IN_PROGRESS),
    Conflict.NOT_REPLAYABLE: Denial(Reason.NOT_REPLAYABLE),
    Conflict.OTHER_REQUEST: Denial(Reason.OTHER_REQUEST),
}

#: What a call is told that came before; another token must not pay for it again.
REPEATED = frozenset(denial.reason for denial in _CONFLICTS.values())


class Accounts:
    """The record of what was bought, as the gate asks it."""

    def __init__(self, store: Store, bookings: Bookings, clock: Callable[[], float]) -> None:
        self.store, self.bookings, self.clock = store, bookings, clock

    def open(
        self,
        shown: Token,
        terms: Terms,
        msat: int,
        now: float,
        call: Callable[[], Call] | None = None,
    ) -> Outcome:
        """Say whether the account of an authentic token covers a request of `msat`.

        A denial carries no challenge yet. On a view that draws on credit the amount is reserved;
        see `settle`. `call` gives the request's Idempotency-Key, if it has one.
        """
        refusal = terms.refusal(shown.grant, msat, now)
        if shown.limits and terms.narrowed(shown, msat, now):
            return Denial(refusal or Reason.NARROWED)
        try:
            if terms.kind == CREDIT:
                return self._draw(shown, terms, msat, now, call)
            if not refusal:
                return self.bookings.refusal(shown) or _passed(shown, shown.grant)
            return self._open_by_another(shown, terms, msat, now, refusal)
        except StoreError as error:
            _log.debug("a valid token met a store that does not answer: %s", error)
            return UNRECORDED

    def settle(
        self,
        payment: CurrentPayment,
        charged: bool,
        answer: Answer | None = None,
        msat: int | None = None,
    ) -> None:
        """Take what a request costs, or give it back; keep its `answer` for a replay.

        `msat` is what a metered one was charged, if not all that was reserved. What cannot be given
        back now will be, as soon as the store answers.

        :raises StoreError: it could not be taken, and will be given back; only if the store went
            away within its very commit, it may have been taken all the same
        """
        if payment.use_id is None:
            return
        if charged:
            payment.balance = self.store.uses.take(payment.use_id, answer, msat)
            return
        with suppress(StoreError):
            left = self.store.uses.release(payment.use_id)
            payment.balance = payment.balance if left is None else left

    def answered(
        self, shown: Token, terms: Terms, now: float, call: Callable[[], Call]
    ) -> Outcome | None:
        """Return what a finished call was told, if this is the same one again; else None.

        It is told so whatever the call would cost today, and whether it could succeed.
        """
        try:
            if terms.narrowed(shown, 0, now):
                return None
            moment = datetime.fromtimestamp(now, UTC)
            known = self.store.replies.known(call(), shown.token_id.hex(), terms.service, moment)
            # In this order: a token that is refused in the end is not booked for the asking.
            if known is None or self._unentitled(shown, terms, now):
                return None
        except StoreError:
            return UNRECORDED
        if isinstance(known, Conflict):
            return None if known is Conflict.IN_PROGRESS else _CONFLICTS[known]
        return known

    def _open_by_another(
        self, shown: Token, terms: Terms, msat: int, now: float, refusal: Reason
    ) -> Outcome:
        """Look for a pass of the same account that covers what the token's own does not."""
        if shown.grant.ledger != self.store.ledger.id():
            return Denial(refusal)
        if refused := self.bookings.refusal(shown):
            return refused
        for refresh in (False, True):
            if refresh:
                moment = datetime.fromtimestamp(now, UTC)
                rights = self.store.payments.rights(shown.token_id, moment)
                shown.others = {right.payment_hash: _grant(right) for right in rights}
            for grant in shown.others.values():
                if not terms.refusal(grant, msat, now):
                    return _passed(shown, grant)
        return Denial(refusal)

    def _draw(
        self,
        shown: Token,
        terms: Terms,
        msat: int,
        now: float,
        call: Callable[[], Call] | None,
    ) -> Outcome:
        """Reserve what the request costs."""
        if refused := self._unentitled(shown, terms, now):
            return refused
        order = Order(
            use_id=new_use_id(),
            token_id=shown.token_id,
            service=terms.service,
            endpoint=terms.endpoint,
            method=terms.method,
            msat=msat,
        )
        moment = datetime.fromtimestamp(self.clock(), UTC)
        held = self.store.uses.reserve(order, moment, call() if call else None)
        if isinstance(held, Reply):
            return held
        if isinstance(held, Conflict):
            return _CONFLICTS[held]
        if isinstance(held, Short):
            return _short(held, terms.refusal(shown.grant, msat, now))
        ends = min(int(held.ends_at.timestamp()), shown.grant.valid_until)
        paid = CurrentPayment(shown, terms.service, msat, ends, held.balance, held.use_id)
        if terms.metered:
            uses, most = self.store.uses, terms.most(shown)
            paid.paid, paid.meter = 0, Meter(uses, order, held.balance, most, self.clock)
        return paid

    def _unentitled(self, shown: Token, terms: Terms, now: float) -> Denial | None:
        """Return why a token may not draw on credit, whatever is left of it."""
        if shown.grant.ledger != self.store.ledger.id():
            return Denial(Reason.WRONG_LEDGER)
        if refused := self.bookings.refusal(shown):
            return refused
        # Another payment than this token's own brought the credit; it may be revoked by itself.
        own = not terms.refusal(shown.grant, 0, now)
        if not own and self.store.credits.revoked(shown.token_id, terms.service):
            return Denial(Reason.REVOKED)
        return None


def _passed(shown: Token, grant: Grant) -> CurrentPayment:
    ends = min(grant.ends_at, shown.grant.valid_until)
    return CurrentPayment(shown, grant.service, grant.msat, ends)


def _grant(right: Sale) -> Grant:
    return Grant._make(getattr(right, field) for field in Grant._fields)


def _short(held: Short, refusal: Reason | None) -> Denial:
    if held.balance is None:
        return Denial(refusal or Reason.EXHAUSTED, balance=0)
    return Denial(Reason.EXPIRED if held.ended else Reason.EXHAUSTED, balance=held.balance)
