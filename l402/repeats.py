"""The short way: a pass that opened a view in this process, shown there again.

All that could have changed since is looked at: its end, the prices, whether it was revoked, and
its limit, which counts each request.
"""

from typing import NamedTuple

from l402.cache import VerifiedTokens
from l402.denials import Denial, Reason
from l402.limits import Bucket, Limits
from l402.payment import CurrentPayment
from l402.prices import Prices
from l402.protocol.token import Token
from l402.terms import Terms


class Opened(NamedTuple):
    """What a pass opened: good `until`, a unix second, if prices are still of this `edition`.

    `ends` is what its holder is told, and `bucket` where its requests are counted.
    """

    until: int
    ends: int | None
    edition: object
    bucket: Bucket


class Repeats:
    """What passes have opened here, kept with the tokens that this process has verified."""

    def __init__(self, verified: VerifiedTokens, limits: Limits, prices: Prices) -> None:
        self.verified, self.limits, self.prices = verified, limits, prices

    def judge(self, header: str, terms: Terms, now: float) -> CurrentPayment | Denial | None:
        """Judge what has opened this before; None sends it the long way."""
        tokens = self.verified.get(header)
        if tokens is None or len(tokens) != 1:
            return None
        shown = tokens[0]
        opened = shown.opened.get(terms)
        if opened is None or now >= opened.until or not shown.booked:
            return None
        if opened.edition is not self.prices.edition:
            return None
        if wait := self.limits.count(opened.bucket):
            return Denial(Reason.RATE_LIMITED, retry_after=wait)
        return CurrentPayment(shown, terms.service, shown.grant.msat, opened.ends)

    def note(
        self, shown: Token, terms: Terms, payment: CurrentPayment, edition: object, now: float
    ) -> None:
        """Note that a pass opened this, at prices of that `edition`, if it will do so again."""
        if until := terms.opened_until(shown, self.prices.constant(terms), now):
            bucket = self.limits.bucket(shown.token_id, terms.rates, terms.endpoint)
            shown.opened[terms] = Opened(until, payment.ends, edition, bucket)
