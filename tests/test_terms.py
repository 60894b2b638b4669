"""What a right covers: every wrong pair of token and view is refused."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from l402.denials import Reason
from l402.prices import Prices
from l402.protocol.token import CREDIT, PASS, Grant, Token
from l402.rates import Money, make_rates
from l402.terms import Quote, Terms, duration

NOW = 1_800_000_000
HOUR = 3600
TERMS = Terms(
    amount=10,
    service="weather",
    valid_for=HOUR,
    network="simulated",
    endpoint="quote",
    method="GET",
)
GRANT = Grant(
    service="weather",
    kind=PASS,
    msat=10_000,
    network="simulated",
    issued_at=NOW - 600,
    starts_at=NOW,
    ends_at=NOW + HOUR,
    valid_until=NOW + HOUR,
    method="GET",
    endpoint="quote",
    ledger="l",
    price=10_000,
    rate="USD 97000.5",
)
PRICES = Prices({}, make_rates({"USD": "97000.5"}))


def terms(**changes):
    values = {name: getattr(TERMS, name) for name in Terms.__dataclass_fields__} | changes
    return Terms(**values)


def token(*limits, **changes):
    return Token(b"h" * 32, b"t" * 32, GRANT._replace(**changes), limits=limits)


def refusal(shown, wanted=TERMS, now=NOW, msat=None):
    if msat is None:
        msat = wanted.agreed(shown.grant, now, lambda: PRICES.quote(wanted))
    refused = wanted.locked(shown, now) or wanted.refusal(shown.grant, msat, now)
    return refused or (Reason.NARROWED if wanted.narrowed(shown, msat, now) else None)


def test_covers_what_was_bought():
    """A token opens the view that it was sold for."""
    assert refusal(token()) is None


SERVICES, NETWORKS, KINDS = ["weather", "news"], ["simulated", "regtest"], [PASS, CREDIT]
ENDPOINTS, METHODS, SATS = ["quote", "fact"], ["GET", "POST"], [5, 10, 20]
RIGHTS = list(product(SERVICES, NETWORKS, KINDS, ENDPOINTS, METHODS, SATS))


@pytest.mark.parametrize("constant", [True, False], ids=["constant price", "callable price"])
def test_every_pair(constant):
    """Of all pairs of token and view, those alone pass whose every part fits."""
    now = NOW + 60  # when nobody comes back with what was just offered
    for sold, asked in product(RIGHTS, RIGHTS):
        service, network, kind, endpoint, method, sats = asked
        view = terms(
            amount=sats if constant else lambda sats=sats: sats,
            service=service,
            network=network,
            kind=kind,
            endpoint=endpoint,
            method=method,
        )
        shown = token(
            service=sold[0],
            network=sold[1],
            kind=sold[2],
            endpoint=sold[3],
            method=sold[4],
            msat=sold[5] * 1000,
            price=sold[5] * 1000 if constant else 0,
        )
        sold_here = constant and sold[3:5] == asked[3:5]
        if sold[1] != network:
            expected = Reason.WRONG_NETWORK
        elif sold[0] != service:
            expected = Reason.WRONG_SERVICE
        elif sold[2] != kind:
            expected = Reason.WRONG_KIND
        elif kind == PASS and sold[5] < sats and not sold_here:
            expected = Reason.PRICE_TOO_LOW
        else:
            expected = None
        assert refusal(shown, view, now) == expected, (sold, asked)


def test_constant_price_that_rose():
    """What was bought here for a constant price stays good when the price rises, here only."""
    dearer = terms(amount=11)
    for now in (NOW, NOW + HOUR - 1):
        assert refusal(token(), dearer, now) is None
        assert refusal(token(), terms(amount=lambda: 11), now) is None
        assert refusal(token(), terms(amount=Money.parse("99.5 USD")), now) is None
        assert refusal(token(endpoint="fact"), dearer, now) is Reason.PRICE_TOO_LOW
        assert refusal(token(method="POST"), dearer, now) is Reason.PRICE_TOO_LOW
        assert refusal(token(), terms(amount=11, sold_directly=False), now) is Reason.PRICE_TOO_LOW
        assert refusal(token(price=0), terms(amount=lambda: 11), now) is Reason.PRICE_TOO_LOW


def agreed(view, now, today=11_000, constant=True, **changes):
    """What a request costs who holds such a grant."""
    return view.agreed(token(**changes).grant, now, lambda: Quote(today, constant))


CALLS = terms(kind=CREDIT, uses=5)


@pytest.mark.parametrize("today", [1, 9_000, 11_000])
@pytest.mark.parametrize("constant", [True, False])
def test_a_call_costs_what_was_asked_until_the_payer_is_back(today, constant):
    """Up to a minute after the invoice's end a call costs the price signed; then today's."""
    for now, msat in ((NOW - 600, 10_000), (NOW + 59.9, 10_000), (NOW + 60, today)):
        assert agreed(CALLS, now, today, constant, kind=CREDIT) == msat


@pytest.mark.parametrize(
    "changes",
    [{"kind": PASS}, {"endpoint": "fact"}, {"method": "POST"}, {"service": "news"}],
)
def test_a_price_is_asked_for_one_endpoint_and_service(changes):
    """A price that was signed for something else says nothing here."""
    assert agreed(CALLS, NOW, **{"kind": CREDIT} | changes) == 11_000
    called = terms(kind=CREDIT, uses=5, sold_directly=False)
    assert agreed(called, NOW, kind=CREDIT) == 11_000


def test_a_constant_price_in_place_of_a_callable():
    """Who was asked a price by a callable never pays more for one call than was asked for it."""
    asked = {"kind": CREDIT, "price": 0, "msat": 15_000}  # for five calls
    assert agreed(CALLS, NOW, **asked) == 3_000
    assert agreed(CALLS, NOW, today=2_000, **asked) == 2_000
    assert agreed(CALLS, NOW + 60, **asked) == 11_000
    assert agreed(CALLS, NOW, constant=False, **asked) == 11_000
    assert agreed(TERMS, NOW, price=0, msat=3_000) == 3_000


def test_no_rate_is_asked_for_what_was_agreed():
    """Who holds a price that was signed is served while no rate can be had."""

    def nothing():
        raise AssertionError("a price was asked for")

    assert TERMS.agreed(GRANT, NOW + HOUR - 1, nothing) == 10_000
    assert CALLS.agreed(GRANT._replace(kind=CREDIT), NOW, nothing) == 10_000


def test_price_to_the_millisatoshi():
    """A grant covers its own amount to the last millisatoshi, and no more."""
    shown = token(endpoint="fact")
    assert refusal(shown, msat=10_000) is None
    assert refusal(shown, msat=10_001) is Reason.PRICE_TOO_LOW


@pytest.mark.parametrize("field", ["ends_at", "valid_until"])
def test_edge_of_time(field):
    """A right is good up to its end, and from that very second on no more."""
    shown = token(**{field: NOW + 100})
    assert refusal(shown, now=NOW + 99) is None
    assert refusal(shown, now=NOW + 99.999) is None
    assert refusal(shown, now=NOW + 100) is Reason.EXPIRED
    assert refusal(shown, now=NOW + 100.001) is Reason.EXPIRED


def test_edge_of_the_views_length():
    """A view that sells shorter passes accepts a longer one for its own length only."""
    shorter = terms(valid_for=60)
    assert refusal(token(), shorter, now=NOW + 59.9) is None
    assert refusal(token(), shorter, now=NOW + 60) is Reason.EXPIRED
    assert refusal(token(), terms(valid_for=2 * HOUR), now=NOW + HOUR) is Reason.EXPIRED


def test_good_before_its_start():
    """A right may be used as soon as it is paid, before the second its length counts from."""
    assert refusal(token(), now=NOW - 600) is None
    assert refusal(token(), now=0) is None


@pytest.mark.parametrize(
    ("limit", "passes"),
    [
        (("service", "weather:0"), True),
        (("service", "weather"), True),
        (("service", "news:0,weather:1"), True),
        (("service", "news:0"), False),
        (("service", "weather2:0"), False),
        (("service", ""), False),
        (("kind", "pass"), True),
        (("kind", "credit"), False),
        (("network", "simulated"), True),
        (("network", "mainnet"), False),
        (("method", "GET"), True),
        (("method", "get"), False),
        (("method", "POST"), False),
        (("endpoint", "quote"), True),
        (("endpoint", "fact"), False),
        (("endpoint", ""), False),
        (("msat", "10000"), True),
        (("msat", "999999999999999999"), True),
        (("msat", "9999"), False),
        (("msat", "9" * 19), False),
        (("msat", "9" * 5000), False),
        (("msat", ""), False),
        (("msat", "-1"), False),
        (("msat", "1e9"), False),
        (("msat", "\u0661" * 9), False),
        (("msat", "\u00b2" * 9), False),
        (("price", "10000"), True),
        (("price", "9999"), False),
        (("price", ""), False),
        (("rate", "USD 97000.5"), True),
        (("rate", "USD 97000.50"), False),
        (("rate", ""), False),
        (("issued_at", str(NOW - 600)), True),
        (("issued_at", str(NOW - 599)), False),
        (("starts_at", str(NOW)), True),
        (("starts_at", str(NOW - HOUR + 1)), True),
        (("starts_at", str(NOW - HOUR)), False),
        (("ends_at", str(NOW + 1)), True),
        (("ends_at", str(NOW)), False),
        (("valid_until", str(NOW + 1)), True),
        (("valid_until", str(NOW)), False),
        (("valid_until", "never"), False),
    ],
)
def test_limits(limit, passes):
    """A limit that a holder appended lets its own requests pass; one that is unreadable, none."""
    assert refusal(token(limit)) is (None if passes else Reason.NARROWED)


def test_every_limit_counts():
    """Of several limits each one must let the request pass, in whatever order they stand."""
    wide, narrow = ("ends_at", str(NOW + 50)), ("ends_at", str(NOW - 1))
    assert refusal(token(wide, wide)) is None
    assert refusal(token(wide, narrow)) is Reason.NARROWED
    assert refusal(token(narrow, wide)) is Reason.NARROWED


FIELDS = st.sampled_from(Grant._fields)
VALUES = st.one_of(
    st.text(max_size=6),
    st.integers(-1, 2 * NOW).map(str),
    st.sampled_from([str(value) for value in GRANT]),
    st.just("weather:0"),
)
GRANTS = st.builds(
    Grant,
    st.sampled_from(SERVICES),
    st.sampled_from(KINDS),
    st.integers(0, 20_000),
    st.sampled_from(NETWORKS),
    *[st.integers(NOW - 2 * HOUR, NOW + 2 * HOUR)] * 4,
    st.sampled_from(METHODS),
    st.sampled_from(ENDPOINTS),
    st.just("l"),
    st.integers(0, 20_000),
    st.just(""),
)


@given(
    GRANTS,
    st.lists(st.tuples(FIELDS, VALUES), max_size=6),
    st.integers(NOW - HOUR, NOW + HOUR),
    st.sampled_from([0, 10_000, 20_000]),
    st.booleans(),
)
def test_limits_only_narrow(grant, limits, now, msat, constant):
    """What is refused without limits is refused with any, for the same reason."""
    view = TERMS if constant else terms(amount=lambda: 10)
    bare = refusal(Token(bytes(32), bytes(32), grant), view, now, msat)
    held = refusal(Token(bytes(32), bytes(32), grant, tuple(limits)), view, now, msat)
    assert held == bare if bare else held in (None, Reason.NARROWED)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (1, "1 s"),
        (60, "1 min"),
        (61, "1 min 1 s"),
        (3600, "1 h"),
        (5400, "1 h 30 min"),
        (86400, "1 day"),
        (90061, "1 day 1 h 1 min 1 s"),
        (30 * 86400, "30 days"),
    ],
)
def test_durations(seconds, text):
    """A length of time is written in the largest units that fit."""
    assert duration(seconds) == text


def test_words():
    """The terms say in words what one payment buys."""
    assert terms().words(10_000) == "10 sat, any number of calls for 1 h"
    assert terms().words(0) == "free"
    assert terms().words(Money.parse("0.01 USD")) == "0.01 USD, any number of calls for 1 h"
    assert terms().words(None).startswith("a price set per request")
    assert CALLS.words(Money.parse("0.012 USD")).startswith("0.060 USD for 5 calls")
    assert terms(kind=CREDIT, credit=500_000).words(Money.parse("0.01 USD")) == (
        "500 sat of credit, 0.01 USD for each call"
    )
