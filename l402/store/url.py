"""Which database, by URL: SQLite or Postgres, and how to name it without its password."""

from importlib.util import find_spec

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from l402.errors import ConfigurationError

_EXAMPLE = "write sqlite:////srv/api/l402.db or postgresql://user:password@host/database"


def parse(text: str) -> URL:
    """Read a database URL; Postgres is always spoken to by psycopg 3.

    :raises ConfigurationError: for any other database; the message never repeats the URL
    """
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        url = None
    # A raw "@" in a password would make its rest the host, which error messages name.
    if url is None or "@" in (url.host or ""):
        raise ConfigurationError(
            f"the database URL cannot be read: {_EXAMPLE}, with special characters in the "
            "password percent-encoded"
        )
    if url.drivername in ("sqlite", "sqlite+pysqlite"):
        return url.set(drivername="sqlite+pysqlite")
    if url.drivername in ("postgresql", "postgres", "postgresql+psycopg"):
        if find_spec("psycopg") is None:
            raise ConfigurationError("Postgres needs a driver: pip install 'Flask-L402[postgres]'")
        return url.set(drivername="postgresql+psycopg")
    raise ConfigurationError(f"{url.drivername}: is not a database we can use: {_EXAMPLE}")


def shown(url: URL) -> str:
    """Name the database for a log or an error: its hosts, but neither password nor other query."""
    hosts = url.query.get("host")
    return url.set(query={"host": hosts} if hosts else {}).render_as_string(hide_password=True)


def in_memory(url: URL) -> bool:
    """Tell whether it is an SQLite database that ends with the process."""
    unnamed = url.database in (None, "", ":memory:") or url.query.get("mode") == "memory"
    return url.get_backend_name() == "sqlite" and unnamed
