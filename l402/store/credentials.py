"""Credentials as people ask for them: one's state, or a page of them."""

from collections.abc import Sequence
from datetime import datetime
from itertools import groupby
from typing import Any

from sqlalchemy import (
    LABEL_STYLE_TABLENAME_PLUS_COL,
    ColumnElement,
    Connection,
    Row,
    RowMapping,
    and_,
    bindparam,
    exists,
    literal,
    not_,
    or_,
    select,
    tuple_,
)

from l402.store.clock import Moment
from l402.store.credits import Credit
from l402.store.engine import LEISURE, Database
from l402.store.payments import GRANTED, PASS, REVOKED
from l402.store.revocations import HIT
from l402.store.states import CredentialState, PaymentState
from l402.store.tables import Key, credential, credit, payment, revocation

#: Fewer hex digits than this name too many tokens to be worth a look.
SHORTEST_PREFIX = 6
_MOST_FOUND = 10

_REVOKED = or_(payment.c.status == REVOKED, exists().where(HIT))
_WHY = (
    select(revocation.c.why).where(HIT).order_by(revocation.c.revoked_at).limit(1).scalar_subquery()
)
_TOKEN = payment.c.token_id
_OWN = payment.c.token_id == credential.c.token_id
# Newest first; the token id makes the order, and so the next page, exact.
_ORDER = (credential.c.first_presented_at.desc(), credential.c.token_id.desc())

_STATES = (
    select(credential, payment, _REVOKED.label("revoked"), _WHY.label("why"))
    .set_label_style(LABEL_STYLE_TABLENAME_PLUS_COL)
    .join(payment, _OWN)
    .where(credential.c.token_id.in_(bindparam("token_ids", expanding=True, type_=Key)))
    .order_by(*_ORDER, payment.c.presented_at, payment.c.payment_hash)
)
_CREDITS = (
    select(credit)
    .where(credit.c.token_id.in_(bindparam("token_ids", expanding=True, type_=Key)))
    .order_by(credit.c.token_id, credit.c.service)
)
_FIND = (
    select(credential.c.token_id)
    .where(credential.c.token_id.between(bindparam("low"), bindparam("high")))
    .union(select(payment.c.token_id).where(payment.c.payment_hash == bindparam("exact")))
    .order_by("token_id")
    .limit(_MOST_FOUND)
)


class Credentials:
    """What was sold, to be looked at."""

    def __init__(self, db: Database) -> None:
        self.db = db

    def state(self, token_id: bytes | str) -> CredentialState | None:
        """Give all that is known of a credential; None before its first presentation.

        `token_id` is 32 bytes, or their 64 hex digits.

        :raises StoreError: if it could not be read
        """
        named = {"token_ids": [token_id if isinstance(token_id, str) else token_id.hex()]}
        rows, credits = self.db.fetch(_STATES, named), self.db.fetch(_CREDITS, named)
        return next(iter(_assemble(rows, credits)), None)

    def find(self, name: str) -> list[str]:
        """Give the token ids that `name` may mean, ten at most.

        `name` is a token id, a payment hash, the handle in an invoice's description, or any six
        or more digits with which a token id begins.

        :raises ValueError: if it is none of these
        :raises StoreError: if it could not be read
        """
        name = name.lower()
        if not SHORTEST_PREFIX <= len(name) <= 64 or not set(name) <= set("0123456789abcdef"):
            raise ValueError(f"write {SHORTEST_PREFIX} to 64 hex digits")
        bounds = {"low": name.ljust(64, "0"), "high": name.ljust(64, "f"), "exact": name}
        return [row.token_id for row in self.db.fetch(_FIND, bounds)]

    def page(
        self,
        *,
        now: datetime,
        service: str | None = None,
        active: bool | None = None,
        revoked: bool | None = None,
        since: datetime | None = None,
        after: str | None = None,
        limit: int = 50,
    ) -> list[CredentialState]:
        """Give credentials, the newest first: at most `limit`, from behind the token id `after`.

        Each condition that is not None narrows: to a service, to those that give a right at
        `now` or do not, that are revoked or are not, that were first presented `since`.

        :raises ValueError: the record does not hold `after`
        :raises StoreError: if it could not be read
        """
        chosen = select(credential.c.token_id).order_by(*_ORDER).limit(limit)
        if service is not None:
            chosen = chosen.where(credential.c.service == service)
        if active is not None:
            chosen = chosen.where(_active(now) if active else not_(_active(now)))
        if revoked is not None:
            chosen = chosen.where(_dead() if revoked else not_(_dead()))
        if since is not None:
            chosen = chosen.where(credential.c.first_presented_at >= since)
        with self.db.read(LEISURE) as connection:
            if after is not None:
                chosen = chosen.where(_behind(connection, after))
            token_ids = connection.execute(chosen).scalars().all()
            rows = connection.execute(_STATES, {"token_ids": token_ids}).all()
            credits = connection.execute(_CREDITS, {"token_ids": token_ids}).all()
        return _assemble(rows, credits)


def _assemble(rows: Sequence[Row[Any]], credits: Sequence[Row[Any]]) -> list[CredentialState]:
    """Put together the credentials that `_STATES` gives, one row per payment, and `_CREDITS`."""
    by_token = groupby((row._mapping for row in rows), lambda row: row[credential.c.token_id])
    balances: dict[str, list[Credit]] = {}
    for row in credits:
        own = Credit(row.service, row.balance, row.reserved, row.ends_at)
        balances.setdefault(row.token_id, []).append(own)
    return [_state(list(payments), balances.get(key, [])) for key, payments in by_token]


def _state(rows: Sequence[RowMapping], credits: Sequence[Credit]) -> CredentialState:
    own = {column.name: rows[0][column] for column in credential.columns}
    payments = (
        PaymentState(
            **{column.name: row[column] for column in payment.columns if column is not _TOKEN},
            revoked=bool(row["revoked"]),
            why=row["why"],
        )
        for row in rows
    )
    return CredentialState(**own, payments=tuple(payments), credits=tuple(credits))


def _active(now: datetime) -> ColumnElement[bool]:
    good = and_(payment.c.status == GRANTED, not_(_REVOKED))
    key = _has_payment(good, payment.c.valid_until > now)
    by_pass = _has_payment(good, payment.c.kind == PASS, payment.c.ends_at > now)
    return and_(key, or_(by_pass, _has_balance(now)))


def _has_balance(now: datetime) -> ColumnElement[bool]:
    own = select(credit.c.balance).where(credit.c.token_id == credential.c.token_id)
    spendable = own.where(credit.c.balance > 0, credit.c.ends_at > now).offset(0)
    return spendable.correlate(credential).exists()


def _dead() -> ColumnElement[bool]:
    return not_(_has_payment(not_(_REVOKED)))


def _has_payment(*conditions: ColumnElement[bool]) -> ColumnElement[bool]:
    # The offset keeps Postgres from joining all payments for the sake of one page.
    own = select(payment.c.payment_hash).where(_OWN, *conditions).offset(0)
    return own.correlate(credential).exists()


def _behind(connection: Connection, token_id: str) -> ColumnElement[bool]:
    moment = select(credential.c.first_presented_at).where(credential.c.token_id == token_id)
    last = connection.execute(moment).scalar_one_or_none()
    if last is None:
        raise ValueError(f"no credential {token_id} to go on from")
    return tuple_(credential.c.first_presented_at, credential.c.token_id) < tuple_(
        literal(last, Moment()), literal(token_id, Key)
    )
