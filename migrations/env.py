"""Run the migrations of the record; imports no application.

The database is the first that is named: by the caller (`l402.store.migrate`), by ``-x url=…``,
by ``FLASK_L402_DATABASE_URL``, or else the clone's own ``instance/l402.db``.
"""

import os
from pathlib import Path
from typing import Any

from alembic import context
from sqlalchemy import text
from sqlalchemy.engine import Connection

from l402.store import migrate
from l402.store.tables import VERSION_TABLE, metadata
from l402.store.url import parse

_LOCK = 0x4C343032  # "L402": any number, the same in every release


def database_url() -> str:
    """Name the database to migrate."""
    clone = Path(__file__).resolve().parent.parent
    named = (
        context.config.attributes.get("url"),
        context.get_x_argument(as_dictionary=True).get("url"),
        os.environ.get("FLASK_L402_DATABASE_URL"),
    )
    return next(filter(None, named), f"sqlite:///{clone / 'instance' / 'l402.db'}")


def configure(**where: Any) -> None:
    """Tell Alembic what is ours, and nothing of a host's tables in the same database."""
    context.configure(
        target_metadata=metadata,
        version_table=VERSION_TABLE,
        include_name=lambda name, type_, parents: type_ != "table" or migrate.is_ours(name, type_),
        compare_type=True,
        transactional_ddl=True,
        **where,
    )


def run(connection: Connection) -> None:
    """Migrate a live database in one transaction."""
    configure(connection=connection, render_as_batch=connection.dialect.name == "sqlite")
    with context.begin_transaction():
        if connection.dialect.name == "postgresql":
            # SQLite begins with the write lock; here two upgrades at once need one of their own.
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        context.run_migrations()


def write_sql() -> None:
    """Write the statements (``--sql``) instead of running them."""
    url = parse(database_url())
    configure(url=url, literal_binds=True, dialect_opts={"paramstyle": "named"})
    with context.begin_transaction():
        context.run_migrations()


if context.is_offline_mode():
    write_sql()
else:
    with migrate.engine(database_url()).connect() as connection:
        run(connection)
