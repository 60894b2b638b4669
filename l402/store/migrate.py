"""The schema's history: bringing a database to this release, by Alembic (loaded when needed)."""

from collections.abc import MutableMapping
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from sqlite3 import Connection as DriverConnection
from typing import TYPE_CHECKING

from sqlalchemy import create_engine, event, inspect, text
from sqlalchemy.engine import URL, Connection, Engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from l402.store.faults import outdated, told
from l402.store.tables import PREFIX, SCHEMA_VERSION, VERSION_TABLE
from l402.store.url import in_memory, parse

if TYPE_CHECKING:
    from alembic.config import Config

#: Seconds that a migration waits for others to stop writing an SQLite file.
_PATIENCE = 30.0
#: Seconds that it waits for a connection to a server.
_CONNECT = 10


def upgrade(url: str, revision: str = "head") -> None:
    """Bring the database to this release, making an SQLite file where there is none yet.

    Two at once are safe: the second waits, and finds nothing to do.

    :raises ConfigurationError: if the URL cannot be used
    :raises StoreError: if the database gives no usable answer
    """
    from alembic import command
    from alembic.util import CommandError

    try:
        command.upgrade(config(url), revision)
    except SQLAlchemyError as error:
        raise told(error, parse(url)) from error
    except CommandError as error:  # the revision in the database is unknown here
        raise outdated(parse(url), current(url)) from error


def current(url: str) -> str | None:
    """Give the revision of the database's tables; None if it has none of ours.

    :raises ConfigurationError: if the URL cannot be used
    :raises StoreError: if the database gives no usable answer
    """
    parsed = parse(url)
    if _file(parsed) is not None and not Path(parsed.database or "").exists():
        return None  # connecting would make it
    try:
        with engine(url).connect() as connection:
            if not inspect(connection).has_table(VERSION_TABLE):
                return None
            version = text(f"SELECT version_num FROM {VERSION_TABLE}")  # noqa: S608 - a constant
            return connection.execute(version).scalar()
    except SQLAlchemyError as error:
        raise told(error, parsed) from error


def head() -> str:
    """Give the revision of this release's tables."""
    return SCHEMA_VERSION


def include_name(
    name: str | None, type_: str, parent_names: MutableMapping[str, str | None]
) -> bool:
    """Leave our tables out of a host application's own migrations.

    Where both share a database, Alembic's autogenerate would take our tables, which the host's
    models do not name, for tables to be dropped. In the host's ``env.py``::

        from l402.store.migrate import include_name

        context.configure(..., include_name=include_name)
    """
    return not is_ours(name, type_)


def is_ours(name: str | None, type_: str) -> bool:
    """Tell whether a database's object is a table of this package."""
    return type_ == "table" and (name or "").startswith(PREFIX)


def scripts() -> Traversable:
    """Find the migration scripts that belong to the running code.

    In a wheel they are in the package; in a clone, also an editable one, beside it.
    """
    package = resources.files("l402")
    shipped = package / "migrations"
    return shipped if shipped.is_dir() else Path(str(package)).parent / "migrations"


def config(url: str) -> "Config":
    """Give Alembic its configuration for the database at `url`."""
    from alembic.config import Config

    made = Config()
    made.set_main_option("script_location", str(scripts()).replace("%", "%%"))
    made.set_main_option("path_separator", "os")
    made.attributes["url"] = url
    return made


def engine(url: str) -> Engine:
    """Open a database for migrations: SQLite's DDL too is one transaction, and in turns.

    SQLite's foreign keys stay off: changing a table there means replacing it.
    """
    parsed = parse(url)
    sqlite = parsed.get_backend_name() == "sqlite"
    # For each host that is named: the driver's own patience is two minutes.
    given = {} if sqlite else {"connect_timeout": _CONNECT}
    made = create_engine(parsed, poolclass=NullPool, hide_parameters=True, connect_args=given)
    if sqlite:
        if (path := _file(parsed)) is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
        event.listen(made, "connect", _prepare)
        event.listen(made, "begin", _begin)
    return made


def _file(url: URL) -> Path | None:
    if url.get_backend_name() != "sqlite" or in_memory(url):
        return None
    return Path(url.database or "")


def _prepare(connection: DriverConnection, record: object) -> None:
    connection.isolation_level = None
    connection.execute(f"PRAGMA busy_timeout={_PATIENCE * 1000:.0f}")
    connection.execute("PRAGMA journal_mode=WAL")


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")
