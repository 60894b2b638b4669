import threading
import traceback
from contextlib import ExitStack
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.http_servers import http_answer, serving

from l402.errors import ConfigurationError, RateError
from l402.rates import url as rate_url
from l402.rates.panel import Panel
from l402.rates.sources import Called

SPREAD = Decimal("0.02")
CANARY = "canary-5ec2e7"
PATH = "/{currency}?key=" + CANARY + "#last"


class _Answers(Panel):
    """A panel whose URLs say what a test tells them to, or fail where that is None."""

    def __init__(self, prices, spread=SPREAD):
        super().__init__([f"https://a{n}.example{PATH}" for n in range(len(prices))], spread)
        for url, price in zip(self._urls, prices, strict=True):
            url.read = self._saying(price)

    @staticmethod
    def _saying(price):
        def read(_currency):
            if price is None:
                raise RateError("is down")
            return Decimal(price)

        return read


def read(*prices, spread=SPREAD):
    return _Answers(prices, spread).read("USD")


@pytest.fixture
def panel():
    """Make a panel of real servers with these behaviours."""
    with ExitStack() as stack:

        def make(*behaviours):
            servers = [stack.enter_context(serving(lambda _: None)) for _ in behaviours]
            for server, behaviour in zip(servers, behaviours, strict=True):
                named = isinstance(behaviour, str)
                server.behaviour = getattr(server, behaviour) if named else behaviour
            return Panel([server.url + PATH for server in servers], SPREAD), servers

        yield make


def says(value):
    return lambda _request: http_answer(200, {"last": value})


def called(function):
    return Called(function).read("USD").per_bitcoin


@pytest.mark.parametrize("value", [97000, "97000", Decimal("97000.00")])
def test_a_callable_gives_a_price(value):
    """A callable is given the currency and may give an int, a Decimal or text."""
    asked = []
    assert called(lambda currency: asked.append(currency) or value) == 97000
    assert asked == ["USD"]


@pytest.mark.parametrize("value", [97000.0, None, 0, -1, "soon", True, Decimal("NaN")])
def test_a_callable_that_gives_no_price(value):
    """A float, nothing and absurd numbers are faults that name the callable."""

    def market(_currency):
        return value

    with pytest.raises(RateError, match=r"what the callable .*market gave: "):
        called(market)


def test_a_callable_that_raises():
    """An exception is told by its kind; its text may hold a secret."""

    def market(_currency):
        raise KeyError(CANARY)

    with pytest.raises(RateError, match=r"the callable .*market raised KeyError") as caught:
        called(market)
    assert CANARY not in "".join(traceback.format_exception(caught.value))


def test_an_object_that_is_called():
    """A callable without a name is called by its type's."""

    class Market:
        def __call__(self, currency):
            raise OSError

    with pytest.raises(RateError, match="the callable Market raised OSError"):
        called(Market())


@pytest.mark.parametrize(
    ("prices", "median"),
    [
        (["100"], "100"),
        (["100", "101"], "100.5"),
        (["100", "101", "101.5"], "101"),
        (["100", "100", "100.5", "101"], "100.25"),
        (["98", "100", "102"], "100"),
        (["99", "100", "1e6"], "99.5"),
        (["0.01", "100", "101"], "100.5"),
        (["100", "101", None], "100.5"),
        (["100", None, "101", "1e6", "102"], "101"),
        (["1", "1", "100", "101", "100.5", "100"], "100.25"),
    ],
)
def test_the_median_of_those_that_agree(prices, median):
    """Most of the sources agree, and the others have no weight."""
    assert read(*prices).per_bitcoin == Decimal(median)


@pytest.mark.parametrize(
    ("prices", "agree"),
    [
        ([None], "0 of 1"),
        (["100", "104.1"], "0 of 2"),
        (["100", None], "1 of 2"),
        (["100", None, None], "1 of 3"),
        (["100", "105", "110"], "1 of 3"),
        (["100", "100", "50", "50"], "0 of 4"),
        (["100", "101", None, None], "2 of 4"),
        ([None, None, "1e6", "1e6", None], "2 of 5"),
        (["1e6", "100", None], "0 of 3"),
    ],
)
def test_without_a_majority_there_is_no_rate(prices, agree):
    """Half of all the URLs, whether they answered or not, are too few."""
    with pytest.raises(RateError, match=f"^{agree} sources agree"):
        read(*prices)


