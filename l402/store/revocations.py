"""What must not be served any more, although it was paid: each fact a row, none ever undone."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Literal, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Delete,
    Integer,
    Select,
    SQLColumnExpression,
    and_,
    bindparam,
    delete,
    exists,
    func,
    not_,
    or_,
    select,
    tuple_,
)

from l402.store.clock import DatabaseNow, Moment
from l402.store.engine import LEISURE, Database
from l402.store.tables import Key, credential, insertion, payment, revocation

Kind = Literal["token", "payment", "handle", "service"]

#: Hex digits of a token id that make the handle in an invoice's description.
HANDLE_DIGITS = 16
_DIGITS = {"token": 64, "payment": 64, "handle": HANDLE_DIGITS}

#: A revocation may become visible this much later than its `revoked_at`: commits take their time.
OVERLAP = timedelta(seconds=120)


class Revoked(NamedTuple):
    """One revocation, as `Revocations.changes` hands it to the cache of verified credentials."""

    kind: Kind
    subject: str
    issued_before: datetime | None
    revoked_at: datetime
    why: str | None


class Reach(NamedTuple):
    """How much of the record a revocation concerns; `msat` is what was paid for it."""

    credentials: int
    payments: int
    msat: int


def hits(
    token_id: SQLColumnExpression[str],
    payment_hash: SQLColumnExpression[str],
    service: SQLColumnExpression[str],
    issued_at: SQLColumnExpression[datetime],
) -> ColumnElement[bool]:
    """Condition: a row of the revocation table concerns this payment of this token."""
    subject, kind = revocation.c.subject, revocation.c.kind
    return or_(
        and_(kind == "token", subject == token_id),
        and_(kind == "payment", subject == payment_hash),
        and_(kind == "handle", subject == func.substr(token_id, 1, HANDLE_DIGITS)),
        and_(kind == "service", subject == service, revocation.c.issued_before > issued_at),
    )


#: The same for a row of the payment table.
HIT = hits(payment.c.token_id, payment.c.payment_hash, payment.c.service, payment.c.issued_at)

#: Whether any revocation concerns a token, by the parameters token_id, payment_hash, service and
#: issued_at.
CONCERNED = exists().where(
    hits(
        bindparam("token_id", type_=Key),
        bindparam("payment_hash", type_=Key),
        bindparam("service", type_=Key),
        bindparam("issued_at", type_=Moment()),
    )
)

_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)

_NOW = select(DatabaseNow().label("now"))

_REVOKE = insertion(
    revocation,
    "subject kind issued_before revoked_at why",
    # Once revoked it stays so: only a later moment, for a service, says anything new.
    "ON CONFLICT (subject, kind) DO UPDATE SET issued_before = excluded.issued_before,"
    " revoked_at = excluded.revoked_at, why = coalesce(excluded.why, l402_revocation.why)"
    " WHERE excluded.issued_before > l402_revocation.issued_before RETURNING subject",
)

# The outer join gives the clock, and the rows if there are any, in one round trip.
_CLOCK = _NOW.subquery()
_CHANGES = select(_CLOCK.c.now, revocation).select_from(
    _CLOCK.outerjoin(revocation, revocation.c.revoked_at > bindparam("since", type_=Moment()))
)


class Revocations:
    """Revoking, by hand or in bulk, and the feed by which every process learns of it."""

    def __init__(self, db: Database) -> None:
        self.db = db

    def revoke(
        self,
        kind: Kind,
        subject: str,
        *,
        issued_before: datetime | None = None,
        why: str | None = None,
    ) -> bool:
        """Revoke a token id, a payment hash, a handle, or a service's tokens of before a moment.

        `subject` is 64, 64 or 16 hex digits, or the service's name, which alone takes
        `issued_before`. What was never presented can be revoked as well. The row is on the disk
        when this returns; it returns False if the same was revoked already.

        :raises ValueError: if `subject` or `issued_before` does not suit the `kind`
        :raises StoreError: if it could not be written
        """
        subject = _checked(kind, subject, issued_before)
        row = {"kind": kind, "subject": subject, "issued_before": issued_before, "why": why}

        def write() -> bool:
            with self.db.write(durable=True) as connection:
                now = connection.execute(_NOW).scalar_one()
                return connection.execute(_REVOKE, row | {"revoked_at": now}).first() is not None

        return self.db.run(write)

    def matching(self, kind: Kind, subject: str, *, issued_before: datetime | None = None) -> Reach:
        """Count what `revoke` with the same arguments would concern, and change nothing.

        :raises ValueError: as `revoke`
        :raises StoreError: if it could not be read
        """
        subject = _checked(kind, subject, issued_before)
        sums = select(
            func.count(payment.c.token_id.distinct()),
            func.count(),
            func.coalesce(func.sum(payment.c.msat), 0),
        ).where(_concerned(kind, subject, issued_before))
        with self.db.read(LEISURE) as connection:
            credentials, payments, msat = connection.execute(sums).one()
        return Reach(credentials, payments, int(msat))

    def changes(self, since: datetime | None) -> tuple[datetime, list[Revoked]]:
        """Give the database's clock, and what was revoked since that clock showed `since`.

        Rows of up to two minutes before `since` are given again: one may have been committed
        late. None asks for the clock alone.

        :raises StoreError: if it could not be read
        """
        after = None if since is None else since - OVERLAP
        rows = self.db.fetch(_CHANGES, {"since": after})
        found = [
            Revoked(row.kind, row.subject, row.issued_before, row.revoked_at, row.why)
            for row in rows
            if row.subject is not None
        ]
        return rows[0].now, found

    def purge(self, before: datetime, *, dry_run: bool = False, limit: int = 500) -> Iterator[int]:
        """Delete revocations from before a moment that concern nothing on record, page by page.

        Those of services stay: there is one for each. Gives how many each page deleted, of `limit`
        at most. What was signed before it was revoked must have ended, be it on record or not.

        :raises StoreError: if they could not be read or deleted; what is done is done
        """
        old, deletion = _old(), _deletion()
        page: Sequence[Any] = [(_LONG_AGO, "", "")]
        while page:
            at, after, of = page[-1][:3]
            last = {"at": at, "after": after, "of": of}
            page = self.db.fetch(old, {"end": before, "most": limit, **last})
            idle = [{"name": row.subject, "of": row.kind} for row in page if row.idle]
            if idle and not dry_run:
                self.db.run(partial(self._delete, deletion, idle))
            yield len(idle)

    def _delete(self, deletion: Delete, rows: list[dict[str, str]]) -> None:
        with self.db.write() as connection:
            connection.execute(deletion, rows)


def _checked(kind: Kind, subject: str, issued_before: datetime | None) -> str:
    if (kind == "service") != (issued_before is not None):
        raise ValueError("a service, and only a service, is revoked with issued_before")
    if kind == "service":
        return subject
    subject = subject.lower()
    if len(subject) != _DIGITS[kind] or not set(subject) <= set("0123456789abcdef"):
        raise ValueError(f"a {kind} is revoked by {_DIGITS[kind]} hex digits")
    return subject


def _concerned(kind: Kind, subject: str, issued_before: datetime | None) -> ColumnElement[bool]:
    if kind == "service":
        return and_(payment.c.service == subject, payment.c.issued_at < issued_before)
    if kind == "handle":
        return payment.c.token_id.between(subject.ljust(64, "0"), subject.ljust(64, "f"))
    return (payment.c.token_id if kind == "token" else payment.c.payment_hash) == subject


def _idle() -> ColumnElement[bool]:
    """Condition: a revocation of a token, a payment or a handle concerns nothing on record."""
    subject, kind = revocation.c.subject, revocation.c.kind
    behind = subject + "g"  # behind every digit
    token = exists().where(credential.c.token_id == subject)
    paid = exists().where(payment.c.payment_hash == subject)
    handle = exists().where(credential.c.token_id >= subject, credential.c.token_id <= behind)
    return not_(
        or_(
            and_(kind == "token", token),
            and_(kind == "payment", paid),
            and_(kind == "handle", handle),
        )
    )


def _old() -> Select[Any]:
    """A page of the revocations from before `end`, and whether they are idle."""
    order = (revocation.c.revoked_at, revocation.c.subject, revocation.c.kind)
    last = (
        bindparam("at", type_=Moment()),
        bindparam("after", type_=Key),
        bindparam("of", type_=Key),
    )
    return (
        select(*order, _idle().label("idle"))
        .where(
            revocation.c.revoked_at <= bindparam("end", type_=Moment()),
            revocation.c.kind != "service",
            tuple_(*order) > tuple_(*last),
        )
        .order_by(*order)
        .limit(bindparam("most", type_=Integer))
    )


def _deletion() -> Delete:
    return delete(revocation).where(
        revocation.c.subject == bindparam("name", type_=Key),
        revocation.c.kind == bindparam("of", type_=Key),
        _idle(),
    )
