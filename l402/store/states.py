"""How a sale stands: what a credential holds, and whether it opens anything."""

from datetime import datetime
from typing import NamedTuple

from l402.store.credits import Credit
from l402.store.payments import GRANTED, PASS


class PaymentState(NamedTuple):
    """One payment of a credential; the fields are those of `l402.store.models.Payment`."""

    payment_hash: str
    service: str
    kind: str
    msat: int
    network: str
    endpoint: str
    method: str
    issued_at: datetime
    starts_at: datetime
    ends_at: datetime
    valid_until: datetime
    presented_at: datetime
    status: str
    settled_at: datetime | None
    price_msat: int
    rate: str
    revoked: bool
    why: str | None

    @property
    def good(self) -> bool:
        """Whether it was granted, and is not revoked."""
        return self.status == GRANTED and not self.revoked

    def active(self, now: datetime) -> bool:
        """Tell whether it gives its right at `now`; of credit, whether that has not ended."""
        return self.good and now < min(self.ends_at, self.valid_until)


class CredentialState(NamedTuple):
    """A credential, its payments, oldest first, and its balances by service.

    `uses` and `last_used_at` come seconds late.
    """

    token_id: str
    service: str
    first_presented_at: datetime
    last_used_at: datetime | None
    uses: int
    payments: tuple[PaymentState, ...]
    credits: tuple[Credit, ...]

    @property
    def msat(self) -> int:
        """What was paid in all."""
        return sum(payment.msat for payment in self.payments)

    @property
    def ends_at(self) -> datetime:
        """The latest end of its rights, whether or not they were granted or revoked since."""
        ends = [payment.ends_at for payment in self.payments]
        return max(ends + [credit.ends_at for credit in self.credits])

    @property
    def revoked(self) -> bool:
        """Whether all of it is revoked."""
        return all(payment.revoked for payment in self.payments)

    @property
    def why(self) -> str | None:
        """The reason given with a revocation, if any."""
        return next((payment.why for payment in self.payments if payment.why), None)

    def balance(self, now: datetime) -> int | None:
        """Give what may be spent at `now`, in msat over all services; None if it never had any."""
        left = [credit.balance for credit in self.credits if now < credit.ends_at]
        return sum(left) if self.credits else None

    def key(self, now: datetime) -> bool:
        """Tell whether one of its macaroons still opens what the credential holds."""
        return any(payment.good and now < payment.valid_until for payment in self.payments)

    def active(self, now: datetime) -> bool:
        """Tell whether it opens anything at `now`: by a pass, or with a balance."""
        passes = (each for each in self.payments if each.kind == PASS and each.good)
        holds = self.balance(now) or any(now < each.ends_at for each in passes)
        return self.key(now) and bool(holds)

    def exhausted(self, now: datetime) -> bool:
        """Tell whether it opens nothing at `now` only because its balance is used up."""
        lasting = any(now < credit.ends_at for credit in self.credits)
        return self.key(now) and lasting and not self.active(now)
