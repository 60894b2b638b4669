"""What is counted while serving, and written seconds later: challenges, and uses of credentials."""

from collections.abc import Mapping
from datetime import date, datetime

from sqlalchemy import bindparam, case, select, update

from l402.store.clock import Moment
from l402.store.engine import Database
from l402.store.tables import Key, challenge_count, credential, insertion

_ADD = insertion(
    challenge_count,
    "day service endpoint challenges",
    "ON CONFLICT (day, service, endpoint) DO UPDATE"
    " SET challenges = l402_challenge_count.challenges + excluded.challenges",
)
_last, _at = credential.c.last_used_at, bindparam("at", type_=Moment())
_USE = (
    update(credential)
    .where(credential.c.token_id == bindparam("token"))
    .values(
        uses=credential.c.uses + bindparam("n"),
        last_used_at=case((_last >= _at, _last), else_=_at),
    )
)
_USES = select(credential.c.uses).where(credential.c.token_id == bindparam("token", type_=Key))


class Counts:
    """The counters of challenges and uses."""

    def __init__(self, db: Database) -> None:
        self.db = db

    def count_challenges(self, challenges: Mapping[tuple[date, str, str], int]) -> None:
        """Add to the counts, by UTC day, service and endpoint.

        As with `count_uses`, a commit of unknown outcome may count twice.

        :raises StoreError: if they could not be written
        """
        # In one order everywhere, or two processes could wait for each other's rows.
        rows = [
            {"day": day, "service": service, "endpoint": endpoint, "challenges": n}
            for (day, service, endpoint), n in sorted(challenges.items())
        ]

        def write() -> None:
            with self.db.write() as connection:
                connection.execute(_ADD, rows)

        if rows:
            self.db.run(write)

    def count_uses(self, uses: Mapping[bytes, tuple[int, datetime]]) -> None:
        """Add to the counts, by token id (32 bytes): how many uses, and when the last one was.

        Tokens that the record does not know are passed over. If a commit's outcome is lost with
        its connection, its uses may be counted twice: this is a statistic, not a balance.

        :raises StoreError: if they could not be written
        """
        # In one order everywhere, or two processes could wait for each other's rows.
        rows = [{"token": key.hex(), "n": n, "at": at} for key, (n, at) in sorted(uses.items())]

        def write() -> None:
            with self.db.write() as connection:
                connection.execute(_USE, rows)

        if rows:
            self.db.run(write)

    def uses(self, token_id: bytes) -> int:
        """Give how often a credential was used; 0 before its first presentation.

        :raises StoreError: if it could not be read
        """
        rows = self.db.fetch(_USES, {"token": token_id.hex()})
        return int(rows[0].uses) if rows else 0
