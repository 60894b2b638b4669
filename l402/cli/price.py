"""Prices set while serving: every process asks them within a second."""

from typing import Any, TypeVar

import click
from flask import current_app

from l402.cli.group import Group, Misuse, NotFound, pass_gate
from l402.cli.output import json_option, print_json, print_table
from l402.cli.times import shown
from l402.gate import Gate
from l402.prices import nearest
from l402.rates import Money
from l402.routes import marked
from l402.store.prices import Price
from l402.terms import SAT, Terms, price_words, sats

T = TypeVar("T", Price, Terms)

_HELP = """Set prices while serving.

They go before those of the configuration and the code. Each command takes --json.

\b
Examples:
  flask --app shop l402 price set quote --sats 12
  flask --app shop l402 price list
  flask --app shop l402 price unset quote
"""

price = Group("price", help=_HELP)

_method = click.option("--method", help="Which of the endpoint's methods, if several are sold.")
_service = click.option("--service", help="See that this is the service that it is sold as.")
_most = click.IntRange(0, 21 * 10**17)


@price.command("set")
@click.argument("endpoint")
@_method
@_service
@click.option("--sats", "in_sats", type=_most, help="What a request costs, in satoshis …")
@click.option("--msat", "in_msat", type=_most, help="… or in thousandths of a satoshi.")
@click.option("--free", is_flag=True, help="Serve it for nothing.")
@click.option("--why", help="A reason, for the record.")
@json_option
@pass_gate
def set_(
    gate: Gate,
    *,
    endpoint: str,
    method: str | None,
    service: str | None,
    in_sats: int | None,
    in_msat: int | None,
    free: bool,
    why: str | None,
    as_json: bool,
) -> None:
    """Set what a request of ENDPOINT costs.

    It is in force in every process within a second, and goes before L402_PRICES and the price in
    the code, also one that a callable says. Whoever was offered another price just before still
    pays that; a pass that was bought at a constant price stays good at its endpoint; what a call on
    credit costs changes at once.

    \b
    Examples:
      flask --app shop l402 price set quote --sats 12 --why "the supplier's new tariff"
      flask --app shop l402 price set books --method PUT --msat 500
    """
    msat = _msat(in_sats, in_msat, free)
    terms = _sold(gate, endpoint, method, service)
    _require_sellable(gate, terms, msat)
    before = _in_force(gate, terms)
    gate.store.prices.set(terms.service, terms.endpoint, terms.method, msat, why)
    _tell(gate, terms, before, as_json)


@price.command()
@click.argument("endpoint")
@_method
@_service
@json_option
@pass_gate
def unset(
    gate: Gate, *, endpoint: str, method: str | None, service: str | None, as_json: bool
) -> None:
    """Go back to the configuration's or the code's price.

    ENDPOINT may be one that is not sold any more.

    \b
    Example:
      flask --app shop l402 price unset quote
    """
    prices = gate.store.prices.all()
    found = [each for each in prices if _named(each, endpoint, method, service)]
    if not found:
        near = nearest(endpoint, (each.endpoint for each in prices))
        raise NotFound(f"no price is set for {_name(endpoint, method, service)}{near}")
    one = _only(found, endpoint)
    terms = next((each for each in _all_sold(gate) if _key(each) == _key(one)), None)
    before = _in_force(gate, terms) if terms else {}
    gate.store.prices.unset(*_key(one))
    if terms:
        _tell(gate, terms, before, as_json)
    elif as_json:
        print_json(one._asdict() | {"price": None, "was": sats(one.msat)})
    else:
        click.echo(f"{_name(*_words(one))} has no price any more; it is not for sale either")


@price.command("list")
@json_option
@pass_gate
def list_(gate: Gate, as_json: bool) -> None:
    """List the prices that are set.

    What is in force, from wherever, flask l402 routes says.

    \b
    Example:
      flask --app shop l402 price list
    """
    prices = gate.store.prices.all()
    sold = {_key(terms): terms for terms in _all_sold(gate)}
    if as_json:
        print_json({"prices": [each._asdict() | {"sold": _key(each) in sold} for each in prices]})
        return
    rows = [
        (
            each.service, each.method, each.endpoint, sats(each.msat) if each.msat else "free",
            shown(each.set_at), _remark(each, sold.get(_key(each))),
        )
        for each in prices
    ]  # fmt: skip
    print_table(("SERVICE", "METHOD", "ENDPOINT", "PRICE", "SET", "WHY"), rows)