def test_the_edge_of_the_spread():
    """Exactly the spread off the median is still in agreement, anything beyond is not."""
    assert read("98", "100", "100").left_out == {}
    beyond = read("97.9999", "100", "100").left_out
    assert beyond == {"a0.example": "97.9999 is off the median 100"}


@given(
    honest=st.lists(st.decimals("99000", "100000", places=2), min_size=3, max_size=7),
    lies=st.lists(st.none() | st.decimals("0.001", 10**13), max_size=6),
    seed=st.randoms(use_true_random=False),
)
def test_a_minority_sets_no_price(honest, lies, seed):
    """However the fewer lie or fail, the rate lies among those of the honest majority."""
    prices = honest + lies[: len(honest) - 1]
    seed.shuffle(prices)
    try:
        found = read(*prices).per_bitcoin
    except RateError:
        return
    assert Fraction(min(honest)) * (1 - Fraction(1, 10**11)) <= found <= max(honest)


def test_one_of_several_lies(panel):
    """One that lies is left out, named by its host, and the others' median holds."""
    source, servers = panel(says(97000), says(1), says("97010"))
    reading = source.read("USD")
    assert reading.per_bitcoin == 97005
    host = servers[1].url.removeprefix("http://")
    assert reading.left_out == {host: "1 is off the median 97000"}


def test_one_is_late_and_one_is_broken(panel, monkeypatch):
    """Those that do not answer in time cost no more than that time, together."""
    monkeypatch.setattr(rate_url, "WITHIN", 1.0)
    source, servers = panel(says(97000), "hang", "drip", says(97000), says(97000))
    reading = source.read("USD")
    assert reading.per_bitcoin == 97000
    assert reading.left_out == {
        servers[at].url.removeprefix("http://"): "no answer in time" for at in (1, 2)
    }


def test_all_are_asked_at_once(panel):
    """No source waits for another."""
    together = threading.Barrier(3)

    def meet(_request):
        together.wait(10)
        return http_answer(200, {"last": 97000})

    assert panel(meet, meet, meet)[0].read("USD").per_bitcoin == 97000


def test_the_fault_names_each_host(panel):
    """With too few left, the error says of each what was wrong, and repeats no URL."""
    source, servers = panel(says(97000), says(None), lambda _: http_answer(403, {}))
    with pytest.raises(RateError) as caught:
        source.read("USD")
    hosts = [server.url.removeprefix("http://") for server in servers]
    assert str(caught.value) == (
        f"1 of 3 sources agree ({hosts[1]}: its JSON has nothing at last; {hosts[2]}: answered 403)"
    )
    assert CANARY not in "".join(traceback.format_exception(caught.value))


def test_one_that_breaks_our_reading_silences_nobody():
    """Even an error that nobody thought of leaves the others their say."""
    source = _Answers(["100", "100", "100"])

    def broken(_currency):
        raise ZeroDivisionError

    source._urls[0].read = broken
    assert source.read("USD").left_out == {"a0.example": "failed with ZeroDivisionError"}


@pytest.mark.parametrize("count", [0, 16])
def test_too_few_or_too_many_urls(count):
    """There are 1 to 15 URLs."""
    with pytest.raises(ConfigurationError, match="write 1 to 15 URLs"):
        Panel([f"https://a{n}.example{PATH}" for n in range(count)], SPREAD)


def test_one_host_has_one_vote():
    """Two URLs of one host would be two votes of one liar."""
    urls = [f"https://{host}{PATH}" for host in ("a.example", "b.example", "A.example")]
    with pytest.raises(ConfigurationError, match=r"a\.example has 2 votes") as caught:
        Panel(urls, SPREAD)
    assert CANARY not in str(caught.value)
