"""The decorator that sells a view."""

import logging
from collections.abc import Callable
from datetime import timedelta
from functools import partial, wraps
from http import HTTPStatus
from inspect import iscoroutinefunction
from typing import Any, ParamSpec

from flask import Flask, Request, Response
from flask.ctx import RequestContext
from flask.globals import request_ctx
from werkzeug.exceptions import HTTPException

from l402 import signals
from l402.denials import Denial
from l402.errors import ConfigurationError
from l402.gate import Gate
from l402.limits import is_loopback, parse_rates
from l402.payment import CurrentPayment, bind, require_unsold
from l402.routes import mark, refuse_unsellable
from l402.settings import LONGEST, check_service, whole_seconds
from l402.terms import Terms

_log = logging.getLogger("l402")

P = ParamSpec("P")


def paywall(
    *,
    sats: int | Callable[[], int],
    service: str | None = None,
    valid_for: int | timedelta | None = None,
    limit: str | None = None,
    description: str | None = None,
) -> Callable[[Callable[P, Any]], Callable[P, Response]]:
    """Sell a view: who pays `sats` once may call it any number of times for `valid_for`.

    Write it below the route: ``@app.get("/quote")``, then ``@paywall(sats=10)``. It fits views of
    apps and blueprints, methods of a ``MethodView`` and async views.

    :param sats: satoshis, or a callable without arguments that gives them within the request; 0
        serves the request for free
    :param service: what the payment is good for, instead of the app's ``L402_SERVICE``; a pass
        opens every view of its service that costs no more than was paid
    :param valid_for: length of the pass, in seconds or a timedelta, instead of ``L402_VALID_FOR``
    :param limit: requests per token at this endpoint, such as ``"60/minute"``, instead of
        ``L402_RATE_LIMIT`` over all views
    :param description: what the payer reads in the invoice
    :raises ConfigurationError: an argument is wrong, or this is no view or one sold already
    """
    terms = _terms(sats, service, valid_for, limit, description)

    def decorate(view: Callable[P, Any]) -> Callable[P, Response]:
        refuse_unsellable(view)
        asynchronous = iscoroutinefunction(view)

        @wraps(view)
        def paid(*args: P.args, **kwargs: P.kwargs) -> Response:
            context: RequestContext = request_ctx._get_current_object()  # type: ignore[attr-defined]
            app, asked = context.app, context.request
            if asked.method == "OPTIONS":  # never charged, so never the view's own answer
                return app.make_default_options_response()
            require_unsold(asked)
            gate = _gate(app)
            asks = gate.terms(terms, asked.endpoint or "", asked.method)
            header = asked.environ.get("HTTP_AUTHORIZATION")
            outcome = gate.admit(asks, header, asked.remote_addr)
            if isinstance(outcome, Denial):
                _warn_of_proxy(gate, asked)
                return _refused(gate, asks, outcome)
            bind(asked, outcome)
            run = partial(app.ensure_sync(view) if asynchronous else view, *args, **kwargs)
            return _served(gate, asks, outcome, run)

        mark(paid, view, terms)
        return paid

    return decorate


def _terms(
    sats: int | Callable[[], int],
    service: str | None,
    valid_for: int | timedelta | None,
    limit: str | None,
    description: str | None,
) -> Terms:
    if not callable(sats) and (type(sats) is not int or sats < 0):
        raise ConfigurationError(f"paywall: sats={sats!r}; write an int >= 0, or a callable")
    if service is not None:
        check_service(service, "paywall: service")
    seconds = whole_seconds(valid_for) if isinstance(valid_for, timedelta) else valid_for
    if seconds is not None and (type(seconds) is not int or not 1 <= seconds <= LONGEST):
        raise ConfigurationError(
            f"paywall: valid_for={valid_for!r}; write 1 to {LONGEST} seconds, or a timedelta"
        )
    if description is not None and not (isinstance(description, str) and description.strip()):
        raise ConfigurationError(f"paywall: description={description!r}; write text, or leave it")
    return Terms(
        sats=sats,
        service=service or "",
        valid_for=seconds or 0,
        rates=None if limit is None else parse_rates(limit, "paywall: limit"),
        description=description or "",
    )


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


def _refused(gate: Gate, terms: Terms, denial: Denial) -> Response:
    reason, endpoint = denial.reason.value, terms.endpoint
    if denial.status == HTTPStatus.TOO_MANY_REQUESTS:
        signals.rate_limited.send(
            gate.sender, reason=reason, retry_after=denial.retry_after, endpoint=endpoint
        )
    signals.refused.send(gate.sender, reason=reason, endpoint=endpoint)
    return gate.mark(denial.response())


def _served(gate: Gate, terms: Terms, payment: CurrentPayment, view: Callable[[], Any]) -> Response:
    """Run the view; what happened is decided here, where it returns."""
    if payment and signals.admitted.receivers:
        signals.admitted.send(gate.sender, token_id=payment.token_id, endpoint=terms.endpoint)
    app = gate.sender
    try:
        response = app.make_response(view())
    except HTTPException as error:  # as Flask would, but with our headers on the answer
        response = app.make_response(app.handle_user_exception(error))
    if response.status_code < HTTPStatus.BAD_REQUEST:
        gate.count_use(payment)
    return gate.mark(_private(gate, response))


def _private(gate: Gate, response: Response) -> Response:
    """Keep what was sold out of shared caches (RFC 9111, sections 3.5 and 5.2.2).

    A host's later ``after_request`` can undo this.
    """
    headers = response.headers
    present = {name.lower() for name, _ in headers}  # one pass: each look-up would be another
    if "vary" in present:
        response.vary.add("Authorization")
    else:
        headers.add("Vary", "Authorization")
    if "www-authenticate" in present:  # some clients would pay again
        del headers["WWW-Authenticate"]
    if "cache-control" not in present:
        headers.add("Cache-Control", "private")
        return response
    control = response.cache_control
    if control.private != "*" and not control.no_store:  # private="field" lets caches store
        if gate.sender.debug and (control.public or control.s_maxage or control.must_revalidate):
            raise RuntimeError(
                f"a view under @paywall sets Cache-Control: {control}: one shared cache would give"
                " it away; write private, or leave it out"
            )
        control.public = False
        del control.s_maxage
        control.private = True
    return response