def _msat(in_sats: int | None, in_msat: int | None, free: bool) -> int:
    if in_sats is not None and in_msat is not None:
        raise click.UsageError("write one price, --sats or --msat")
    msat = in_sats * SAT if in_sats is not None else in_msat
    if msat is None and not free:
        raise click.UsageError("write a price, --sats or --msat, or --free")
    if free and msat:
        raise click.UsageError("--free is a price of 0")
    if not free and msat == 0:
        raise click.UsageError(
            "a price of 0 serves everybody for nothing; if that is meant, --free"
        )
    return msat or 0


def _all_sold(gate: Gate) -> list[Terms]:
    app = current_app._get_current_object()  # type: ignore[attr-defined]
    found = [gate.terms(terms, rule.endpoint, method) for rule, method, terms in marked(app)]
    return list({_key(terms): terms for terms in found}.values())


def _sold(gate: Gate, endpoint: str, method: str | None, service: str | None) -> Terms:
    """Return the one sale that is meant."""
    sold = _all_sold(gate)
    found = [terms for terms in sold if _named(terms, endpoint, method, service)]
    if found:
        return _only(found, endpoint)
    here = [terms for terms in sold if terms.endpoint == endpoint]
    near = nearest(endpoint, (terms.endpoint for terms in sold))
    if here:
        near = f"; there is {' and '.join(_name(*_words(terms)) for terms in here)}"
    raise NotFound(f"{_name(endpoint, method, service)} is not for sale{near}")


def _only(found: list[T], endpoint: str) -> T:
    if len(found) > 1:
        names = ", ".join(_name(*_words(each)) for each in found)
        raise Misuse(f"{endpoint} may mean {names}; add --method or --service")
    return found[0]


def _require_sellable(gate: Gate, terms: Terms, msat: int) -> None:
    if terms.metered and msat:
        raise Misuse(f"{terms.endpoint} is metered: its view says what a call costs; only --free")
    cost, most = -(-terms.total(msat) // SAT), gate.defaults.max_sats
    if cost > most:
        raise Misuse(f"one payment would be {cost} sat, above L402_MAX_PRICE ({most})")


def _in_force(gate: Gate, terms: Terms) -> dict[str, Any]:
    gate.prices.learn(gate.store.prices.all())
    return {"price": _shown(gate.prices.constant(terms)), "source": gate.prices.source(terms).value}


def _tell(gate: Gate, terms: Terms, before: dict[str, Any], as_json: bool) -> None:
    now = _in_force(gate, terms)
    if as_json:
        names = {"service": terms.service, "endpoint": terms.endpoint, "method": terms.method}
        print_json(names | now | {"was": before["price"], "was_source": before["source"]})
        return
    click.echo(
        f"{_name(*_words(terms))}: {now['price']} ({now['source']}), was {before['price']}"
        f" ({before['source']}); in every process within a second"
    )


def _shown(amount: int | Money | None) -> str:
    return "free" if amount == 0 else price_words(amount)


def _remark(each: Price, terms: Terms | None) -> str:
    flaw = "" if terms else "(not for sale)"
    if terms and terms.metered and each.msat:
        flaw = "(not in force: it is metered)"
    return " ".join(filter(None, (each.why, flaw))) or "-"


def _named(each: Price | Terms, endpoint: str, method: str | None, service: str | None) -> bool:
    return (
        each.endpoint == endpoint
        and (method is None or each.method == method.upper())
        and (service is None or each.service == service)
    )


def _key(each: Price | Terms) -> tuple[str, str, str]:
    return each.service, each.endpoint, each.method


def _words(each: Price | Terms) -> tuple[str, str, str]:
    return each.endpoint, each.method, each.service


def _name(endpoint: str, method: str | None, service: str | None) -> str:
    named = f"{method.upper()} {endpoint}" if method else endpoint
    return f"{named} of {service}" if service else named
