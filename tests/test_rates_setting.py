import threading
import traceback
from decimal import Decimal

import pytest
from support.clocks import Clock
from support.http_servers import http_answer, serving

from l402.errors import ConfigurationError, RateError
from l402.rates import Money, Rates, make_rates

CANARY = "canary-5ec2e7"


def test_fixed_rates():
    """A mapping states the price of a bitcoin in each currency, for ever."""
    clock = Clock()
    rates = make_rates({"USD": "97000.50", "EUR": 90000, "CHF": Decimal("85000")}, clock=clock)
    clock.advance(10**6)
    assert isinstance(rates, Rates)
    assert [rates.rate(name).words for name in ("USD", "EUR", "CHF")] == [
        "USD 97000.5", "EUR 90000", "CHF 85000",
    ]  # fmt: skip
    assert rates.rate("USD").read_at == clock.now
    assert rates.rate("EUR").msat(Money.parse("0.09 EUR")) == 100_000
    rates.require("USD")


@pytest.mark.parametrize("setting", [None, {}, {"EUR": 90000}])
def test_a_currency_without_a_rate(setting):
    """A price in a currency that the configuration does not name is the host's mistake."""
    rates = make_rates(setting)
    with pytest.raises(ConfigurationError, match=r"a price in USD, .* write .*'USD'"):
        rates.require("USD")
    with pytest.raises(RateError, match="L402_RATES has no rate of USD"):
        rates.rate("USD")


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"USD": 97000.5}, "USD: a float is no number"),
        ({"USD": 0}, "USD: 0 is absurd"),
        ({"USD": -1}, "USD: -1 is absurd"),
        ({"USD": "NaN"}, "USD: 'NaN' is no number"),
        ({"USD": None}, "USD: a NoneType is no number"),
        ({"USD": True}, "USD: a bool is no number"),
        ({"USD": ["https://a.example/{currency}#a"]}, "USD: a list is no number"),
        ({"usd": 97000}, "'usd' is no currency"),
        ({"USDT": 97000}, "'USDT' is no currency"),
        ({1: 97000}, "1 is no currency"),
        ("https://a.example/{currency}?key=canary-5ec2e7#a", "neither a mapping"),
        (97000, "neither a mapping"),
        (Decimal("97000"), "neither a mapping"),
        (True, "neither a mapping"),
        ([], "write 1 to 15 URLs"),
        (["https://a.example/?key=canary-5ec2e7#a"], "URL 1 would give every currency"),
    ],
)
def test_a_setting_that_cannot_be_used(setting, words):
    """A wrong setting stops the app, says what to write and repeats no URL."""
    with pytest.raises(ConfigurationError) as caught:
        make_rates(setting)
    assert words in str(caught.value)
    assert "write" in str(caught.value)
    assert CANARY not in "".join(traceback.format_exception(caught.value))


def test_an_async_callable_is_refused():
    """A coroutine function would give a coroutine, and never a price."""

    async def market(_currency):
        return 97000

    with pytest.raises(ConfigurationError, match="plain callable"):
        make_rates(market)


def test_a_callable_for_several_currencies():
    """Each currency is read by itself, and once by all threads together."""
    asked = []

    def market(currency):
        asked.append(currency)
        return {"USD": 97000, "EUR": 90000}[currency]

    rates = make_rates(market, clock=Clock())
    rates.require("USD")
    assert asked == []
    together, found = threading.Barrier(8), []

    def ask(currency):
        together.wait(30)
        found.append(rates.rate(currency).words)

    threads = [threading.Thread(target=ask, args=(name,)) for name in ("USD", "EUR") * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(found) == ["EUR 90000"] * 4 + ["USD 97000"] * 4
    assert sorted(asked) == ["EUR", "USD"]
    with pytest.raises(RateError, match="raised KeyError"):
        rates.rate("GBP")


def test_a_list_of_urls_lies_the_same_way():
    """What all sources say is believed within the jump, and beyond it is not."""
    prices = ["97000", "97100", "97200"]

    def say(place):
        return lambda _request: http_answer(200, {"usd": prices[place]})

    clock = Clock()
    with serving(say(0)) as one, serving(say(1)) as two, serving(say(2)) as three:
        urls = [s.url + "/?of={currency}#{currency_lower}" for s in (one, two, three)]
        rates = make_rates(urls, spread=Decimal("0.02"), max_age=600, clock=clock)
        assert rates.rate("USD").words == "USD 97100"
        prices[:] = ["9700000"] * 3
        clock.advance(601)
        with pytest.raises(RateError, match="USD 9700000 is more than a fifth off"):
            rates.rate("USD")
        prices[:] = ["98000"] * 3
        clock.advance(60)
        assert rates.rate("USD").words == "USD 98000"
        assert len(one.requests) == len(two.requests) == len(three.requests) == 3


def test_says_no_secret(caplog):
    """A key in a URL is in no log line and in no error when its host fails."""
    with serving(lambda _: http_answer(403, {"error": CANARY})) as server:
        rates = make_rates([server.url + "/{currency}?key=" + CANARY + "#a"], clock=Clock())
        with pytest.raises(RateError) as caught:
            rates.rate("USD")
    assert CANARY not in "".join(traceback.format_exception(caught.value)) + caplog.text
    assert server.url.removeprefix("http://") + ": answered 403" in caplog.text
    assert CANARY not in repr(rates)
