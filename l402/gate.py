"""The gate: who may pass, and what the others are told.

::

    header text → authorization.parse → token.verify → limits → terms → store → the view
       refused, and paying would help → node.create_invoice → token.mint → challenge → 402

Cheap and stateless first: a forged token never reaches the limiter, a flood never reaches SQL.
"""

import logging
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from flask import Flask, Response

from l402 import routes, signals
from l402.cache import VerifiedTokens
from l402.denials import Denial, Reason
from l402.errors import Invalid, Malformed, NodeError, PriceError, StoreError
from l402.limits import Limits
from l402.nodes.base import Settlement
from l402.nodes.desk import NodeDesk
from l402.payment import CurrentPayment
from l402.protocol import authorization, token
from l402.protocol.challenge import Challenge
from l402.protocol.keys import KeyRing
from l402.protocol.token import Grant, Token
from l402.store import Store
from l402.store.payments import Sale
from l402.store.revocations import Revoked
from l402.sync import Sync
from l402.terms import Terms

_log = logging.getLogger("l402.gate")

_RETRY_STORE = 2  # seconds, for Retry-After
_RETRY_UNSETTLED = 3
#: How often, and how far apart, a payment in flight is asked for before the caller is told to wait.
_SETTLEMENT_TRIES, _SETTLEMENT_PAUSE = 4, 0.25
_DESCRIPTION_BYTES = 600  # of BOLT11's 639; the rest is the handle's


