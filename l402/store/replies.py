"""Answers kept under an Idempotency-Key: a repeat gets the same one, and is not charged again.

The row is made with the use, in its transaction; it gets the answer in the transaction that takes
the use, and goes when the use is given back.
"""

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, NamedTuple

from sqlalchemy import (
    CTE,
    ColumnElement,
    Connection,
    and_,
    bindparam,
    delete,
    literal_column,
    not_,
    null,
    select,
    update,
)

from l402.store.clock import DatabaseNow, database_now
from l402.store.engine import Database
from l402.store.tables import Key, credit, insertion, reply

#: How long an answer is kept.
RETENTION = timedelta(hours=24)


class Call(NamedTuple):
    """A call under an Idempotency-Key: the SHA-256 of the key, and of all that makes the request.

    Another request under the same key has another `fingerprint`.
    """

    key: bytes
    fingerprint: bytes


class Answer(NamedTuple):
    """What the call was answered: `headers` as a JSON list of pairs.

    `body` is None if it is too large or a stream: it was charged, but cannot be given again.
    """

    status: int
    headers: str
    body: bytes | None


class Reply(NamedTuple):
    """The answer that a finished call got, to be given again; `balance` is today's, in msat."""

    status: int
    headers: str
    body: bytes
    balance: int


class Conflict(StrEnum):
    """Why a call under a key that was used before gets no answer."""

    IN_PROGRESS = "in_progress"
    OTHER_REQUEST = "other_request"
    NOT_REPLAYABLE = "not_replayable"


_CLAIM = insertion(
    reply,
    "token_id key fingerprint use_id expires_at",
    "ON CONFLICT (token_id, key) DO UPDATE SET fingerprint = excluded.fingerprint,"
    " use_id = excluded.use_id, status = NULL, headers = NULL, body = NULL,"
    " expires_at = excluded.expires_at"
    " WHERE l402_reply.expires_at <= :now RETURNING use_id",
).bindparams(bindparam("now", type_=reply.c.expires_at.type))
_NAMED = (
    reply.c.token_id == bindparam("token", type_=Key),
    reply.c.key == bindparam("name", type_=Key),
)
_BALANCE = and_(
    credit.c.token_id == reply.c.token_id, credit.c.service == bindparam("of", type_=Key)
)
_FOUND = select(reply, credit.c.balance).select_from(reply.outerjoin(credit, _BALANCE))
_FOUND = _FOUND.where(*_NAMED)
_OWN = reply.c.use_id == bindparam("own", type_=Key)
_FINISH = (
    update(reply)
    .where(_OWN)
    .values({name: bindparam(f"the_{name}") for name in ("status", "headers", "body")})
)
_FORGET = delete(reply).where(_OWN)
_OLD = (
    select(reply.c.token_id, reply.c.key)
    .where(reply.c.expires_at <= database_now())
    .limit(bindparam("most"))
)
_PURGE = delete(reply).where(*_NAMED, reply.c.expires_at <= DatabaseNow())


def claim(
    connection: Connection, call: Call, token_id: str, service: str, use_id: str, now: datetime
) -> Reply | Conflict | None:
    """Make the key the use's own; or say what is known under it already.

    An answer past its end is forgotten here.
    """
    row = _row(call, token_id, use_id, now)
    if connection.execute(_CLAIM, row).first() is not None:
        return None
    names = {"token": token_id, "name": row["key"], "of": service}
    found = connection.execute(_FOUND, names).first()
    if found is None:  # given back a moment ago
        return Conflict.IN_PROGRESS
    return _told(found, call)


def claim_again(
    connection: Connection, call: Call, now: datetime, token_id: str, use_id: str
) -> bool:
    """Make the key the use's own again, after that was given back; False if it is another's."""
    row = _row(call, token_id, use_id, now)
    if connection.execute(_CLAIM, row).first() is not None:
        return True
    names = {"token": token_id, "name": row["key"], "of": ""}
    found = connection.execute(_FOUND, names).first()
    return found is not None and found.use_id == use_id


def finish(connection: Connection, use_id: str, answer: Answer) -> None:
    """Keep the answer of a use that is taken in the same transaction."""
    row = {"the_status": answer.status, "the_headers": answer.headers, "the_body": answer.body}
    connection.execute(_FINISH, row | {"own": use_id})


def forget(connection: Connection, use_id: str) -> None:
    """Free the key of a use that is given back in the same transaction."""
    connection.execute(_FORGET, {"own": use_id})


def lose(connection: Connection, use_id: str) -> None:
    """Keep that a use was charged in part, and that its answer cannot be given again."""
    finish(connection, use_id, Answer(200, "[]", None))


def unheld(found: CTE, uncharged: ColumnElement[bool]) -> tuple[CTE, CTE]:
    """Forget or lose the key, as above, within the statement that gives the use `found` back."""
    own = reply.c.use_id == found.c.use_id
    told = {"status": literal_column("200"), "headers": literal_column("'[]'"), "body": null()}
    return (
        delete(reply).where(own, uncharged).cte("forgotten"),
        update(reply).where(own, not_(uncharged)).values(told).cte("lost"),
    )


def _row(call: Call, token_id: str, use_id: str, now: datetime) -> dict[str, Any]:
    return {
        "token_id": token_id,
        "key": call.key.hex(),
        "fingerprint": call.fingerprint.hex(),
        "use_id": use_id,
        "expires_at": now + RETENTION,
        "now": now,
    }


def _told(found: Any, call: Call) -> Reply | Conflict:
    if found.fingerprint != call.fingerprint.hex():
        return Conflict.OTHER_REQUEST
    if found.status is None:
        return Conflict.IN_PROGRESS
    if found.body is None:
        return Conflict.NOT_REPLAYABLE
    return Reply(found.status, found.headers, found.body, found.balance or 0)


class Replies:
    """The answers that are kept."""

    def __init__(self, db: Database) -> None:
        self.db = db

    def known(
        self, call: Call, token_id: str, service: str, now: datetime
    ) -> Reply | Conflict | None:
        """Say what is known of a call under its key, and change nothing.

        :raises StoreError: if it could not be read
        """
        names = {"token": token_id, "name": call.key.hex(), "of": service}
        rows = self.db.fetch(_FOUND, names)
        return _told(rows[0], call) if rows and rows[0].expires_at > now else None

    def purge(self, limit: int = 1000) -> int:
        """Delete answers past their end, `limit` at most; give their number.

        :raises StoreError: if they could not be deleted
        """

        def write() -> int:
            with self.db.write() as connection:
                for each in old:
                    connection.execute(_PURGE, {"token": each.token_id, "name": each.key})
            return len(old)

        old = self.db.fetch(_OLD, {"most": limit})
        return self.db.run(write) if old else 0
