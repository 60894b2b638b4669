"""Several URLs that tell what a bitcoin costs, of which most must agree."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from fractions import Fraction
from statistics import median

from l402.errors import ConfigurationError, RateError
from l402.rates.rate import Reading, ratio
from l402.rates.sources import Source
from l402.rates.url import RateUrl

_MOST_URLS = 15


class Panel(Source):
    """Several URLs, each with one vote: the median of those that agree.

    Those that are off the median of all answers by more than `spread` (0.02 is 2 %) are left out.
    More than half of all URLs must be left, also of those that did not answer: who can silence the
    others must not set the price.

    :raises ConfigurationError: there are none or too many, or one cannot be used
    """

    def __init__(self, urls: Sequence[object], spread: Decimal) -> None:
        if not 1 <= len(urls) <= _MOST_URLS:
            raise ConfigurationError(f"L402_RATES: write 1 to {_MOST_URLS} URLs")
        self._urls = [RateUrl(url, place) for place, url in enumerate(urls, 1)]
        self._spread = Fraction(spread)
        hosts = [url.host for url in self._urls]
        for host in hosts:
            if hosts.count(host) > 1:
                raise ConfigurationError(
                    f"L402_RATES: {host} has {hosts.count(host)} votes; write one URL of each host"
                )

    def read(self, currency: str) -> Reading:
        """Ask all of them at once."""
        with ThreadPoolExecutor(len(self._urls), "l402-rate") as pool:
            answers = list(pool.map(lambda url: _answer(url, currency), self._urls))
        found = {url.host: a for url, a in zip(self._urls, answers, strict=True)}
        faults = {host: a for host, a in found.items() if isinstance(a, str)}
        prices = {host: Fraction(a) for host, a in found.items() if isinstance(a, Decimal)}
        faults |= _outliers(prices, self._spread)
        agreed = [price for host, price in prices.items() if host not in faults]
        if 2 * len(agreed) <= len(self._urls):
            reasons = "; ".join(f"{host}: {fault}" for host, fault in faults.items())
            raise RateError(f"{len(agreed)} of {len(self._urls)} sources agree ({reasons})")
        return Reading(ratio(median(agreed)), faults)


def _answer(url: RateUrl, currency: str) -> Decimal | str:
    """Return the price, or why there is none."""
    try:
        return url.read(currency)
    except RateError as error:
        return str(error)
    except Exception as error:  # one of them must not silence the others
        return f"failed with {type(error).__name__}"


def _outliers(prices: Mapping[str, Fraction], spread: Fraction) -> dict[str, str]:
    if not prices:
        return {}
    middle = median(prices.values())
    return {
        host: f"{float(price):.9g} is off the median {float(middle):.9g}"
        for host, price in prices.items()
        if abs(price - middle) > spread * middle
    }
