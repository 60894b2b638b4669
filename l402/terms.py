"""What a view asks for, and whether a right covers it."""

from collections.abc import Callable
from dataclasses import dataclass

from werkzeug.exceptions import HTTPException

from l402.denials import Reason
from l402.errors import PriceError
from l402.limits import Rates
from l402.protocol.token import PASS, Grant, Token

SAT = 1000  # msat


@dataclass(frozen=True, slots=True, eq=False)  # its identity is its key, and cheap
class Terms:
    """The terms of one endpoint and method. Empty fields are filled from the app's settings.

    `amount` is the price of a request in `unit` msat, or a callable that gives it within the
    request. One payment buys a pass of `valid_for` seconds, or, of the kind credit, as much as
    `uses` requests cost, or `credit` msat. `charge_on` are the statuses of answers that are
    charged to a credit; None means all below 400. `sold_directly` is false where the endpoint's
    view is not the one that is sold, but calls it.
    """

    amount: int | Callable[[], int]
    unit: int = SAT
    service: str = ""
    kind: str = PASS
    valid_for: int = 0
    uses: int = 0
    credit: int = 0
    charge_on: frozenset[int] | None = None
    rates: Rates | None = None
    description: str = ""
    network: str = ""
    endpoint: str = ""
    method: str = ""
    sold_directly: bool = True

    @property
    def constant(self) -> int | None:
        """The price in msat, or None if it is set per request."""
        return None if callable(self.amount) else self.amount * self.unit

    def price(self) -> int:
        """Return this request's price in msat.

        :raises PriceError: the callable failed or gave anything but an int of at least 0
        :raises HTTPException: the callable raised it, to refuse the request
        """
        if not callable(self.amount):
            return self.amount * self.unit
        name = getattr(self.amount, "__qualname__", repr(self.amount))
        try:
            amount = self.amount()
        except HTTPException:
            raise
        except Exception as error:
            raise PriceError(f"the price callable {name} raised {type(error).__name__}") from error
        if type(amount) is not int or amount < 0:  # True is an int, and no price
            raise PriceError(f"the price callable {name} gave {amount!r}; return an int >= 0")
        return amount * self.unit

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
        if grant.kind == PASS and grant.msat < msat and not self._sold_here(grant):
            return Reason.PRICE_TOO_LOW
        return None

    def narrowed(self, token: Token, msat: int, now: float) -> bool:
        """Tell whether a limit that a holder appended keeps this request out."""
        grant = token.grant
        return any(not self._permits(grant, *limit, msat, now) for limit in token.limits)

    def _sold_here(self, grant: Grant) -> bool:
        """What was bought at this endpoint for a constant price stays good till its end."""
        sold_for = (grant.endpoint, grant.method)
        return (
            self.sold_directly
            and not callable(self.amount)
            and sold_for == (self.endpoint, self.method)
        )

    def _permits(self, grant: Grant, field: str, value: str, msat: int, now: float) -> bool:
        if field == "service":
            return self.service in (name.partition(":")[0] for name in value.split(","))
        if field in ("kind", "network", "method", "endpoint"):
            return value == str(getattr(self, field))
        if field == "ledger":
            return value == grant.ledger
        if field.endswith("_valid_until") and field != f"{self.service}_valid_until":
            return True  # an end of what is asked of another service
        if not (value.isascii() and value.isdigit() and len(value) <= 18):
            return False  # a limit that cannot be read refuses
        number = int(value)
        if field == "msat":
            return msat <= number
        if field == "issued_at":
            return number == grant.issued_at
        return now < (number + self.valid_for if field == "starts_at" else number)

    def words(self) -> str:
        """Say what one payment buys, such as ``10 sat, any number of calls for 1 h``."""
        if self.constant == 0:
            return "free"
        price = "a price set per request" if self.constant is None else sats(self.constant)
        if self.kind == PASS:
            return f"{price}, any number of calls for {duration(self.valid_for)}"
        if self.uses == 1:
            return f"{price}, for each call"
        if self.credit:
            return f"{sats(self.credit)} of credit, {price} for each call"
        if self.constant is None:
            return f"{self.uses} calls at once, {price} for each call"
        return f"{sats(self.total(self.constant))} for {self.uses} calls, {price} for each"


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
