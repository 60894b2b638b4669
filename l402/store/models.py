"""The record as mapped classes, for people: reports, notebooks, an admin page.

::

    from sqlalchemy import create_engine, select
    from sqlalchemy.orm import Session
    from l402.store.models import Payment

    with Session(create_engine("sqlite:///instance/l402.db")) as session:
        for payment in session.scalars(select(Payment).where(Payment.service == "quotes")):
            print(payment.presented_at, payment.msat)

The gate never imports this module: it uses the tables, and the ORM takes 70 ms to load.
"""

from datetime import date, datetime

from sqlalchemy.orm import DeclarativeBase, Mapped, relationship

from l402.store import tables


class Base(DeclarativeBase):
    """Root of the mapped classes; their tables carry the prefix ``l402_``."""

    metadata = tables.metadata


class Credential(Base):
    """A token that was presented with its payment; its rights stand in its payments.

    `token_id` is 64 hex digits; `uses` counts the requests served, a few seconds late.
    """

    __table__ = tables.credential

    token_id: Mapped[str]
    service: Mapped[str]
    first_presented_at: Mapped[datetime]
    last_used_at: Mapped[datetime | None]
    uses: Mapped[int]

    payments: Mapped[list["Payment"]] = relationship(back_populates="credential")

    def __repr__(self) -> str:
        return f"<Credential {self.token_id[:16]} of {self.service}>"


class Payment(Base):
    """One paid invoice, written when its token was first presented.

    `payment_hash` is 64 hex digits, `msat` what was paid. From `starts_at` (the invoice's end) to
    `ends_at` it gives its right; `valid_until` ends the token as a key. `endpoint` and `method`
    are what it was sold for. Only the status "granted" gives rights; "late" and "revoked" say
    what was the matter when it was first presented. `settled_at` is when the node confirmed the
    payment, where it was asked.
    """

    __table__ = tables.payment

    payment_hash: Mapped[str]
    token_id: Mapped[str]
    service: Mapped[str]
    kind: Mapped[str]
    msat: Mapped[int]
    network: Mapped[str]
    endpoint: Mapped[str]
    method: Mapped[str]
    issued_at: Mapped[datetime]
    starts_at: Mapped[datetime]
    ends_at: Mapped[datetime]
    valid_until: Mapped[datetime]
    presented_at: Mapped[datetime]
    status: Mapped[str]
    settled_at: Mapped[datetime | None]

    credential: Mapped[Credential] = relationship(back_populates="payments")

    def __repr__(self) -> str:
        return f"<Payment {self.payment_hash[:16]}: {self.msat} msat, {self.status}>"


class Revocation(Base):
    """What was revoked: `subject` is a token id, a payment hash, a handle or a service's name.

    `kind` says which ("token", "payment", "handle": the first 16 hex digits of a token id,
    "service"). A service's revocation concerns what was issued before `issued_before`.
    """

    __table__ = tables.revocation

    subject: Mapped[str]
    kind: Mapped[str]
    issued_before: Mapped[datetime | None]
    revoked_at: Mapped[datetime]
    why: Mapped[str | None]

    def __repr__(self) -> str:
        return f"<Revocation of {self.kind} {self.subject[:16]}>"


class ChallengeCount(Base):
    """How many challenges (unpaid invoices) an endpoint handed out on one UTC day."""

    __table__ = tables.challenge_count

    day: Mapped[date]
    service: Mapped[str]
    endpoint: Mapped[str]
    challenges: Mapped[int]

    def __repr__(self) -> str:
        return f"<ChallengeCount {self.day} {self.service} {self.endpoint}: {self.challenges}>"
