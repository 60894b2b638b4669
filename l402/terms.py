"""What a view asks for, and whether a right covers it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from l402.denials import Reason
from l402.memory import Rates
from l402.protocol.token import PASS, Grant, Token
from l402.rates.money import Money

SAT = 1000  # msat
#: Who paid at the last moment still has this long to come back with it, seconds.
_WAY_BACK = 60

#: What a request costs: in some unit of msat, in a currency, or for a callable to say.
Amount = int | Money | Callable[[], int]


class Quote(NamedTuple):
    """What a request costs, in msat.

    `constant`: every request of the endpoint costs that, for no callable said it. `rate` is what
    it was reckoned at, such as ``USD 97000.5`` for one bitcoin, or empty.
    """

    msat: int
    constant: bool
    rate: str = ""


@dataclass(frozen=True, slots=True, eq=False)  # its identity is its key, and cheap
class Terms:
    """The terms of one endpoint and method. Empty fields are filled from the app's settings.

    `amount` is the price of a request in `unit` msat or in a currency, or a callable that gives it
    within the request; `Prices` knows whether another goes before it. One payment buys a pass of
    `valid_for` seconds, or, of the kind credit, as much as `uses` requests cost, or `credit` msat.
    `charge_on` are the statuses of answers that are charged to a credit; None means all below 400.
    What a `metered` request costs, its view says; `amount` is then what is set aside for it at a
    time. `validate` is asked before anything is sold. `sold_directly` is false where the endpoint's
    view is not the one that is sold, but calls it.
    """

    amount: Amount
    unit: int = SAT
    service: str = ""
    kind: str = PASS
    valid_for: int = 0
    uses: int = 0
    credit: int = 0
    metered: bool = False
    charge_on: frozenset[int] | None = None
    rates: Rates | None = None
    description: str = ""
    validate: Callable[[], Any] | None = None
    network: str = ""
    endpoint: str = ""
    method: str = ""
    sold_directly: bool = True

    @property
    def constant(self) -> int | None:
        """The price in msat, or None if a callable or a rate has a say in it."""
        return self.amount * self.unit if isinstance(self.amount, int) else None

    def total(self, msat: int) -> int:
        """Return what one payment costs, in msat, where a request costs `msat`."""
        return self.uses * msat or max(self.credit, msat)  # less would not buy even this request

    def charges(self, status: int) -> bool:
        """Tell whether an answer of this status is charged to a credit."""
        return status < 400 if self.charge_on is None else status in self.charge_on

    def locked(self, token: Token, now: float) -> Reason | None:
        """Return why `token` is no key to anything here, or None if it is one."""
        if token.grant.network != self.network:
            return Reason.WRONG_NETWORK
        return Reason.EXPIRED if now >= token.grant.valid_until else None

    def agreed(self, grant: Grant, now: float, today: Callable[[], Quote]) -> int:
        """Return what a request costs who holds `grant`, in msat: what he was offered, or today's.

        Nobody who paid is refused because a price moved meanwhile: up to the invoice's end, and a
        little longer, a call costs what was asked; a pass, once bought for a constant price, keeps
        that price to its end.
        """
        if not self._sold_here(grant):
            return today().msat
        returning = now < grant.starts_at + _WAY_BACK
        if grant.price and (returning or grant.kind == PASS):  # also if no rate can be had today
            return grant.price
        quote = today()
        if returning and quote.constant and not grant.price:  # a callable said it, until just now
            return min(quote.msat, grant.msat // (self.uses or 1))
        return quote.msat

    def refusal(self, grant: Grant, msat: int, now: float) -> Reason | None:
        """Return why the right `grant` does not cover a request of `msat`, or None if it does.

        Whether a credit has enough left is for the record to tell.
        """
        if grant.service != self.service:
            return Reason.WRONG_SERVICE
        if grant.kind != self.kind:
            return Reason.WRONG_KIND
        if now >= grant.ends_at or now >= grant.starts_at + self.valid_for:
            return Reason.EXPIRED
        if grant.kind != PASS or grant.msat >= msat or self._keeps_its_price(grant):
            return None
        return Reason.PRICE_TOO_LOW

    def opened_until(self, token: Token, price: object, now: float) -> int:
        """Return until when the pass of `token` opens this by itself; 0 if that must be asked anew.

        In unix seconds. `price` is the one in force: only in msat it is sure to stay what it is.
        """
        grant = token.grant
        lasting = isinstance(price, int) and grant.msat >= price
        covered = lasting or self._keeps_its_price(grant)
        if not covered or token.limits or self.validate or self.refusal(grant, grant.msat, now):
            return 0
        return min(grant.ends_at, grant.valid_until, grant.starts_at + self.valid_for)

    def narrowed(self, token: Token, msat: int, now: float) -> bool:
        """Tell whether a limit that a holder appended keeps this request out."""
        grant = token.grant
        return any(not self._permits(grant, *limit, msat, now) for limit in token.limits)

    def most(self, token: Token) -> int | None:
        """Return what a metered request may cost at most, in msat, if a holder set limits."""
        limits = (int(value) for field, value in token.limits if field in ("msat", "price"))
        return min(limits, default=None)

    def _keeps_its_price(self, grant: Grant) -> bool:
        """Tell whether a pass was sold here for a price that is signed, and so holds to its end."""
        return grant.price > 0 and self._sold_here(grant)

    def _sold_here(self, grant: Grant) -> bool:
        """Tell whether `grant` was sold for this very endpoint and method, as what it sells now."""
        return (
            grant.endpoint == self.endpoint
            and grant.method == self.method
            and grant.kind == self.kind
            and grant.service == self.service
            and self.sold_directly
        )

    def _permits(self, grant: Grant, field: str, value: str, msat: int, now: float) -> bool:
        if field == "service":
            return self.service in (name.partition(":")[0] for name in value.split(","))
        if field in ("kind", "network", "method", "endpoint"):
            return value == str(getattr(self, field))
        if field in ("ledger", "rate"):
            return value == str(getattr(grant, field))
        if field.endswith("_valid_until") and field != f"{self.service}_valid_until":
            return True  # an end of what is asked of another service
        if not (value.isascii() and value.isdigit() and len(value) <= 18):
            return False  # a limit that cannot be read refuses
        number = int(value)
        if field in ("msat", "price"):
            return msat <= number
        if field == "issued_at":
            return number == grant.issued_at
        return now < (number + self.valid_for if field == "starts_at" else number)

    def words(self, price: int | Money | None) -> str:
        """Say what one payment buys, such as ``10 sat, any number of calls for 1 h``.

        `price` is what a request costs, in msat or in a currency; None is for a callable to say.
        """
        if price == 0:
            return "free"
        each = price_words(price)
        if self.kind == PASS:
            return f"{each}, any number of calls for {duration(self.valid_for)}"
        if self.uses == 1:
            return f"{each}, for each call"
        if self.metered:
            return f"{sats(self.credit)} of credit, charged by use, {each} set aside for each call"
        if self.credit:
            return f"{sats(self.credit)} of credit, {each} for each call"
        if price is None:
            return f"{self.uses} calls at once, {each} for each call"
        return f"{price_words(_times(self.uses, price))} for {self.uses} calls, {each} for each"


def price_words(price: int | Money | None) -> str:
    """Write a price, in msat or in a currency, or None for one that a callable says."""
    if price is None:
        return "a price set per request"
    return sats(price) if isinstance(price, int) else str(price)


def _times(number: int, price: int | Money) -> int | Money:
    if isinstance(price, int):
        return number * price
    return Money(number * price.amount, price.currency)


def sats(msat: int) -> str:
    """Write an amount in satoshis, such as ``2 sat`` or ``0.1 sat``."""
    whole, rest = divmod(msat, SAT)
    return f"{whole}.{rest:03}".rstrip("0").rstrip(".") + " sat"


def duration(seconds: int) -> str:
    """Write a length of time in the largest units that fit, such as ``1 h 30 min``."""
    parts = []
    for unit, size in (("day", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        count, seconds = divmod(seconds, size)
        if count:
            parts.append(f"{count} {unit}{'s' if unit == 'day' and count > 1 else ''}")
    return " ".join(parts) or "0 s"
