import decimal
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from l402.errors import RateError
from l402.rates.money import Money
from l402.rates.rate import Rate, bitcoin_price, ratio

AMOUNTS = st.decimals("0.00000001", 10**12, places=8, allow_nan=False)
PRICES = st.decimals("0.001", 10**13, allow_nan=False, allow_infinity=False)


def usd(amount):
    return Money(Decimal(amount), "USD")


def rate(per_bitcoin):
    return Rate("USD", Decimal(per_bitcoin), 0.0)


@pytest.mark.parametrize(
    ("amount", "per_bitcoin", "msat"),
    [
        ("0.01", "100000", 10_000),
        ("0.01", "97000.5", 10_310),  # 10309.22…
        ("1", "100000", 1_000_000),
        ("100000", "100000", 10**11),
        ("0.00000001", "10000000000000", 1),
        ("0.01", "3", 333_333_334),
    ],
)
def test_money_in_msat(amount, per_bitcoin, msat):
    """An amount is so many msat, rounded up."""
    assert rate(per_bitcoin).msat(usd(amount)) == msat


@given(AMOUNTS, PRICES)
def test_is_never_below_the_exact_value(amount, price):
    """What is asked is the exact value or less than one msat above it, and never nothing."""
    per_bitcoin = bitcoin_price(price)
    msat = rate(per_bitcoin).msat(usd(amount))
    exact = Fraction(amount) * 10**11 / Fraction(per_bitcoin)
    assert exact <= msat < exact + 1
    assert msat >= 1


@given(PRICES)
def test_a_price_is_rounded_down(price):
    """Cut to twelve digits, a bitcoin is never dearer than it was said to be."""
    per_bitcoin = bitcoin_price(price)
    assert Fraction(price) * (1 - Fraction(1, 10**11)) <= Fraction(per_bitcoin) <= Fraction(price)
    assert len(per_bitcoin.as_tuple().digits) <= 12


@given(AMOUNTS, PRICES, PRICES)
def test_a_dearer_bitcoin_costs_no_more_msat(amount, one, other):
    """The more a bitcoin costs, the fewer msat pay the same amount."""
    low, high = sorted(map(bitcoin_price, (one, other)))
    assert rate(low).msat(usd(amount)) >= rate(high).msat(usd(amount))


def test_the_hosts_own_decimals_change_nothing():
    """A host that computes with three digits, or traps every inexact result, gets the same."""
    with decimal.localcontext(prec=3, rounding=decimal.ROUND_UP) as context:
        context.traps[decimal.Inexact] = context.traps[decimal.Rounded] = True
        price = bitcoin_price("97000.123456789123")
        assert price == Decimal("97000.1234567")
        assert rate(price).msat(usd("0.01")) == 10_310
        assert ratio(Fraction(1, 3) * 10**5) == Decimal("33333.3333333")


@pytest.mark.parametrize(
    ("per_bitcoin", "words"),
    [("97000.50", "USD 97000.5"), ("100000", "USD 100000"), ("1E+13", "USD 10000000000000")],
)
def test_words(per_bitcoin, words):
    """A rate is written without an exponent and without needless zeros."""
    assert rate(bitcoin_price(Decimal(per_bitcoin))).words == words


def test_another_currency_is_not_reckoned():
    """A rate of dollars says nothing of euros."""
    with pytest.raises(ValueError, match="USD says nothing of EUR"):
        rate("97000").msat(Money(Decimal(1), "EUR"))


@pytest.mark.parametrize(
    "value", [97000, "97000", "97000.0", Decimal("97000"), Decimal("9.7E+4"), "00097000"]
)
def test_reads_what_is_exact(value):
    """Ints, Decimals and text in digits are numbers."""
    assert bitcoin_price(value) == 97000


@pytest.mark.parametrize(
    "value",
    [
        97000.0, True, None, [], {}, object(), b"97000", "", "97,000", "97 000", "$97000", "9.7e4",
        "-1", "+1", ".5", "1.", "nan", "Infinity", " 97000", "97000\n", "٩", "9" * 15, "9" * 10_000,
        0, -1, 10**14, 10**10_000, "0", "0.0009", Decimal("-1"), Decimal("NaN"), Decimal("sNaN"),
        Decimal("Infinity"), Decimal("-Infinity"), Decimal("1e308"), Decimal("1e-308"),
        Decimal("1e999999999"),
    ],
    ids=lambda value: repr(value)[:20] if not isinstance(value, int) else f"int {value:.3g}"
    if value < 10**15 else "huge int",
)  # fmt: skip
def test_refuses_what_is_not_or_absurd(value):
    """Floats, other things and absurd numbers are refused in a few words."""
    with pytest.raises(RateError) as caught:
        bitcoin_price(value)
    assert len(str(caught.value)) < 100
