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
    are what it was sold for, `price_msat` what the refused request cost (0 if a callable said it),
    and `rate` what that was reckoned at, such as ``USD 97000.5`` for one bitcoin. Only the status
    "granted" gives rights; "late" and "revoked" say what was the matter when it was first
    presented. `settled_at` is when the node confirmed the payment, where it was asked.
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
    price_msat: Mapped[int]
    rate: Mapped[str]

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


class Ledger(Base):
    """This record's identity: one row, drawn at random when its tables were made.

    What ended before `closed_until` may have been purged.
    """

    __table__ = tables.ledger

    ledger_id: Mapped[str]
    closed_until: Mapped[datetime | None]

    def __repr__(self) -> str:
        return f"<Ledger {self.ledger_id}>"


class Credit(Base):
    """What an account (a token id) may still spend on a service, until `ends_at`; in msat.

    `reserved` is what calls in flight hold: neither spent nor free. `carried` is what it owned
    where its entries begin, if older ones were purged.
    """

    __table__ = tables.credit

    token_id: Mapped[str]
    service: Mapped[str]
    balance: Mapped[int]
    reserved: Mapped[int]
    ends_at: Mapped[datetime]
    carried: Mapped[int]

    def __repr__(self) -> str:
        return f"<Credit of {self.token_id[:16]} for {self.service}: {self.balance} msat>"


class Lease(Base):
    """A process that holds uses; unless it renews this row, they are given back."""

    __table__ = tables.lease

    process: Mapped[str]
    expires_at: Mapped[datetime]

    def __repr__(self) -> str:
        return f"<Lease of {self.process[:16]} until {self.expires_at}>"


class Use(Base):
    """A call in flight that holds `msat` of a balance; the row goes when it is resolved.

    Of a metered call, `charged` is what it has used up of them, in msat.
    """

    __table__ = tables.use

    use_id: Mapped[str]
    token_id: Mapped[str]
    service: Mapped[str]
    endpoint: Mapped[str]
    method: Mapped[str]
    msat: Mapped[int]
    process: Mapped[str]
    reserved_at: Mapped[datetime]
    charged: Mapped[int]

    def __repr__(self) -> str:
        return f"<Use of {self.token_id[:16]} for {self.service}: {self.msat} msat>"


class Entry(Base):
    """A line of the ledger; the database refuses to change one, and only a purge deletes it.

    `kind` is "purchase", "use", "release", "write_off", "expiry", "credit" or "debit", the last
    two by hand. `balance_before` and `balance_after` count what is reserved too.
    """

    __table__ = tables.entry

    entry_id: Mapped[int]
    operation: Mapped[str]
    kind: Mapped[str]
    token_id: Mapped[str]
    service: Mapped[str]
    endpoint: Mapped[str | None]
    method: Mapped[str | None]
    msat: Mapped[int]
    balance_before: Mapped[int]
    balance_after: Mapped[int]
    at: Mapped[datetime]
    why: Mapped[str | None]

    def __repr__(self) -> str:
        return f"<Entry {self.entry_id}: {self.kind} of {self.msat} msat>"


class Reply(Base):
    """An answer kept for a repeat under the same Idempotency-Key, whose SHA-256 is `key`.

    Without `status` its use is in flight; without `body` it cannot be given again.
    """

    __table__ = tables.reply

    token_id: Mapped[str]
    key: Mapped[str]
    fingerprint: Mapped[str]
    use_id: Mapped[str]
    status: Mapped[int | None]
    headers: Mapped[str | None]
    body: Mapped[bytes | None]
    expires_at: Mapped[datetime]

    def __repr__(self) -> str:
        return f"<Reply to {self.key[:16]} of {self.token_id[:16]}>"


class Price(Base):
    """A price set at run time, in msat; it goes before the configuration's and the code's."""

    __table__ = tables.price

    service: Mapped[str]
    endpoint: Mapped[str]
    method: Mapped[str]
    msat: Mapped[int]
    set_at: Mapped[datetime]
    why: Mapped[str | None]

    def __repr__(self) -> str:
        return f"<Price of {self.method} {self.endpoint}: {self.msat} msat>"


class Settlement(Base):
    """An invoice of ours that the node says was paid, as `flask l402 reconcile` found it.

    `handle` is what its description ends in, `msat` what it asked for, `received` what arrived.
    Whether it was ever presented, `l402_payment` says.
    """

    __table__ = tables.settlement

    payment_hash: Mapped[str]
    network: Mapped[str]
    handle: Mapped[str]
    msat: Mapped[int]
    received: Mapped[int]
    settled_at: Mapped[datetime]

    def __repr__(self) -> str:
        return f"<Settlement {self.payment_hash[:16]}: {self.received} msat>"


class Bookmark(Base):
    """How far the node's list of invoices was read: `position` is that of a paid one."""

    __table__ = tables.bookmark

    network: Mapped[str]
    position: Mapped[int]
    payment_hash: Mapped[str]
    read_at: Mapped[datetime]

    def __repr__(self) -> str:
        return f"<Bookmark on {self.network}: {self.position}>"


class Closing(Base):
    """What was purged of a day, as a sum: `number` rows of `msat` together.

    `book` is "entry", "payment", "balance" or "settlement", and `kind` that of the entry, the kind
    and status of the payment, or whether a payment was found at the node. What a book does not
    know (an entry its network, a settlement its service) is empty.
    """

    __table__ = tables.closing

    day: Mapped[date]
    book: Mapped[str]
    kind: Mapped[str]
    service: Mapped[str]
    endpoint: Mapped[str]
    network: Mapped[str]
    number: Mapped[int]
    msat: Mapped[int]

    def __repr__(self) -> str:
        return f"<Closing of {self.day}: {self.number} of {self.book} {self.kind}>"


class Purge(Base):
    """A token that is being purged; no other transaction than the purge's ever sees one."""

    __table__ = tables.purge

    token_id: Mapped[str]
