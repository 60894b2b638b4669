"""What one bitcoin costs: numbers from outside, and prices reckoned from them.

All of it is exact, whatever precision and rounding the host chose for its own decimals.
"""

import re
from collections.abc import Mapping
from decimal import ROUND_FLOOR, Context, Decimal
from fractions import Fraction
from types import MappingProxyType
from typing import NamedTuple

from l402.errors import RateError
from l402.rates.money import Money

_MSAT_PER_BITCOIN = 10**11
#: Beyond these lies no currency's price of a bitcoin, from kilograms of gold to rials.
_LEAST, _MOST = Decimal("0.001"), Decimal(10**13)
#: Twelve digits are enough for any; rounded down, so that a price is never below the exact one.
_TWELVE_DIGITS = Context(prec=12, rounding=ROUND_FLOOR)
_NUMBER = re.compile(r"[0-9]{1,14}(\.[0-9]{1,30})?", re.ASCII)


class Rate(NamedTuple):
    """`per_bitcoin` of `currency` for one bitcoin, read at the unix second `read_at`."""

    currency: str
    per_bitcoin: Decimal
    read_at: float

    @property
    def words(self) -> str:
        """Currency and number, such as ``USD 97000.5``."""
        return f"{self.currency} {self.per_bitcoin:f}"

    def msat(self, money: Money) -> int:
        """Return what `money` of this currency is in msat, rounded up: 1 at least."""
        if money.currency != self.currency:
            raise ValueError(f"a rate of {self.currency} says nothing of {money.currency}")
        amount, per = money.amount.as_integer_ratio()
        bitcoin, unit = self.per_bitcoin.as_integer_ratio()
        return -(-amount * _MSAT_PER_BITCOIN * unit // (per * bitcoin))


class Reading(NamedTuple):
    """What a source says that one bitcoin costs.

    `left_out` are the parts of the source that it does not rest on, and why.
    """

    per_bitcoin: Decimal
    left_out: Mapping[str, str] = MappingProxyType({})


def bitcoin_price(value: object) -> Decimal:
    """Return `value`, a Decimal, an int or text, as the price of one bitcoin.

    :raises RateError: it is something else, or absurd
    """
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        value = Decimal(value)
    if type(value) is int:
        value = Decimal(value)
    if not isinstance(value, Decimal):
        shown = repr(value[:30]) if isinstance(value, str) else f"a {type(value).__name__}"
        raise RateError(f"{shown} is no number; it takes a Decimal, an int or text")
    if not (value.is_finite() and _LEAST <= value <= _MOST):
        raise RateError(f"{value:.6g} is absurd for one bitcoin")
    return _TWELVE_DIGITS.normalize(value)


def ratio(value: Fraction) -> Decimal:
    """Return `value` in twelve digits, rounded down."""
    return _TWELVE_DIGITS.normalize(
        _TWELVE_DIGITS.divide(Decimal(value.numerator), Decimal(value.denominator))
    )
