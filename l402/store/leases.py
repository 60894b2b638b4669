"""Whose uses are whose: a living process renews its lease, and a dead one's uses are given back.

A lease is written and judged by the database's clock, so no host's clock matters.
"""

import secrets
import time
from datetime import timedelta

from sqlalchemy import Connection, bindparam, delete, exists, or_, select

from l402.store.clock import DatabaseNow
from l402.store.engine import Database
from l402.store.tables import Key, insertion, lease, use

#: How long a process may be silent before its uses are given back.
LEASE = timedelta(seconds=30)
#: Seconds after which a process that reserves writes its lease again.
RENEW = 8.0

_NOW = select(DatabaseNow())
_WRITE = insertion(
    lease,
    "process expires_at",
    "ON CONFLICT (process) DO UPDATE SET expires_at = excluded.expires_at",
)
_LIVE = exists().where(lease.c.process == use.c.process, lease.c.expires_at > DatabaseNow())

#: The uses of silent processes: of all accounts, oldest first, and of one account.
LAPSED = (
    select(use.c.use_id)
    .outerjoin(lease, lease.c.process == use.c.process)
    .where(or_(lease.c.process.is_(None), lease.c.expires_at <= DatabaseNow()))
    .order_by(use.c.reserved_at)
    .limit(bindparam("most"))
)
LAPSED_OF = LAPSED.where(use.c.token_id == bindparam("token", type_=Key))
#: The uses of one process.
OWN = select(use.c.use_id).where(use.c.process == bindparam("process", type_=Key))

#: Ends a use, whoever is first; the second one only while its process is silent.
RESOLVE = (
    delete(use)
    .where(use.c.use_id == bindparam("own", type_=Key))
    .returning(*use.c["use_id", "token_id", "service", "endpoint", "method", "msat", "charged"])
)
RESOLVE_LAPSED = RESOLVE.where(~_LIVE)

#: The processes that are gone for good, and holding nothing.
_HOLDS = exists().where(use.c.process == lease.c.process)
GONE = select(lease.c.process).where(lease.c.expires_at <= DatabaseNow(), ~_HOLDS)
_END = delete(lease).where(
    lease.c.process == bindparam("gone", type_=Key), lease.c.expires_at <= DatabaseNow(), ~_HOLDS
)


class Lease:
    """This process's own lease, written along with its first use."""

    def __init__(self) -> None:
        self.process = secrets.token_hex(16)
        self._written_at = float("-inf")

    def due(self) -> bool:
        """Tell whether it was last written too long ago to rest on."""
        return time.monotonic() - self._written_at >= RENEW

    def write(self, connection: Connection) -> None:
        """Extend it from now on."""
        expires_at = connection.execute(_NOW).scalar_one() + LEASE
        connection.execute(_WRITE, {"process": self.process, "expires_at": expires_at})

    def renew(self, db: Database) -> None:
        """Extend it from now on, in a transaction of its own."""
        with db.write() as connection:
            self.write(connection)

    def note(self, begun: float) -> None:
        """Remember that what was written at `begun`, by the monotonic clock, was committed."""
        self._written_at = max(self._written_at, begun)


def end(db: Database, processes: list[str]) -> None:
    """Forget leases of processes that are gone."""
    with db.write() as connection:
        for process in processes:
            connection.execute(_END, {"gone": process})
