"""What is for sale: the routes under a paywall."""

from collections.abc import Iterable
from dataclasses import dataclass

import click
from flask import current_app

from l402 import routes as sold_routes
from l402.cli.group import pass_gate
from l402.cli.output import json_option, print_json, print_table
from l402.gate import Gate
from l402.prices import Source
from l402.rates import Money
from l402.terms import Terms, price_words


@dataclass(slots=True)
class _Offer:
    """One rule, with the methods that are sold on the same terms and at the same price."""

    rule: str
    methods: list[str]
    terms: Terms
    price: int | Money | None
    source: Source


@click.command()
@json_option
@pass_gate
def routes(gate: Gate, as_json: bool) -> None:
    """Say what is sold, and for how much.

    Each route under a paywall is listed with its methods, its price and what one payment buys.
    The price is the one in force: set at run time (see price), configured, or that of the code.

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
        (o.rule, ",".join(o.methods), _price(o), o.terms.service, gate.prices.words(o.terms))
        for o in offers
    ]
    print_table(("RULE", "METHODS", "PRICE", "SERVICE", "SOLD"), rows)


def _offers(gate: Gate, routes: Iterable[sold_routes.Route]) -> list[_Offer]:
    offers: dict[tuple[object, ...], _Offer] = {}
    for route in routes:
        terms = gate.terms(route.terms, route.endpoint, route.method)
        price, source = gate.prices.constant(terms), gate.prices.source(terms)
        key = (route.rule, route.endpoint, route.terms, price, source)
        offer = offers.setdefault(key, _Offer(route.rule, [], terms, price, source))
        offer.methods.append(route.method)
    return list(offers.values())


def _price(offer: _Offer) -> str:
    if offer.price == 0:
        price = "free"
    elif offer.terms.metered:
        price = "metered"
    else:
        price = "per request" if offer.price is None else price_words(offer.price)
    return price if offer.source is Source.CODE else f"{price} ({offer.source})"


def _document(gate: Gate, offer: _Offer) -> dict[str, object]:
    terms = offer.terms
    return {
        "rule": offer.rule,
        "methods": offer.methods,
        "endpoint": terms.endpoint,
        "service": terms.service,
        "price_msat": offer.price if isinstance(offer.price, int) else None,
        "price_from": offer.source,
        "kind": terms.kind,
        "valid_for": terms.valid_for,
        "sold": gate.prices.words(terms),
    }
