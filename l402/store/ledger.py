"""The ledger: a line for all that ever changed a balance; the database refuses to change one."""

from collections.abc import Collection, Iterator
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection, bindparam, insert, select

from l402.store.clock import DatabaseNow
from l402.store.driver import Statement
from l402.store.engine import LEISURE, Database
from l402.store.tables import entry, ledger

PURCHASE = "purchase"
USE = "use"
RELEASE = "release"
WRITE_OFF = "write_off"
EXPIRY = "expiry"
BY_HAND = ("credit", "debit")

#: How each kind changes what the account owns: its balance, and what is reserved of it.
EFFECTS = {
    PURCHASE: 1,
    "credit": 1,
    WRITE_OFF: 1,
    USE: -1,
    EXPIRY: -1,
    "debit": -1,
    RELEASE: 0,
}
_PAGE = 1000


class Account(NamedTuple):
    """What has a balance: a token id, in hex digits, and a service."""

    token_id: str
    service: str


class Entry(NamedTuple):
    """A line of the ledger; the fields are those of `l402.store.models.Entry`."""

    entry_id: int
    operation: str
    kind: str
    token_id: str
    service: str
    endpoint: str | None
    method: str | None
    msat: int
    balance_before: int
    balance_after: int
    at: datetime
    why: str | None


#: This ledger's id, to be compared within a transaction.
ID = select(ledger.c.ledger_id)
_ADD = Statement(
    insert(entry)
    .values(at=DatabaseNow(), **{name: bindparam(name) for name in (
        "operation", "kind", "token_id", "service", "endpoint", "method", "msat",
        "balance_before", "balance_after", "why",
    )})
    .inline()
)  # fmt: skip
#: The entry of one operation.
NAMED = select(entry).where(entry.c.operation == bindparam("operation"))
_ENTRIES = (
    select(entry)
    .where(entry.c.entry_id > bindparam("after"))
    .order_by(entry.c.entry_id)
    .limit(_PAGE)
)


def append(
    connection: Connection,
    kind: str,
    operation: str,
    account: Account,
    *,
    msat: int,
    after: int,
    endpoint: str | None = None,
    method: str | None = None,
    why: str | None = None,
) -> None:
    """Write a line, after the balance was changed in the same transaction.

    `operation` names what was done, once for all time; `after` is what the account owns now.
    """
    _ADD.run(
        connection,
        {
            "operation": operation,
            "kind": kind,
            "token_id": account.token_id,
            "service": account.service,
            "endpoint": endpoint,
            "method": method,
            "msat": msat,
            "balance_before": after - EFFECTS[kind] * msat,
            "balance_after": after,
            "why": why,
        },
    )


class Ledger:
    """The book of credit, to be read; each balance is changed where its entry is written."""

    def __init__(self, db: Database) -> None:
        self.db = db
        self._id: str | None = None
        self._checks = 0

    def id(self) -> str:
        """Give this ledger's id, 32 hex digits; it is read once, and again after a fault.

        :raises StoreError: if it could not be read
        """
        if self._id is None or self._checks != self.db.checks:
            ((self._id,),) = self.db.fetch(ID)
            self._checks = self.db.checks
        return self._id

    def forget(self) -> None:
        """Read the id anew at its next use: what is behind the URL may be another record."""
        self._id = None

    def entries(
        self,
        *,
        token_id: str | None = None,
        kinds: Collection[str] | None = None,
    ) -> Iterator[Entry]:
        """Give the entries in their order, page by page, without holding a transaction.

        Each condition that is not None narrows: to those of a token id (64 hex digits), of some
        kinds.

        :raises StoreError: if they could not be read
        """
        chosen, after = _ENTRIES, 0
        if token_id is not None:
            chosen = chosen.where(entry.c.token_id == token_id)
        if kinds is not None:
            chosen = chosen.where(entry.c.kind.in_(kinds))
        while True:
            with self.db.read(LEISURE) as connection:
                page = connection.execute(chosen, {"after": after}).all()
            yield from (Entry(*row) for row in page)
            if len(page) < _PAGE:
                return
            after = page[-1].entry_id
