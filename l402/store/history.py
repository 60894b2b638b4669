"""The ledger by account, as people ask for it: what happened to a balance lately."""

from sqlalchemy import Integer, bindparam, select

from l402.store.engine import Database
from l402.store.ledger import NAMED, Entry
from l402.store.tables import Key, entry

#: Entries that are shown of a balance.
MOST = 20

_LATEST = (
    select(entry)
    .where(
        entry.c.token_id == bindparam("token", type_=Key),
        entry.c.service == bindparam("of", type_=Key),
    )
    .order_by(entry.c.entry_id.desc())
    .limit(bindparam("most", type_=Integer))
)


class History:
    """Entries of the ledger, looked up."""

    def __init__(self, db: Database) -> None:
        self.db = db

    def latest(self, token_id: str, service: str, most: int = MOST) -> list[Entry]:
        """Give the last entries of a balance, the newest first; `token_id` is 64 hex digits.

        :raises StoreError: if they could not be read
        """
        of = {"token": token_id, "of": service, "most": most}
        return [Entry(**row._mapping) for row in self.db.fetch(_LATEST, of)]

    def by_hand(self, identifier: str) -> Entry | None:
        """Give the change by hand that was made under this id, if there was one.

        :raises StoreError: if it could not be read
        """
        found = self.db.fetch(NAMED, {"operation": f"hand:{identifier}"})
        return Entry(**found[0]._mapping) if found else None
