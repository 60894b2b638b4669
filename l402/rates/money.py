"""An amount of money in a currency, as a price names it."""

import re
from decimal import Decimal
from typing import NamedTuple

from l402.errors import ConfigurationError

_MONEY = re.compile(r"((?:0|[1-9][0-9]{0,11})(?:\.[0-9]{1,8})?) ([A-Z]{3})", re.ASCII)


class Money(NamedTuple):
    """So much of a currency: `amount` above 0, `currency` its three letters (ISO 4217)."""

    amount: Decimal
    currency: str

    @classmethod
    def parse(cls, text: object) -> "Money":
        """Read a price such as ``0.01 USD``.

        :raises ConfigurationError: it is written differently; the message says how to write it
        """
        found = _MONEY.fullmatch(text) if isinstance(text, str) else None
        if found is None:
            raise ConfigurationError(
                f"{text!r:.60} is no price in a currency; write an amount with at most 8 decimals,"
                " a space and three capital letters, for example '0.01 USD'"
            )
        amount = Decimal(found[1])
        if not amount:
            raise ConfigurationError(f"{text!r} is nothing; for a view that is free write sats=0")
        return cls(amount, found[2])

    def __str__(self) -> str:
        return f"{self.amount:f} {self.currency}"
