"""What a request costs: the one way to a price, wherever that was set.

A price that was set at run time, in SQL, goes before that of ``L402_PRICES``, and this before the
decorator's. `Sync` hands over what is set at run time: a request looks it up in a dict.
"""

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from enum import StrEnum

from werkzeug.exceptions import HTTPException

from l402.errors import ConfigurationError, PriceError
from l402.rates import Money, Rates
from l402.store.prices import Price
from l402.terms import SAT, Amount, Quote, Terms

__all__ = ["Configured", "Prices", "Quote", "Source", "Today", "nearest", "parse_prices"]

#: The prices of ``L402_PRICES``, in msat or in a currency, by endpoint and method; the method is
#: empty where it is not named, and all of the endpoint's cost the same.
Configured = Mapping[tuple[str, str], int | Money]

_AMOUNT = re.compile(r"([0-9]{1,16})(?: ?(sat|msat))?", re.ASCII)
_EXAMPLE = "{'quote': 12, 'POST report': '0.05 USD', 'word': '100 msat'}"


class Source(StrEnum):
    """Where a price in force comes from."""

    CODE = "code"
    CONFIGURATION = "configuration"
    RUN_TIME = "run time"


class Prices:
    """One app's prices: those that were configured, those set at run time, and the rates."""

    def __init__(self, configured: Configured, rates: Rates) -> None:
        self._configured, self._rates = configured, rates
        self._set: dict[tuple[str, str, str], int] = {}
        #: Another object whenever prices of run time changed.
        self.edition = object()

    def learn(self, prices: Iterable[Price]) -> None:
        """Have these prices, and no others of run time, in force from now on."""
        known = {(each.service, each.endpoint, each.method): each.msat for each in prices}
        if known != self._set:
            self._set, self.edition = known, object()

    def check(self, sold: Iterable[Terms]) -> None:
        """See that each price of the configuration is of something sold, and can be reckoned.

        :raises ConfigurationError: it names the endpoint, or the currency
        """
        known: dict[tuple[str, str], Terms] = {}
        for terms in sold:
            known |= {(terms.endpoint, ""): terms, (terms.endpoint, terms.method): terms}
            if isinstance(terms.amount, Money):
                self._rates.require(terms.amount.currency)
            if terms.metered and self._of_configuration(terms) not in (None, 0):
                raise ConfigurationError(
                    f"L402_PRICES: {terms.endpoint} is metered: its view says what a call costs;"
                    " write 0 to serve it for nothing, or leave it out"
                )
        for endpoint, method in self._configured.keys() - known:
            name = f"{method} {endpoint}".strip()
            names = (f"{by} {at}".strip() for at, by in known)
            raise ConfigurationError(f"L402_PRICES: {name!r} is not for sale{nearest(name, names)}")

    def configure(self, terms: Terms) -> Terms:
        """Return a view's terms with the configuration's price, if it gives one."""
        amount = self._of_configuration(terms)
        return terms if amount is None else replace(terms, amount=amount, unit=1)

    def source(self, terms: Terms) -> Source:
        """Tell where the price in force comes from."""
        if self._of_run_time(terms) is not None:
            return Source.RUN_TIME
        given = self._of_configuration(terms) is not None
        return Source.CONFIGURATION if given else Source.CODE

    def constant(self, terms: Terms) -> int | Money | None:
        """Return the price in force, in msat or in a currency; None is for a callable to say."""
        msat = self._of_run_time(terms)
        amount: Amount = terms.amount if msat is None else msat
        if isinstance(amount, int):
            return amount * (terms.unit if msat is None else 1)
        return amount if isinstance(amount, Money) else None

    def words(self, terms: Terms) -> str:
        """Say what one payment buys at the price in force."""
        return terms.words(self.constant(terms))

    def free(self, terms: Terms) -> bool:
        """Tell whether every request is served for nothing; no callable is asked."""
        msat = self._of_run_time(terms)
        return (terms.amount if msat is None else msat) == 0

    def quote(self, terms: Terms) -> Quote:
        """Return what this request costs.

        :raises PriceError: the callable failed or gave anything but an int of at least 0
        :raises HTTPException: the callable raised it, to refuse the request
        :raises RateError: the price is in a currency, and there is no rate for it
        """
        if (msat := self._of_run_time(terms)) is not None:
            return Quote(msat, True)
        amount = terms.amount
        if isinstance(amount, int):
            return Quote(amount * terms.unit, True)
        if isinstance(amount, Money):
            return self._reckoned(amount)
        return Quote(_called(amount) * terms.unit, False)

    def _of_run_time(self, terms: Terms) -> int | None:
        known = self._set
        msat = known.get((terms.service, terms.endpoint, terms.method)) if known else None
        # What a metered call costs its view says; a price that was set before it did is no reserve.
        return None if msat and terms.metered else msat

    def _of_configuration(self, terms: Terms) -> int | Money | None:
        for_all = self._configured.get((terms.endpoint, ""))
        return self._configured.get((terms.endpoint, terms.method), for_all)

    def _reckoned(self, money: Money) -> Quote:
        rate = self._rates.rate(money.currency)
        return Quote(rate.msat(money), True, rate.words)


