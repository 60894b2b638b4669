"""Prices in a currency: what one bitcoin costs, and what that makes in msat."""

import re
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from decimal import Decimal
from inspect import iscoroutinefunction

from l402.errors import ConfigurationError, RateError
from l402.rates.feed import Feed
from l402.rates.money import Money
from l402.rates.rate import Rate, bitcoin_price
from l402.rates.sources import Called, Source

__all__ = ["Money", "Rate", "Rates", "make_rates"]

_EXAMPLE = "{'USD': '97000'}"


class Rates(ABC):
    """What one bitcoin costs in each currency, for one app; opens nothing until it is asked.

    One instance serves all threads and may be made before a fork.
    """

    @abstractmethod
    def require(self, currency: str) -> None:
        """See that there could be a rate of `currency`.

        :raises ConfigurationError: the configuration names none
        """

    @abstractmethod
    def rate(self, currency: str) -> Rate:
        """Return the rate in force.

        :raises RateError: there is none that can be relied on; the log has said why
        """


def make_rates(
    setting: object,
    *,
    max_age: float = 600,
    spread: Decimal = Decimal("0.02"),
    clock: Callable[[], float] = time.time,
) -> Rates:
    """Return the rates that ``L402_RATES`` names; nothing is asked yet.

    `max_age` in seconds; `spread` is how far URLs may be off their median, of 1.

    :raises ConfigurationError: naming the fault and an example, never a URL
    """
    if setting is None or isinstance(setting, Mapping):
        return _Fixed(setting or {}, clock)
    if isinstance(setting, list | tuple):
        from l402.rates.panel import Panel  # the only one that asks the network, by requests

        return _Read(Panel(setting, spread), max_age, clock)
    if callable(setting) and not iscoroutinefunction(setting):
        return _Read(Called(setting), max_age, clock)
    raise ConfigurationError(
        "L402_RATES is neither a mapping, a plain callable nor a list of URLs; write for example"
        f" {_EXAMPLE}"
    )


class _Fixed(Rates):
    """Rates that the configuration states."""

    def __init__(self, setting: Mapping[object, object], clock: Callable[[], float]) -> None:
        self._clock = clock
        self._prices: dict[str, Decimal] = {}
        for currency, price in setting.items():
            if not isinstance(currency, str) or not re.fullmatch("[A-Z]{3}", currency, re.ASCII):
                raise ConfigurationError(
                    f"L402_RATES: {currency!r:.30} is no currency; write three capital letters,"
                    f" for example {_EXAMPLE}"
                )
            try:
                self._prices[currency] = bitcoin_price(price)
            except RateError as error:
                raise ConfigurationError(
                    f"L402_RATES: {currency}: {error}; write for example {_EXAMPLE}"
                ) from None

    def require(self, currency: str) -> None:
        if currency not in self._prices:
            raise ConfigurationError(
                f"a price in {currency}, but L402_RATES has no rate of it; write for example"
                f" {{{currency!r}: '97000'}}"
            )

    def rate(self, currency: str) -> Rate:
        if currency not in self._prices:
            raise RateError(f"L402_RATES has no rate of {currency}")
        return Rate(currency, self._prices[currency], self._clock())


class _Read(Rates):
    """Rates that are read while serving."""

    def __init__(self, source: Source, max_age: float, clock: Callable[[], float]) -> None:
        self._source, self._max_age, self._clock = source, max_age, clock
        self._feeds: dict[str, Feed] = {}

    def require(self, currency: str) -> None:
        pass  # the source knows, when it is asked

    def rate(self, currency: str) -> Rate:
        feed = self._feeds.get(currency) or self._feeds.setdefault(
            currency, Feed(self._source, currency, self._max_age, self._clock)
        )
        return feed.rate()
