"""What is for sale: the routes under a paywall."""

from collections.abc import Iterable
from dataclasses import dataclass

import click
from flask import current_app

from l402 import routes as sold_routes
from l402.cli.group import pass_gate
from l402.cli.output import json_option, print_json, print_table
from l402.gate import Gate
from l402.terms import Terms, sats


@dataclass(slots=True)
class _Offer:
    """One rule, with the methods that are sold on the same terms."""

    rule: str
    methods: list[str]
    terms: Terms


@click.command()
@json_option
@pass_gate
def routes(gate: Gate, as_json: bool) -> None:
    """Say what is sold, and for how much.

    Each route under a paywall is listed with its methods, its price and what one payment buys.

    It fails if a paywall does not protect its route: let a deployment ask it first.

    \b
    Example:
      flask --app shop l402 routes
    """
    app = current_app._get_current_object()  # type: ignore[attr-defined]
    sold_routes.check(app)
    offers = _offers(gate, sold_routes.sold(app))
    if as_json:
        print_json({"routes": [_document(gate, offer) for offer in offers]})
        return
    rows = [
        (o.rule, ",".join(o.methods), _price(o.terms), o.terms.service, gate.prices.words(o.terms))
        for o in offers
    ]
    print_table(("RULE", "METHODS", "PRICE", "SERVICE", "SOLD"), rows)


def _offers(gate: Gate, routes: Iterable[sold_routes.Route]) -> list[_Offer]:
    offers: dict[tuple[str, str, Terms], _Offer] = {}
    for route in routes:
        resolved = gate.terms(route.terms, route.endpoint, route.method)
        key = (route.rule, route.endpoint, route.terms)
        offers.setdefault(key, _Offer(route.rule, [], resolved)).methods.append(route.method)
    return list(offers.values())


def _price(terms: Terms) -> str:
    if terms.constant is None:
        return "per request"
    return sats(terms.constant) if terms.constant else "free"


def _document(gate: Gate, offer: _Offer) -> dict[str, object]:
    terms = offer.terms
    return {
        "rule": offer.rule,
        "methods": offer.methods,
        "endpoint": terms.endpoint,
        "service": terms.service,
        "price_msat": terms.constant,
        "kind": terms.kind,
        "valid_for": terms.valid_for,
        "sold": gate.prices.words(terms),
    }
