"""Who remembers: the record of what was sold, in SQLite or Postgres."""

from functools import cached_property
from typing import TYPE_CHECKING

from sqlalchemy import text

from l402.store.counts import Counts
from l402.store.credits import Credits
from l402.store.engine import Database
from l402.store.ledger import Ledger
from l402.store.payments import Payments, Sale, Standing
from l402.store.prices import Prices
from l402.store.replies import Replies
from l402.store.revocations import Revocations
from l402.store.uses import Uses

if TYPE_CHECKING:
    from l402.store.credentials import Credentials
    from l402.store.days import Days

__all__ = ["Sale", "Standing", "Store"]


class Store:
    """The record behind one database URL; opens nothing before it is first used.

    Safe to share between threads, and to make before a fork.

    :raises ConfigurationError: if the URL or `sqlite_synchronous` cannot be used
    """

    def __init__(self, url: str, sqlite_synchronous: str = "NORMAL") -> None:
        self.db = Database(url, sqlite_synchronous)
        self.payments = Payments(self.db)
        self.revocations = Revocations(self.db)
        self.counts = Counts(self.db)
        self.ledger = Ledger(self.db)
        self.credits = Credits(self.db)
        self.uses = Uses(self.db)
        self.replies = Replies(self.db)
        self.prices = Prices(self.db)

    def __repr__(self) -> str:
        return f"Store({self.db!r})"

    @cached_property
    def credentials(self) -> "Credentials":
        """What was sold, as people look at it."""
        from l402.store.credentials import Credentials  # no request asks for it

        return Credentials(self.db)

    @cached_property
    def days(self) -> "Days":
        """The figures of the days, as people look at them."""
        from l402.store.days import Days  # no request asks for them

        return Days(self.db)

    def ping(self) -> None:
        """See that the database answers and has our tables.

        :raises StoreError: if not
        """
        self.db.fetch(text("SELECT 1"))

    def close(self) -> None:
        """Close the connections; a later use opens new ones, perhaps to another ledger."""
        self.db.close()
        self.ledger.forget()