@dataclass(frozen=True, slots=True)
class Defaults:
    """What a view's terms leave open, from the app's settings; times in seconds."""

    service: str
    network: str
    valid_for: int
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
        grace: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.sender, self.defaults, self.keys = sender, defaults, keys
        self.desk, self.store, self.limits, self.clock = desk, store, limits, clock
        self.verified = VerifiedTokens()
        self.sync = Sync(store, self._evict, grace)
        self.warned = False  # of a proxy that hides all callers behind one address
        self._terms: dict[tuple[Terms, str, str], Terms] = {}

    def terms(self, terms: Terms, endpoint: str, method: str) -> Terms:
        """Return a view's terms with what they leave open filled in; HEAD is GET."""
        key = (terms, endpoint, method)
        if key not in self._terms:
            self._terms[key] = replace(
                terms,
                service=terms.service or self.defaults.service,
                valid_for=terms.valid_for or self.defaults.valid_for,
                network=self.defaults.network,
                endpoint=endpoint,
                method="GET" if method == "HEAD" else method,
                sold_directly=routes.sells(self.sender, endpoint, method, terms),
            )
        return self._terms[key]

    def admit(
        self, terms: Terms, header: str | None, address: str | None
    ) -> CurrentPayment | Denial:
        """Judge one request: the right that opens the view, or the refusal to answer with.

        `header` is the raw text of Authorization, `address` the caller's.

        :raises PriceError: the view's price is none that can be sold at
        """
        if terms.sats == 0:
            return CurrentPayment(None)
        try:
            tokens, reason = self.authentic(header), Reason.NO_CREDENTIAL
        except Malformed as error:
            return Denial(Reason.MALFORMED, detail=str(error))
        except Invalid:
            tokens, reason = (), Reason.INVALID
        now = self.clock()
        fitting = [shown for shown in tokens if not terms.misfit(shown, now)]
        if fitting:
            return self._open(fitting, terms, now, address)
        # Whoever holds nothing that fits is counted before a price callable runs: it may be dear.
        if wait := self.limits.admit_challenge(address):
            return Denial(Reason.CHALLENGES_LIMITED, retry_after=wait)
        if (msat := terms.price()) == 0:
            return CurrentPayment(None)
        misfit = terms.misfit(tokens[0], now) if tokens else None
        return self._challenge(terms, msat, misfit or reason)

    def authentic(self, header: str | None) -> tuple[Token, ...]:
        """Return the tokens of a header that are ours and paid for; none if it shows none.

        :raises Malformed: no credential in it has the right form
        :raises Invalid: it shows credentials, and none is authentic
        """
        if header is None:
            return ()
        if (known := self.verified.get(header)) is not None:
            return known
        tokens, fault = [], None
        for credential in authorization.parse(header):
            try:
                tokens.append(token.verify(self.keys, credential))
            except (Invalid, Malformed) as error:
                fault = error if fault is None or isinstance(error, Invalid) else fault
        if fault and not tokens:
            raise fault
        if tokens:
            self.verified.put(header, tuple(tokens))
        return tuple(tokens)

    def mark(self, response: Response) -> Response:
        """Say on an answer of ours if no real money is asked for."""
        if self.defaults.network == "simulated":
            response.headers.add("L402-Simulated", "no real money")
        return response

    def sale(self, shown: Token) -> Sale:
        """Return what the record keeps of a token: only what we signed."""
        return Sale(shown.payment_hash, shown.token_id, **shown.grant._asdict())

    def count_use(self, payment: CurrentPayment) -> None:
        """Note that a paid request was answered with a success."""
        if payment.token:
            self.sync.count_use(payment.token.token_id, self.clock())

    def _open(
        self, fitting: list[Token], terms: Terms, now: float, address: str | None
    ) -> CurrentPayment | Denial:
        """Let the first token through that is within its limit, covers the price and is booked."""
        within = [shown for shown in fitting if not self._wait(shown, terms)]
        if not within:
            return Denial(Reason.RATE_LIMITED, retry_after=self._wait(fitting[0], terms))
        if (msat := terms.price()) == 0:
            return CurrentPayment(None)
        reasons: list[Reason] = []
        denials: list[Denial] = []
        for shown in within:
            refusal = terms.shortfall(shown, msat, now) or self._record(shown)
            if refusal is None:
                return CurrentPayment(shown)
            if isinstance(refusal, Denial):
                denials.append(refusal)
            else:
                reasons.append(refusal)
        if denials:
            return denials[0]
        if wait := self.limits.admit_challenge(address):
            return Denial(Reason.CHALLENGES_LIMITED, retry_after=wait)
        return self._challenge(terms, msat, reasons[0])

    def _wait(self, shown: Token, terms: Terms) -> int:
        return self.limits.admit(shown.token_id, terms.rates, terms.endpoint)

    def _record(self, shown: Token) -> Denial | Reason | None:
        """See that a covering token is booked and not revoked; return why it is refused if not."""
        try:
            self.sync.require_fresh(grace=shown.booked)
            return None if shown.booked else self._book(shown)
        except StoreError as error:
            _log.debug("a valid token met a store that does not answer: %s", error)
            return Denial(Reason.STORE_UNAVAILABLE, retry_after=_RETRY_STORE)

    def _book(self, shown: Token) -> Denial | Reason | None:
        """Write a payment into the record, once; return why the token is refused all the same."""
        if self.defaults.strict and not self.store.payments.recorded(shown.payment_hash):
            refusal = self._unsettled(shown.payment_hash)
            if refusal:
                return refusal
        now = datetime.fromtimestamp(self.clock(), UTC)
        settled_at = now if self.defaults.strict else None
        standing = self.store.payments.admit(self.sale(shown), now, settled_at)
        if standing.revoked:
            return Reason.REVOKED
        if standing.late:
            return Reason.EXPIRED
        shown.booked = True
        if standing.first:
            signals.first_paid.send(
                self.sender,
                token_id=shown.token_id.hex(),
                payment_hash=shown.payment_hash.hex(),
                msat=shown.grant.msat,
            )
        return None

    def _unsettled(self, payment_hash: bytes) -> Denial | Reason | None:
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
                return Reason.UNPAID
        return wait

    def _challenge(self, terms: Terms, msat: int, reason: Reason) -> Denial:
        """Offer a sale: a fresh invoice, and a token that is good once it is paid."""
        sats = -(-msat // 1000)  # some nodes and clients know nothing smaller
        if sats > self.defaults.max_sats:
            raise PriceError(
                f"{terms.endpoint} asks {sats} sat, above L402_MAX_PRICE ({self.defaults.max_sats})"
            )
        token_id = secrets.token_bytes(32)
        try:
            self.sync.require_fresh()  # nobody pays for what cannot be booked
            invoice = self.desk.create_invoice(
                sats * 1000, self._description(terms, token_id), self.defaults.invoice_expiry
            )
        except StoreError:
            return Denial(Reason.STORE_UNAVAILABLE, retry_after=_RETRY_STORE)
        except NodeError as error:
            return Denial(Reason.NODE_UNAVAILABLE, retry_after=error.retry_after)
        grant = self._grant(terms, invoice.msat, invoice.expires_at)
        raw = token.mint(self.keys, invoice.payment_hash, token_id, grant)
        self.sync.count_challenge(terms.service, terms.endpoint, self.clock())
        signals.challenged.send(
            self.sender,
            reason=reason.value,
            token_id=token_id.hex(),
            msat=invoice.msat,
            endpoint=terms.endpoint,
        )
        challenge = Challenge(raw, invoice.bolt11, invoice.payment_hash, invoice.msat, msat)
        return Denial(reason, challenge)

    def _grant(self, terms: Terms, msat: int, starts_at: int) -> Grant:
        ends_at = starts_at + terms.valid_for
        return Grant(
            terms.service, terms.kind, msat, terms.network, int(self.clock()),
            starts_at, ends_at, ends_at, terms.method, terms.endpoint,
        )  # fmt: skip

    def _description(self, terms: Terms, token_id: bytes) -> str:
        text = terms.description or f"{terms.service}: {terms.method} {terms.endpoint}"
        text = text.encode()[:_DESCRIPTION_BYTES].decode(errors="ignore")
        return f"{text} {self.keys.handle(token_id)}"

    def _evict(self, revoked: Sequence[Revoked]) -> None:
        """Have revoked tokens ask the record again; it refuses them."""
        if not revoked:
            return
        subjects = {rule.subject for rule in revoked if rule.issued_before is None}
        services = {
            rule.subject: rule.issued_before.timestamp()
            for rule in revoked
            if rule.issued_before is not None
        }

        def concerns(shown: Token) -> bool:
            token_id, grant = shown.token_id.hex(), shown.grant
            names = {token_id, token_id[:16], shown.payment_hash.hex()}
            return not names.isdisjoint(subjects) or grant.issued_at < services.get(
                grant.service, 0
            )

        self.verified.evict(concerns)
