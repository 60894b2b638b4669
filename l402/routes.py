"""Which routes of an app are sold, on what terms, and which are left open by mistake."""

import inspect
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from flask import Flask
from werkzeug.routing import Rule

from l402.errors import ConfigurationError
from l402.prices import Prices
from l402.rates import make_rates
from l402.terms import Terms

_TERMS, _SOLD_BY = "_l402_terms", "_l402_sold_by"
_HTTP_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


class Route(NamedTuple):
    """A rule that is sold, with the terms of one of its methods.

    `words` say what one payment buys, such as ``10 sat, any number of calls for 1 h``.
    """

    rule: str
    method: str
    endpoint: str
    terms: Terms
    words: str


def refuse_unsellable(view: Callable[..., Any]) -> None:
    """Raise if `view` cannot be put under a paywall, or is under one already.

    :raises ConfigurationError: it says what to write
    """
    if inspect.isclass(view):
        raise ConfigurationError(
            f"paywall: {view.__name__} is a class; put @paywall above its methods, or write"
            " decorators = [paywall(…)] in it"
        )
    if not callable(view):
        raise ConfigurationError("paywall: write @paywall(sats=10) above a view function")
    if getattr(view, _TERMS, None) is not None:
        raise ConfigurationError(
            f"paywall: {view.__qualname__} is under a paywall already; one view has one price"
        )


def mark(paid: Callable[..., Any], view: Callable[..., Any], terms: Terms) -> None:
    """Note on both functions that `paid` sells `view`; ``functools.wraps`` carries it upward."""
    setattr(paid, _TERMS, terms)
    for link in _chain(view):
        inner = getattr(link, "__func__", link)  # a bound method takes no attributes
        if hasattr(inner, "__dict__"):
            setattr(inner, _SOLD_BY, paid)


def sells(app: Flask, endpoint: str, method: str, terms: Terms) -> bool:
    """Tell whether an endpoint and method are sold on `terms`, rather than call what is."""
    view = app.view_functions.get(endpoint)
    return terms is getattr(view, _TERMS, None) or terms is _method_terms(view, method)


def sold(app: Flask) -> Iterator[Route]:
    """Yield every rule and method under a paywall, in the order of registration.

    The words are of the prices in force now; while the record does not answer, of the last ones
    that this process knew.
    """
    gate: Any = app.extensions.get("l402")
    if gate:
        gate.sync.refresh()
    for rule, method, terms in marked(app):
        asks = gate.terms(terms, rule.endpoint, method) if gate else terms
        words = (gate.prices if gate else Prices({}, make_rates(None))).words(asks)
        yield Route(rule.rule, method, rule.endpoint, terms, words)


def marked(app: Flask) -> Iterator[tuple[Rule, str, Terms]]:
    """Yield every rule under a paywall with each method that is sold, and the terms as written."""
    for rule in app.url_map.iter_rules():
        view = app.view_functions.get(rule.endpoint)
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
            terms = getattr(view, _TERMS, None) or _method_terms(view, method)
            if terms is not None:
                yield rule, method, terms


def check(app: Flask) -> None:
    """Refuse an app on which a paywall does not protect its route.

    Nor may a price be configured for what is not sold.

    :raises ConfigurationError: it names the view and says what to write
    """
    gate: Any = app.extensions.get("l402")
    if gate:
        gate.prices.check(gate.terms(terms, r.endpoint, by) for r, by, terms in marked(app))
    for endpoint, view in app.view_functions.items():
        if hasattr(view, _SOLD_BY) and getattr(view, _TERMS, None) is None:
            raise ConfigurationError(
                f"the route of {endpoint} is open, though its function is under a paywall: write"
                " @app.get(…) first and @paywall(…) below it; a route that is meant to be free"
                " needs a function of its own"
            )
        if getattr(view, _TERMS, None) and any(_method_terms(view, m) for m in _HTTP_METHODS):
            raise ConfigurationError(
                f"{endpoint} is under two paywalls, its class's and a method's; keep one"
            )


def _method_terms(view: object, method: str) -> Terms | None:
    """The terms of a ``MethodView``'s method; HEAD is served by its ``get``."""
    view_class = getattr(view, "view_class", None)
    for name in (method.lower(), "dispatch_request"):
        terms: Terms | None = getattr(getattr(view_class, name, None), _TERMS, None)
        if terms is not None:
            return terms
    return None


def _chain(view: Callable[..., Any] | None) -> Iterator[Callable[..., Any]]:
    while view is not None:
        yield view
        view = getattr(view, "__wrapped__", None)
