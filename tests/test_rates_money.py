from contextlib import suppress
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from l402.errors import ConfigurationError
from l402.rates.money import Money


@pytest.mark.parametrize(
    ("text", "amount", "currency"),
    [
        ("0.01 USD", "0.01", "USD"),
        ("1 EUR", "1", "EUR"),
        ("0.00000001 KWD", "0.00000001", "KWD"),
        ("999999999999 VND", "999999999999", "VND"),
        ("10.50 CHF", "10.50", "CHF"),
    ],
)
def test_reads_an_amount_and_a_currency(text, amount, currency):
    """A decimal, one space and three capital letters are a price, and it prints as written."""
    money = Money.parse(text)
    assert money == Money(Decimal(amount), currency)
    assert str(money) == text


@pytest.mark.parametrize(
    "text",
    [
        "", "USD", "0.01", "0.01USD", "0.01  USD", " 0.01 USD", "0.01 USD ", "0.01 USD\n",
        "USD 0.01", "$0.01", "0.01 usd", "0.01 US", "0.01 USDT", ".01 USD", "1. USD", "01 USD",
        "+1 USD", "-1 USD", "1e3 USD", "1,5 EUR", "1_0 USD", "0.000000001 USD",
        "1000000000000 USD", "NaN USD", "Infinity USD", "\u0661 USD", "1 ÜSD", "0x1 USD",
        0.01, 1, None, True, Decimal("0.01"), b"0.01 USD", ("0.01", "USD"), "9" * 10_000,
    ],
)  # fmt: skip
def test_refuses_everything_else(text):
    """Anything written differently is refused briefly, with an example of what to write."""
    with pytest.raises(ConfigurationError, match=r"for example '0\.01 USD'") as caught:
        Money.parse(text)
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize("text", ["0 USD", "0.00 EUR"])
def test_nothing_is_no_price(text):
    """A free view is not written as nothing of a currency."""
    with pytest.raises(ConfigurationError, match="write sats=0"):
        Money.parse(text)


@given(st.text())
def test_any_text_is_read_or_refused(text):
    """No text raises anything else."""
    with suppress(ConfigurationError):
        assert str(Money.parse(text)) == text
