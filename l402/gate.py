"""The gate: who may pass, and what the others are told.

::

    header text → authorization.parse → token.verify → limits → accounts.open → the view
       refused, and paying would help → issuer.offer: node.create_invoice → token.mint → 402

Cheap and stateless first: a forged token never reaches the limiter, a flood never reaches SQL.
"""

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from http import HTTPStatus
from typing import NamedTuple

from flask import Flask, Response

from l402 import routes
from l402.accounts import REPEATED, UNRECORDED, Accounts, Outcome
from l402.bookings import Bookings
from l402.denials import Denial, Reason
from l402.errors import CreditExhausted, Invalid, Malformed, RateError
from l402.holders import Holders
from l402.issuer import Issuer, Refused
from l402.limits import Limits
from l402.nodes.desk import NodeDesk
from l402.payment import CurrentPayment
from l402.prices import Prices, Quote, Today
from l402.protocol.keys import KeyRing
from l402.protocol.token import CREDIT, PASS, Token
from l402.store import Store
from l402.store.replies import Call
from l402.sync import MAX_AGE, Sync
from l402.terms import SAT, Terms
from l402.validation import rejection


class Defaults(NamedTuple):
    """What a view's terms leave open, from the app's settings; times in seconds."""

    service: str
    network: str
    valid_for: int
    credit_valid_for: int
    invoice_expiry: int
    max_sats: int
    strict: bool


