"""The decorator that sells a view."""

import logging
from collections.abc import Callable, Collection
from datetime import timedelta
from functools import partial, wraps
from http import HTTPStatus
from inspect import iscoroutinefunction
from typing import Any, ParamSpec

from flask import Flask, Request, Response
from flask.ctx import RequestContext
from flask.globals import request_ctx
from werkzeug.exceptions import HTTPException

from l402 import idempotency, signals, streams
from l402.accounts import UNRECORDED
from l402.addresses import is_loopback
from l402.caching import kept_private
from l402.denials import BALANCE, Denial, Reason
from l402.errors import ConfigurationError, CreditExhausted, Malformed, StoreError
from l402.gate import Gate
from l402.metering import Tally
from l402.offer import Price, offered
from l402.payment import PAYMENT, CurrentPayment, claim
from l402.protocol.token import CREDIT
from l402.routes import mark, refuse_unsellable
from l402.store.replies import Reply
from l402.terms import Terms
from l402.validation import Rejection

_log = logging.getLogger("l402")

P = ParamSpec("P")


def paywall(
    *,
    sats: Price | None = None,
    msat: Price | None = None,
    price: str | None = None,
    uses: int | None = None,
    credit: int | None = None,
    reserve: int | None = None,
    charge_on: Collection[int] | None = None,
    service: str | None = None,
    valid_for: int | timedelta | None = None,
    limit: str | None = None,
    description: str | None = None,
    validate: Callable[[], Any] | None = None,
) -> Callable[[Callable[P, Any]], Callable[P, Response]]:
    """Sell a view: a pass for a time, or credit from which each call is paid.

    ``@paywall(sats=10)`` sells a pass: who pays 10 sat once may call the view any number of times
    for `valid_for`. ``@paywall(sats=2, uses=100)`` sells 100 calls for one payment of 200 sat,
    ``uses=1`` each call by itself, and ``@paywall(sats=2, credit=500)`` 500 sat of credit. Under
    ``@paywall(credit=500, reserve=50)`` the view says what each call costs, as it goes on:
    ``current_payment.charge(msat=100)``.

    Write it below the route: ``@app.get("/quote")``, then ``@paywall(sats=10)``. It fits views of
    apps and blueprints, methods of a ``MethodView`` and async views.

    :param sats: the price in satoshis, or a callable without arguments that gives it within the
        request; 0 serves the request for free
    :param msat: the price in thousandths of a satoshi, instead
    :param price: the price in a currency, instead, such as ``"0.01 USD"``; see ``L402_RATES``
    :param uses: how many calls one payment buys, at the price of the call that is refused
    :param credit: how many satoshis one payment buys
    :param reserve: instead of a price, how many satoshis of the credit are set aside for a call
        before it is served, and again whenever it has charged as much
    :param charge_on: the statuses of answers that are charged to a credit, instead of all below
        400
    :param service: what the payment is good for, instead of the app's ``L402_SERVICE``; a pass
        opens every view of its service that costs no more than was paid, credit every view of its
        service that draws on credit
    :param valid_for: length of the pass, in seconds or a timedelta, instead of ``L402_VALID_FOR``
    :param limit: requests per token at this endpoint, such as ``"60/minute"``, instead of
        ``L402_RATE_LIMIT`` over all views
    :param description: what the payer reads in the invoice
    :param validate: a callable without arguments that is called within the request before
        anything is sold; what it returns, unless that is None, or the HTTPException it raises is
        the answer, so that nobody pays for what cannot be served
    :raises ConfigurationError: an argument is wrong, or this is no view or one sold already
    """
    terms = offered(
        sats=sats,
        msat=msat,
        price=price,
        uses=uses,
        credit=credit,
        reserve=reserve,
        charge_on=charge_on,
        service=service,
        valid_for=valid_for,
        limit=limit,
        description=description,
        validate=validate,
    )

    def decorate(view: Callable[P, Any]) -> Callable[P, Response]:
        refuse_unsellable(view)
        asynchronous = iscoroutinefunction(view)

        @wraps(view)
        def paid(*args: P.args, **kwargs: P.kwargs) -> Response:
            context: RequestContext = request_ctx._get_current_object()  # type: ignore[attr-defined]
            app, asked = context.app, context.request
            if asked.method == "OPTIONS":  # never charged, so never the view's own answer
                return app.make_default_options_response()
            claim(asked)
            gate = _gate(app)
            asks = gate.terms(terms, asked.endpoint or "", asked.method)
            call = app.ensure_sync(view) if asynchronous else view  # fails if it cannot be called
            try:
                again = idempotency.call(asked) if asks.kind == CREDIT else None
                header = asked.environ.get("HTTP_AUTHORIZATION")
                outcome = gate.admit(asks, header, asked.remote_addr, again)
            except Malformed as error:
                outcome = Denial(Reason.MALFORMED, detail=str(error))
            if isinstance(outcome, CurrentPayment):
                asked.environ[PAYMENT] = outcome
                served = partial(call, *args, **kwargs)
                response = _served(gate, asks, asked, outcome, served)
            else:
                response = _answered(gate, asks, asked, outcome)
            return gate.mark(response)

        mark(paid, view, terms)
        return paid

    return decorate


