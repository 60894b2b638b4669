"""Which database, by URL; and errors that never show its password."""

import pytest
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, OperationalError, TimeoutError

from l402.errors import ConfigurationError, SchemaOutdated, StoreUnavailable
from l402.store import Store
from l402.store.faults import Interrupted, outdated, told
from l402.store.url import in_memory, parse, shown

PASSWORD = "canary-7f3a"


@pytest.mark.parametrize(
    ("text", "driver"),
    [
        ("sqlite:////srv/l402.db", "sqlite+pysqlite"),
        ("sqlite://", "sqlite+pysqlite"),
        ("sqlite+pysqlite:///l402.db", "sqlite+pysqlite"),
        ("postgresql://shop@localhost/shop", "postgresql+psycopg"),
        ("postgres://shop@localhost/shop", "postgresql+psycopg"),
        ("postgresql+psycopg:///shop", "postgresql+psycopg"),
    ],
)
def test_drivers(text: str, driver: str) -> None:
    """SQLite goes by the standard library, Postgres by psycopg 3, however it is written."""
    assert parse(text).drivername == driver


@pytest.mark.parametrize(
    "text",
    [
        "",
        "l402.db",
        f"mysql://shop:{PASSWORD}@localhost/shop",
        f"postgresql+asyncpg://shop:{PASSWORD}@localhost/shop",
        f"postgresql://shop:{PASSWORD}@localhost:port/shop",
        f"postgresql://shop:at@{PASSWORD}@localhost/shop",
        f"shop:{PASSWORD}@localhost",
    ],
)
def test_unusable(text: str) -> None:
    """Any other URL is refused with an example, and is not repeated."""
    with pytest.raises(ConfigurationError, match="sqlite:///") as caught:
        Store(text)
    assert PASSWORD not in str(caught.value)
    assert caught.value.__cause__ is None


def test_without_psycopg(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its driver, Postgres is refused at start-up with what to install."""
    monkeypatch.setattr("l402.store.url.find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match=r"Flask-L402\[postgres\]"):
        parse("postgresql://localhost/shop")


def test_shown() -> None:
    """A database is named by its hosts, without its password and the rest of its query."""
    hosts = "host=one:5432&host=two:5433"
    url = parse(f"postgresql://shop:{PASSWORD}@/shop?{hosts}&password={PASSWORD}")
    assert shown(url) == "postgresql+psycopg://shop:***@/shop?host=one%3A5432&host=two%3A5433"
    url = parse(f"postgresql://shop:{PASSWORD}@db:5433/shop?password={PASSWORD}&sslmode=require")
    assert shown(url) == "postgresql+psycopg://shop:***@db:5433/shop"
    assert PASSWORD not in repr(Store(f"postgresql://shop:{PASSWORD}@db/shop"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sqlite://", True),
        ("sqlite:///:memory:", True),
        ("sqlite:///file:shared?mode=memory&uri=true", True),
        ("sqlite:///l402.db", False),
        ("postgresql://localhost", False),
    ],
)
def test_in_memory(text: str, expected: bool) -> None:
    """A database in memory is told from a file."""
    assert in_memory(make_url(text)) is expected


class DriverError(Exception):
    """What a driver raises, with Postgres' code of the error."""

    def __init__(self, message: str, sqlstate: str | None = None) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate


def wrapped(message: str, sqlstate: str | None = None, gone: bool = False) -> DBAPIError:
    error = OperationalError("SELECT 1", {}, DriverError(message, sqlstate))
    error.connection_invalidated = gone
    return error


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (wrapped("could not serialize access", "40001"), Interrupted),
        (wrapped("deadlock detected", "40P01"), Interrupted),
        (wrapped("server closed the connection", gone=True), Interrupted),
        (wrapped("relation does not exist", "42P01"), SchemaOutdated),
        (wrapped("column does not exist", "42703"), SchemaOutdated),
        (wrapped("no such table: l402_payment"), SchemaOutdated),
        (wrapped("table l402_payment has no column named msat"), SchemaOutdated),
        (wrapped("disk I/O error"), StoreUnavailable),
        (wrapped(""), StoreUnavailable),
        (TimeoutError("QueuePool limit reached"), StoreUnavailable),
    ],
)
def test_kinds(error: Exception, kind: type[Exception]) -> None:
    """A driver's error becomes the error of ours that says what may be done about it."""
    assert type(told(error, make_url("sqlite://"))) is kind


def test_message() -> None:
    """The message is the driver's first line, without the password wherever it stands."""
    url = make_url(f"postgresql://shop:{PASSWORD}@db/shop")
    text = str(told(wrapped(f"no {PASSWORD} here\nDETAIL: {PASSWORD}"), url))
    assert text == "postgresql://shop:***@db/shop: no *** here"


def test_outdated() -> None:
    """Tables that are missing or old want the upgrade, newer ones a newer release."""
    url = make_url("sqlite:///l402.db")
    assert "no tables of ours yet: run `flask l402 upgrade`" in str(outdated(url, None))
    assert "at revision 0000: run `flask l402 upgrade`" in str(outdated(url, "0000"))
    assert "later release" in str(outdated(url, "9999"))
