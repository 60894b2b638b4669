"""Settlements: the invoices of ours that the node says were paid, kept beside the payments.

All of them are kept, not only those whose tokens were never presented: what was seen settled
stays known when the node is replaced, and every figure is a comparison of two tables.
"""

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam, delete, select, update

from l402.store.clock import DatabaseNow
from l402.store.engine import Database
from l402.store.tables import Key, bookmark, insertion, ledger, payment, settlement


@dataclass(frozen=True, slots=True)
class Settled:
    """A paid invoice of ours; the fields are those of `l402.store.models.Settlement`."""

    payment_hash: str
    network: str
    handle: str
    msat: int
    received: int
    settled_at: datetime


@dataclass(frozen=True, slots=True)
class Bookmark:
    """How far a node's list was read: to this paid invoice, by its position and payment hash."""

    position: int
    payment_hash: str


_NOW = select(DatabaseNow())
_ADD = insertion(settlement, " ".join(settlement.c.keys()), "ON CONFLICT (payment_hash) DO NOTHING")
_MARK = insertion(
    bookmark,
    "network position payment_hash read_at",
    "ON CONFLICT (network) DO UPDATE SET position = excluded.position,"
    " payment_hash = excluded.payment_hash, read_at = excluded.read_at",
)
_ON = bookmark.c.network == bindparam("on", type_=Key)
_BOOKMARK = select(bookmark.c.position, bookmark.c.payment_hash).where(_ON)
_FORGET = delete(bookmark).where(_ON)
#: Writes the row, as each transaction of a purge does: the second one waits, or begins again.
_CLOSED_UNTIL = update(ledger).values(ledger_id=ledger.c.ledger_id).returning(ledger.c.closed_until)
_HOLDERS = select(payment.c.payment_hash, payment.c.token_id).where(
    payment.c.payment_hash.in_(bindparam("payment_hashes", expanding=True, type_=Key))
)


class Settlements:
    """What was read at the node; it touches no balance and no payment."""

    def __init__(self, db: Database) -> None:
        self.db = db

    def bookmark(self, network: str) -> Bookmark | None:
        """Say how far the list of the node on `network` was read.

        :raises StoreError: if it could not be read
        """
        found = self.db.fetch(_BOOKMARK, {"on": network})
        return Bookmark(**found[0]._mapping) if found else None

    def forget(self, network: str) -> None:
        """Have the next reading begin with the first invoice; what was read stays.

        :raises StoreError: if it could not be written
        """

        def write() -> None:
            with self.db.write() as connection:
                connection.execute(_FORGET, {"on": network})

        self.db.run(write)

    def holders(self, payment_hashes: Collection[str]) -> dict[str, str]:
        """Give the token ids of those payments that were presented, by payment hash.

        :raises StoreError: if they could not be read
        """
        rows = self.db.fetch(_HOLDERS, {"payment_hashes": list(payment_hashes)})
        return {row.payment_hash: row.token_id for row in rows}

    def add(self, network: str, settled: Sequence[Settled], read_to: Bookmark | None) -> int:
        """Record a page of settlements and how far the list is read, both or neither.

        What is recorded already stays as it is. What was paid before the last purge, and is on
        record neither here nor there, is passed over: nobody can tell any more whether it was ever
        presented. Gives how many were new; if a commit's outcome was lost with its connection,
        those of that commit count as known.

        :raises StoreError: if they could not be written
        """
        rows = [asdict(each) for each in settled]

        def write() -> int:
            with self.db.write() as connection:
                told = _told(connection, rows)
                new = connection.execute(_ADD, told).rowcount if told else 0
                if read_to is not None:
                    now = connection.execute(_NOW).scalar_one()
                    mark = {"network": network, "read_at": now}
                    connection.execute(_MARK, mark | asdict(read_to))
                return new

        return self.db.run(write)


def _told(connection: Connection, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Leave out what may have been purged; no purge removes anything before this is committed."""
    closed_until = connection.execute(_CLOSED_UNTIL).scalar()
    if closed_until is None:
        return rows
    old = [row["payment_hash"] for row in rows if row["settled_at"] <= closed_until]
    held = connection.execute(_HOLDERS, {"payment_hashes": old}).scalars().all()
    gone = set(old).difference(held)
    return [row for row in rows if row["payment_hash"] not in gone]