def _gate(app: Flask) -> Gate:
    gate = app.extensions.get("l402")
    if not isinstance(gate, Gate):
        raise ConfigurationError(
            "a view under @paywall, but no L402 on this app; write L402(app), or l402.init_app(app)"
        )
    return gate


def _warn_of_proxy(gate: Gate, asked: Request) -> None:
    """Say once that all callers share one address, and so one limit on challenges."""
    forwarded = "HTTP_X_FORWARDED_FOR" in asked.environ or "HTTP_FORWARDED" in asked.environ
    unmended = "werkzeug.proxy_fix.orig" not in asked.environ
    if forwarded and unmended and not gate.warned and is_loopback(asked.remote_addr):
        gate.warned = True
        _log.warning(
            "requests come through a proxy, and all of them count as %s: wrap app.wsgi_app in"
            " werkzeug's ProxyFix, or one limit on challenges serves all callers",
            asked.remote_addr,
        )


def _answered(
    gate: Gate, terms: Terms, asked: Request, outcome: Reply | Denial | Rejection
) -> Response:
    """Answer without running the view: as before, by a refusal, or as ``validate`` would."""
    if isinstance(outcome, Rejection):
        return kept_private(gate.sender, _response(gate.sender, outcome.given))
    if isinstance(outcome, Reply):
        response = idempotency.replayed(outcome)
        response.headers[BALANCE] = str(outcome.balance)
        return kept_private(gate.sender, response)
    _warn_of_proxy(gate, asked)
    reason, endpoint = outcome.reason.value, terms.endpoint
    if outcome.status == HTTPStatus.TOO_MANY_REQUESTS:
        signals.rate_limited.send(
            gate.sender, reason=reason, retry_after=outcome.retry_after, endpoint=endpoint
        )
    signals.refused.send(gate.sender, reason=reason, endpoint=endpoint)
    return outcome.response()


def _served(
    gate: Gate, terms: Terms, asked: Request, payment: CurrentPayment, view: Callable[[], Any]
) -> Response:
    """Run the view; what happened, and whether it is charged, is decided where it returns."""
    if terms.metered and payment.meter is None:
        payment.meter = Tally()  # free this time
    try:
        if signals.admitted.receivers and payment:
            signals.admitted.send(gate.sender, token_id=payment.token_id, endpoint=terms.endpoint)
        response = kept_private(gate.sender, _response(gate.sender, view))
        charged = terms.charges(response.status_code)
        kept = payment.use_id and charged and "HTTP_IDEMPOTENCY_KEY" in asked.environ
        answer = idempotency.answer(response) if kept else None
    except BaseException as error:  # also what ends a worker: all that is reserved is given back
        gate.accounts.settle(payment, charged=False)
        if payment.meter is None:
            raise
        payment.meter.close()
        return _answered(gate, terms, asked, _unmetered(gate, terms, asked, payment, error))
    if payment.use_id:
        try:
            streams.settle(gate, terms, asked, payment, response, charged, answer)
        except StoreError:  # what cannot be charged is not handed out
            response.close()
            return _answered(gate, terms, asked, UNRECORDED)
        response.headers[BALANCE] = str(payment.balance)
    if charged and payment.token:
        gate.sync.count_use(payment.token.token_id, gate.clock())
    return response


def _unmetered(
    gate: Gate, terms: Terms, asked: Request, payment: CurrentPayment, error: BaseException
) -> Denial:
    """Say why a view could not charge what it wanted; any other fault of it passes through."""
    if isinstance(error, CreditExhausted):
        return gate.exhausted(terms, payment, error, asked.remote_addr)
    if isinstance(error, StoreError):
        return UNRECORDED
    raise error


def _response(app: Flask, view: Callable[[], Any]) -> Response:
    try:
        return app.make_response(view())
    except HTTPException as error:  # as Flask would, but with our headers on the answer
        return app.make_response(app.handle_user_exception(error))
