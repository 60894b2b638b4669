"""What a view asks for, and whether a right covers it."""

from collections.abc import Callable
from dataclasses import dataclass

from werkzeug.exceptions import HTTPException

from l402.denials import Reason
from l402.errors import PriceError
from l402.limits import Rates
from l402.protocol.token import PASS, Token


@dataclass(frozen=True, slots=True, eq=False)  # its identity is its key, and cheap
class Terms:
    """The terms of one endpoint and method. Empty fields are filled from the app's settings.

    `sats` is a price in satoshis, or a callable that gives one within the request. `valid_for`
    is a pass's length in seconds. `sold_directly` is false where the endpoint's view is not the
    one that is sold, but calls it.
    """

    sats: int | Callable[[], int]
    service: str = ""
    valid_for: int = 0
    rates: Rates | None = None
    description: str = ""
    network: str = ""
    endpoint: str = ""
    method: str = ""
    kind: str = PASS
    sold_directly: bool = True

    def price(self) -> int:
        """Return this request's price in msat.

        :raises PriceError: the callable failed or gave anything but an int of at least 0
        :raises HTTPException: the callable raised it, to refuse the request
        """
        if not callable(self.sats):
            return self.sats * 1000
        name = getattr(self.sats, "__qualname__", repr(self.sats))
        try:
            sats = self.sats()
        except HTTPException:
            raise
        except Exception as error:
            raise PriceError(f"the price callable {name} raised {type(error).__name__}") from error
        if type(sats) is not int or sats < 0:  # True is an int, and no price
            raise PriceError(f"the price callable {name} gave {sats!r}; return an int >= 0 of sats")
        return sats * 1000

    def misfit(self, token: Token, now: float) -> Reason | None:
        """Return why `token` opens nothing here at any price, or None if it may."""
        grant = token.grant
        if grant.network != self.network:
            return Reason.WRONG_NETWORK
        if grant.service != self.service:
            return Reason.WRONG_SERVICE
        if grant.kind != self.kind:
            return Reason.WRONG_KIND
        if now >= grant.ends_at or now >= grant.valid_until:
            return Reason.EXPIRED
        return Reason.EXPIRED if now >= grant.starts_at + self.valid_for else None

    def shortfall(self, token: Token, msat: int, now: float) -> Reason | None:
        """Return why a fitting `token` does not cover this request, or None if it does."""
        if token.grant.msat < msat and not self._sold_here(token):
            return Reason.PRICE_TOO_LOW
        for limit in token.limits:
            if not self._permits(token, *limit, msat, now):
                return Reason.NARROWED
        return None

    def refusal(self, token: Token, msat: int, now: float) -> Reason | None:
        """Return why `token` does not cover a request priced at `msat`, or None if it does."""
        return self.misfit(token, now) or self.shortfall(token, msat, now)

    def _sold_here(self, token: Token) -> bool:
        """What was bought at this endpoint for a constant price stays good till its end."""
        sold_for = (token.grant.endpoint, token.grant.method)
        return (
            self.sold_directly
            and not callable(self.sats)
            and sold_for == (self.endpoint, self.method)
        )

    def _permits(self, token: Token, field: str, value: str, msat: int, now: float) -> bool:
        """Tell whether a limit that a holder appended lets this request pass."""
        if field == "service":
            return self.service in (name.partition(":")[0] for name in value.split(","))
        if field in ("kind", "network", "method", "endpoint"):
            return value == str(getattr(self, field))
        if not (value.isascii() and value.isdigit() and len(value) <= 18):
            return False  # a limit that cannot be read refuses
        number = int(value)
        if field == "msat":
            return msat <= number
        if field == "issued_at":
            return number == token.grant.issued_at
        return now < (number + self.valid_for if field == "starts_at" else number)

    def words(self) -> str:
        """Say what one payment buys, such as ``10 sat, any number of calls for 1 h``."""
        if self.sats == 0:
            return "free"
        price = "a price set per request" if callable(self.sats) else f"{self.sats} sat"
        return f"{price}, any number of calls for {duration(self.valid_for)}"


def duration(seconds: int) -> str:
    """Write a length of time in the largest units that fit, such as ``1 h 30 min``."""
    parts = []
    for unit, size in (("day", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        count, seconds = divmod(seconds, size)
        if count:
            parts.append(f"{count} {unit}{'s' if unit == 'day' and count > 1 else ''}")
    return " ".join(parts) or "0 s"
