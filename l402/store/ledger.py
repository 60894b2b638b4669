"""The ledger: one line for everything that ever changed a balance, and none of them ever changed."""

from sqlalchemy import select

from l402.store.engine import Database
from l402.store.tables import ledger

_ID = select(ledger.c.ledger_id)


class Ledger:
    """The book of credit."""

    def __init__(self, db: Database) -> None:
        self.db = db
        self._id: str | None = None

    def id(self) -> str:
        """Give this ledger's id, 32 hex digits; it is read once.

        :raises StoreError: if it could not be read
        """
        if self._id is None:
            ((self._id,),) = self.db.fetch(_ID)
        return self._id
