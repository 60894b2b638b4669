"""What can be wrong with a database, looked at from outside of any sale."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import insert, select
from sqlalchemy.engine import URL

from l402.store.clock import DatabaseNow
from l402.store.engine import Database
from l402.store.tables import lease
from l402.store.url import in_memory

#: What our SQL needs: RETURNING and DROP COLUMN of SQLite, gen_random_uuid() of Postgres.
_OLDEST = {"sqlite": (3, 35), "postgresql": (13,)}
_NAMES = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}
#: Beginnings of the file systems on which SQLite's locks are not to be relied on.
_NETWORK = (
    "afs", "beegfs", "ceph", "cifs", "gfs2", "gpfs", "lustre", "ncp", "nfs", "ocfs2", "smb",
    "fuse.ceph", "fuse.davfs", "fuse.gluster", "fuse.rclone", "fuse.s3fs", "fuse.sshfs",
)  # fmt: skip
#: The mounts of this process; on Linux alone.
MOUNTS = Path("/proc/self/mountinfo")


def file_of(url: URL) -> Path | None:
    """Return the file of an SQLite database; None for a server, and in memory."""
    if url.get_backend_name() != "sqlite" or in_memory(url):
        return None
    return Path(str(url.database)).absolute()


def version(db: Database) -> tuple[str, str | None]:
    """Return the name and version of the database, and the oldest that will do if it is older.

    :raises StoreError: it does not answer
    """
    with db.connection() as connection:
        found = connection.dialect.server_version_info or ()
    backend = db.url.get_backend_name()
    name, oldest = _NAMES[backend], _OLDEST[backend]
    too_old = f"{name} {_dotted(oldest)}" if found < oldest else None
    return f"{name} {_dotted(found)}", too_old


def now(db: Database) -> datetime:
    """Return what the database's clock shows, in UTC.

    :raises StoreError: it does not answer
    """
    with db.connection() as connection:
        shown: datetime = connection.execute(select(DatabaseNow())).scalar_one()
    return shown


def try_write(db: Database) -> None:
    """Write a row, and undo it.

    :raises StoreError: it is locked, read-only, full, or not ours to write
    """
    row = {"process": "flask l402 doctor", "expires_at": datetime.now(UTC) - timedelta(days=1)}
    with db.write() as connection:
        connection.execute(insert(lease).values(row))
        connection.rollback()


def network_file_system(path: Path, mounts: Path | None = None) -> str | None:
    """Return the type of the network file system that `path` is on; None for a local one.

    What is not Linux has no list of mounts: there it is None too.

    :raises OSError: the list cannot be read
    """
    best, kind = -1, ""
    resolved = path.resolve()
    for line in (mounts or MOUNTS).read_text().splitlines():
        # … mount point, options, any number of optional fields, "-", type, source, options
        head, _, tail = line.partition(" - ")
        point = Path(head.split()[4].encode().decode("unicode_escape"))
        if resolved.is_relative_to(point) and len(point.parts) >= best:
            best, kind = len(point.parts), tail.split()[0]
    return kind if kind.startswith(_NETWORK) else None


def _dotted(numbers: tuple[int | str, ...]) -> str:
    return ".".join(map(str, numbers))
