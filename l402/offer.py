"""What a paywall offers, from the arguments that a developer wrote: checked, and made terms."""

from collections.abc import Callable, Collection
from datetime import timedelta
from inspect import iscoroutinefunction
from typing import Any

from l402.errors import ConfigurationError
from l402.limits import parse_rates
from l402.protocol.token import CREDIT, PASS
from l402.rates import Money
from l402.settings import LONGEST, check_service, whole_seconds
from l402.terms import SAT, Amount, Terms

Price = int | Callable[[], int]

_NEVER_CHARGED = {402, 429, 503}  # they ask the caller to come again
_MOST = 21 * 10**17  # msat: more than there is


def offered(
    *,
    sats: Price | None,
    msat: Price | None,
    price: str | None,
    uses: int | None,
    credit: int | None,
    reserve: int | None,
    charge_on: Collection[int] | None,
    service: str | None,
    valid_for: int | timedelta | None,
    limit: str | None,
    description: str | None,
    validate: Callable[[], Any] | None,
) -> Terms:
    """Return the terms of ``paywall``'s arguments; what they leave open is empty.

    :raises ConfigurationError: one of them is wrong; it says what to write
    """
    if reserve is None:
        amount, unit = _price(sats, msat, price)
    else:
        amount, unit = _reserve(reserve, credit, [sats, msat, price, uses]), SAT
    sells_credit = _check_credit(uses, credit)
    if service is not None:
        check_service(service, "paywall: service")
    if description is not None and not (isinstance(description, str) and description.strip()):
        raise ConfigurationError(f"paywall: description={description!r}; write text, or leave it")
    if validate is not None and (not callable(validate) or iscoroutinefunction(validate)):
        raise ConfigurationError(f"paywall: validate={validate!r}; write a plain callable")
    terms = Terms(
        amount=amount,
        unit=unit,
        service=service or "",
        kind=CREDIT if sells_credit else PASS,
        valid_for=_length(valid_for, sells_credit),
        uses=uses or 0,
        credit=(credit or 0) * SAT,
        metered=reserve is not None,
        charge_on=_statuses(charge_on, sells_credit),
        rates=None if limit is None else parse_rates(limit, "paywall: limit"),
        description=description or "",
        validate=validate,
    )
    _check_sum(terms)
    return terms


def _price(sats: Price | None, msat: Price | None, price: str | None) -> tuple[Amount, int]:
    if [sats, msat, price].count(None) != 2:
        raise ConfigurationError(
            "paywall: write one price, sats=…, msat=… or price='0.01 USD', or credit=… and"
            " reserve=… for a view that charges"
        )
    if price is not None:
        return _money(price), 1
    name, amount, unit = ("msat", msat, 1) if sats is None else ("sats", sats, SAT)
    plain = callable(amount) and not iscoroutinefunction(amount)
    if amount is None or (not plain and (type(amount) is not int or amount < 0)):
        raise ConfigurationError(
            f"paywall: {name}={amount!r}; write an int >= 0, or a plain callable"
        )
    return amount, unit


def _reserve(reserve: int, credit: int | None, others: list[object]) -> int:
    if others.count(None) != len(others) or credit is None:
        raise ConfigurationError(
            "paywall: reserve= goes with credit= alone, for the view charges what it costs; write"
            " for example credit=500, reserve=50"
        )
    if type(reserve) is not int or reserve < 1:
        raise ConfigurationError(f"paywall: reserve={reserve!r}; write an int >= 1, in satoshis")
    if type(credit) is int and reserve > credit:
        raise ConfigurationError(f"paywall: reserve={reserve} is more than credit={credit}")
    return reserve


def _money(price: str) -> Money:
    try:
        return Money.parse(price)
    except ConfigurationError as error:
        raise ConfigurationError(f"paywall: price: {error}") from None


def _check_credit(uses: int | None, credit: int | None) -> bool:
    for name, value in (("uses", uses), ("credit", credit)):
        if value is not None and (type(value) is not int or value < 1):
            raise ConfigurationError(f"paywall: {name}={value!r}; write an int >= 1, or leave it")
    if uses is not None and credit is not None:
        raise ConfigurationError("paywall: uses= and credit= both say what is sold; write one")
    return uses is not None or credit is not None


def _length(valid_for: int | timedelta | None, sells_credit: bool) -> int:
    seconds = whole_seconds(valid_for) if isinstance(valid_for, timedelta) else valid_for
    if seconds is None:
        return 0
    if sells_credit:
        raise ConfigurationError(
            "paywall: valid_for= is a pass's; how long credit lasts is L402_CREDIT_VALID_FOR"
        )
    if type(seconds) is not int or not 1 <= seconds <= LONGEST:
        raise ConfigurationError(
            f"paywall: valid_for={valid_for!r}; write 1 to {LONGEST} seconds, or a timedelta"
        )
    return seconds


def _statuses(charge_on: Collection[int] | None, sells_credit: bool) -> frozenset[int] | None:
    if charge_on is None:
        return None
    if not sells_credit:
        raise ConfigurationError("paywall: charge_on= goes with uses= or credit=")
    try:
        statuses = frozenset(charge_on)
    except TypeError:
        statuses = frozenset()
    if not statuses or any(type(s) is not int or not 100 <= s <= 599 for s in statuses):
        raise ConfigurationError(
            f"paywall: charge_on={charge_on!r}; write statuses, for example {{200, 404}}"
        )
    if never := statuses & _NEVER_CHARGED:
        raise ConfigurationError(f"paywall: charge_on= names {min(never)}, which is never charged")
    return statuses


def _check_sum(terms: Terms) -> None:
    price = terms.constant
    if price is None:
        return
    if terms.kind == CREDIT and price == 0:
        raise ConfigurationError("paywall: a view that is free sells no credit; leave it out")
    if terms.credit and price > terms.credit:
        raise ConfigurationError(
            f"paywall: credit={terms.credit // SAT} does not pay for one call of"
            f" {price / SAT:g} sat"
        )
    if terms.total(price) > _MOST:
        raise ConfigurationError("paywall: the price is more than there are bitcoins")