class Gate:
    """One app's gate; ``app.extensions["l402"]``."""

    def __init__(
        self,
        *,
        sender: Flask,
        defaults: Defaults,
        keys: KeyRing,
        desk: NodeDesk,
        store: Store,
        limits: Limits,
        prices: Prices,
        grace: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.sender, self.defaults, self.keys = sender, defaults, keys
        self.desk, self.store, self.limits, self.clock = desk, store, limits, clock
        self.prices, self.holders = prices, Holders(keys, limits, prices)
        self.sync = Sync(store, self.holders.forget, prices.learn, grace)
        self.bookings = Bookings(
            sender=sender,
            store=store,
            sync=self.sync,
            desk=desk,
            strict=defaults.strict,
            clock=clock,
        )
        self.accounts = Accounts(store, self.bookings, clock)
        self.issuer = Issuer(
            sender=sender,
            keys=keys,
            desk=desk,
            store=store,
            sync=self.sync,
            invoice_expiry=defaults.invoice_expiry,
            max_sats=defaults.max_sats,
            clock=clock,
        )
        self.warned = False  # of a proxy that hides all callers behind one address
        self._terms: dict[tuple[Terms, str, str], Terms] = {}

    def terms(self, terms: Terms, endpoint: str, method: str) -> Terms:
        """Return a view's terms with what they leave open filled in; HEAD is GET."""
        key = (terms, endpoint, method)
        known = self._terms.get(key)
        if known is None:
            credit = terms.kind == CREDIT
            length = self.defaults.credit_valid_for if credit else self.defaults.valid_for
            known = replace(
                terms,
                service=terms.service or self.defaults.service,
                valid_for=terms.valid_for or length,
                network=self.defaults.network,
                endpoint=endpoint,
                method="GET" if method == "HEAD" else method,
                sold_directly=routes.sells(self.sender, endpoint, method, terms),
            )
            known = self._terms[key] = self.prices.configure(known)
        return known

    def admit(
        self,
        terms: Terms,
        header: str | None,
        address: str | None,
        call: Callable[[], Call] | None = None,
    ) -> Outcome:
        """Judge one request: what opens the view, an earlier answer, or the refusal to send.

        `header` is the raw text of Authorization, `address` the caller's, `call` gives the
        request's Idempotency-Key.

        :raises PriceError: the view's price is none that can be sold at
        """
        fresh = self.sync.refresh() <= MAX_AGE  # also of prices
        if not fresh and self.sync.unread:
            return UNRECORDED  # what is free in the code may have a price
        now = self.clock()
        if header and fresh and (again := self.holders.again(header, terms, now)) is not None:
            return again
        if self.prices.free(terms):
            return rejection(terms.validate) or CurrentPayment(None)
        try:
            tokens, reason = self.holders.authentic(header), Reason.NO_CREDENTIAL
        except Malformed as error:
            return Denial(Reason.MALFORMED, detail=str(error))
        except Invalid:
            tokens, reason = (), Reason.INVALID
        keys = [shown for shown in tokens if not terms.locked(shown, now)]
        if keys:
            return self._open(keys, terms, now, address, call)
        locked = terms.locked(tokens[0], now) if tokens else None
        refused = [(Denial(locked or reason), None)]
        # Whoever holds no key is counted before anything of the host's runs: it may be dear.
        if wait := self.limits.admit_challenge(address):
            return Denial(Reason.CHALLENGES_LIMITED, retry_after=wait)
        return rejection(terms.validate) or self._offer(refused, terms, Today(self.prices, terms))

    def exhausted(
        self, terms: Terms, payment: CurrentPayment, error: CreditExhausted, address: str | None
    ) -> Denial:
        """Offer the account what a metered call lacks, as far as the caller may be offered any."""
        if wait := self.limits.admit_challenge(address):
            return Denial(Reason.CHALLENGES_LIMITED, retry_after=wait)
        refused = Denial(Reason(error.reason), balance=payment.balance), payment.token
        # Above the highest price it is paid for in parts: what was bought adds up.
        msat = min(error.msat, self.defaults.max_sats * SAT)
        return self.issuer.offer([refused], terms, Quote(msat, False))

    def mark(self, response: Response) -> Response:
        """Say on an answer of ours if no real money is asked for."""
        if self.defaults.network == "simulated":
            response.headers.add("L402-Simulated", "no real money")
        return response

    def _open(
        self,
        keys: Sequence[Token],
        terms: Terms,
        now: float,
        address: str | None,
        call: Callable[[], Call] | None,
    ) -> Outcome:
        """Let the first token through that is within its limit and whose account suffices."""
        today = Today(self.prices, terms)
        waits: list[int] = []
        refused: list[Refused] = []
        for shown in keys:
            if wait := self.limits.admit(shown.token_id, terms.rates, terms.endpoint):
                waits.append(wait)
                continue
            check = None if refused else terms.validate
            if told := self._before(shown, terms, now, call) or rejection(check):
                return told
            outcome = self._try(shown, terms, today, now, call)
            if not isinstance(outcome, Denial) or outcome.reason in REPEATED:
                return outcome
            refused.append((outcome, shown))
        if not refused:
            return Denial(Reason.RATE_LIMITED, retry_after=min(waits))
        # What paying cannot mend goes first: who has paid is told to wait, and not to pay again.
        denial, _ = min(refused, key=lambda pair: pair[0].status == HTTPStatus.PAYMENT_REQUIRED)
        if denial.status != HTTPStatus.PAYMENT_REQUIRED:
            return denial
        if wait := self.limits.admit_challenge(address):
            return Denial(Reason.CHALLENGES_LIMITED, retry_after=wait)
        return self._offer(refused, terms, today)

    def _try(
        self,
        shown: Token,
        terms: Terms,
        today: Today,
        now: float,
        call: Callable[[], Call] | None,
    ) -> Outcome:
        """Ask the account of one token, at the price that holds for it."""
        edition = self.prices.edition
        try:
            msat = terms.agreed(shown.grant, now, today)
        except RateError as error:
            unknown = Denial(Reason.RATE_UNAVAILABLE, retry_after=error.retry_after)
            return self._at_any_price(shown, terms, now) or unknown
        if msat == 0:
            return CurrentPayment(None)
        outcome = self.accounts.open(shown, terms, msat, now, call)
        if terms.kind == PASS and isinstance(outcome, CurrentPayment):
            self.holders.note(shown, terms, outcome, edition, now)
        return outcome

    def _before(
        self, shown: Token, terms: Terms, now: float, call: Callable[[], Call] | None
    ) -> Outcome | None:
        """Answer a call again that was answered before, under its Idempotency-Key."""
        return self.accounts.answered(shown, terms, now, call) if call else None

    def _at_any_price(self, shown: Token, terms: Terms, now: float) -> CurrentPayment | None:
        """Let in who holds a pass that was bought here for a price that is signed."""
        if terms.kind != PASS:
            return None
        outcome = self.accounts.open(shown, terms, sys.maxsize, now)
        return outcome if isinstance(outcome, CurrentPayment) else None

    def _offer(self, refused: Sequence[Refused], terms: Terms, today: Today) -> Outcome:
        """Offer what would mend a refusal at today's price; nothing is needed if that is 0."""
        try:
            quote = today()
        except RateError as error:
            return Denial(Reason.RATE_UNAVAILABLE, retry_after=error.retry_after)
        return self.issuer.offer(refused, terms, quote) if quote.msat else CurrentPayment(None)