class Today:
    """The price of one request, which is asked for when it is needed, and once."""

    __slots__ = ("_prices", "_quote", "_terms")

    def __init__(self, prices: Prices, terms: Terms) -> None:
        self._prices, self._terms = prices, terms
        self._quote: Quote | None = None

    def __call__(self) -> Quote:
        """Return the quote; it raises what `Prices.quote` raises."""
        if self._quote is None:
            self._quote = self._prices.quote(self._terms)
        return self._quote


def parse_prices(setting: object) -> Configured:
    """Read ``L402_PRICES``: prices by endpoint, or by method and endpoint.

    A price is a number of satoshis, or text such as ``12 sat``, ``100 msat`` or ``0.05 USD``.

    :raises ConfigurationError: it says what to write
    """
    if not isinstance(setting, Mapping):
        raise ConfigurationError(f"L402_PRICES is no mapping; write for example {_EXAMPLE}")
    found: dict[tuple[str, str], int | Money] = {}
    for name, price in setting.items():
        key, amount = _parsed(name, price)
        if key in found:
            raise ConfigurationError(f"L402_PRICES: {name} has two prices; keep one")
        found[key] = amount
    return found


def _parsed(name: object, price: object) -> tuple[tuple[str, str], int | Money]:
    words = name.split() if isinstance(name, str) else []
    if not 1 <= len(words) <= 2:
        raise ConfigurationError(
            f"L402_PRICES: {name!r} is no endpoint; write for example {_EXAMPLE}"
        )
    method = words[0].upper() if len(words) == 2 else ""
    return (words[-1], "GET" if method == "HEAD" else method), _amount(name, price)


def _amount(name: object, price: object) -> int | Money:
    if type(price) is int and price >= 0:
        return price * SAT
    if isinstance(price, str):
        if found := _AMOUNT.fullmatch(price.strip()):
            return int(found[1]) * (1 if found[2] == "msat" else SAT)
        try:
            return Money.parse(price.strip())
        except ConfigurationError as error:
            raise ConfigurationError(
                f"L402_PRICES: {name}: {error}, or one such as '12 sat' or '100 msat'"
            ) from None
    raise ConfigurationError(
        f"L402_PRICES: {name}: {price!r} is no price; write for example {_EXAMPLE}"
    )


def nearest(name: str, known: Iterable[str]) -> str:
    """Say which of the names that are known may be meant, as the end of a sentence."""
    near = difflib.get_close_matches(name, dict.fromkeys(known), 3, cutoff=0.5)
    return f"; did you mean {' or '.join(near)}?" if near else ""


def _called(price: Callable[[], int]) -> int:
    name = getattr(price, "__qualname__", repr(price))
    try:
        amount = price()
    except HTTPException:
        raise
    except Exception as error:
        raise PriceError(f"the price callable {name} raised {type(error).__name__}") from error
    if type(amount) is not int or amount < 0:  # True is an int, and no price
        raise PriceError(f"the price callable {name} gave {amount!r}; return an int >= 0")
    return amount
