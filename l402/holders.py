"""Who has shown a paid token in this process: verified once, and let in again after one look."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from l402.cache import VerifiedTokens, concerned
from l402.denials import Denial, Reason
from l402.errors import Invalid, Malformed
from l402.limits import Limits
from l402.payment import CurrentPayment
from l402.prices import Prices
from l402.protocol import authorization, token
from l402.protocol.keys import KeyRing
from l402.protocol.token import Token
from l402.store.revocations import Revoked
from l402.terms import Terms


class Opened(NamedTuple):
    """What a pass opened: good `until`, a unix second, if prices are still of this `edition`.

    `ends` is what its holder is told, and `limit` counts its requests.
    """

    until: int
    ends: int | None
    edition: object
    limit: Callable[[], int]


class Holders:
    """The tokens that this process has verified, and what passes among them have opened."""

    def __init__(self, keys: KeyRing, limits: Limits, prices: Prices) -> None:
        self.keys, self.limits, self.prices = keys, limits, prices
        self.verified = VerifiedTokens()

    def authentic(self, header: str | None) -> tuple[Token, ...]:
        """Return the tokens of a header that are ours and paid for; none if it shows none.

        :raises Malformed: no credential in it has the right form
        :raises Invalid: it shows credentials, and none is authentic
        """
        if header is None:
            return ()
        if (known := self.verified.get(header)) is not None:
            return known
        tokens, fault = [], None
        for credential in authorization.parse(header):
            try:
                tokens.append(token.verify(self.keys, credential))
            except (Invalid, Malformed) as error:
                fault = error if fault is None or isinstance(error, Invalid) else fault
        if fault and not tokens:
            raise fault
        if tokens:
            self.verified.put(header, tuple(tokens))
        return tuple(tokens)

    def again(self, header: str, terms: Terms, now: float) -> CurrentPayment | Denial | None:
        """Judge a pass that opened this view before; None sends its holder the long way.

        All that could have changed since is looked at: its end, the prices, whether it was revoked,
        and its limit, which counts each request.
        """
        tokens = self.verified.get(header)
        if tokens is None or len(tokens) != 1:
            return None
        shown = tokens[0]
        opened = shown.opened.get(terms)
        if opened is None or now >= opened.until or not shown.booked:
            return None
        if opened.edition is not self.prices.edition:
            return None
        if wait := opened.limit():
            return Denial(Reason.RATE_LIMITED, retry_after=wait)
        return CurrentPayment(shown, terms.service, shown.grant.msat, opened.ends)

    def note(
        self, shown: Token, terms: Terms, payment: CurrentPayment, edition: object, now: float
    ) -> None:
        """Note that a pass opened this, at prices of that `edition`, if it will do so again."""
        if until := terms.opened_until(shown, self.prices.constant(terms), now):
            limit = self.limits.bucket(shown.token_id, terms.rates, terms.endpoint)
            shown.opened[terms] = Opened(until, payment.ends, edition, limit)

    def forget(self, revoked: Sequence[Revoked]) -> None:
        """Have what was revoked ask the record again; it refuses them."""
        if revoked:
            self.verified.evict(concerned(revoked))
