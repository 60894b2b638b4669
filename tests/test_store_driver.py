"""Statements on the driver's own connection: values and errors as SQLAlchemy gives them."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy import bindparam, insert, select
from sqlalchemy.exc import DBAPIError

from l402.errors import SchemaOutdated, StoreUnavailable
from l402.store import Store
from l402.store.clock import Moment
from l402.store.driver import Statement, execute
from l402.store.tables import Key, insertion, lease, payment

pytest_plugins = ["support.databases"]

ADD = Statement(insertion(lease, "process expires_at", ""))
FIND = Statement(
    select(lease.c.process, lease.c.expires_at).where(
        lease.c.process == bindparam("process", type_=Key),
        lease.c.expires_at >= bindparam("since", type_=Moment()),
    )
)
MOMENT = datetime(2030, 1, 2, 3, 4, 5, 678_901, tzinfo=timezone(timedelta(hours=5)))


def test_values(store: Store) -> None:
    """Moments go in and come out as aware UTC, rows have names, no row is None."""
    with store.db.write() as connection:
        assert ADD.run(connection, {"process": "it's", "expires_at": MOMENT}) is None
        found = FIND.run(connection, {"process": "it's", "since": MOMENT})
        assert (found.process, found.expires_at) == ("it's", MOMENT)
        assert found.expires_at.tzinfo is UTC
        later = MOMENT + timedelta(microseconds=1)
        assert FIND.run(connection, {"process": "it's", "since": later}) is None


def test_undone(store: Store) -> None:
    """What it wrote is part of the transaction."""
    with store.db.write() as connection:
        ADD.run(connection, {"process": "a", "expires_at": MOMENT})
        connection.rollback()
    assert store.db.fetch(select(lease)) == []


def test_refused(store: Store) -> None:
    """What the database refuses is told as every fault of the store, without the values."""
    canary = "canary-7f3a"

    def write(process: str | None) -> None:
        with store.db.write() as connection:
            for _ in range(2):
                ADD.run(connection, {"process": process, "expires_at": MOMENT})

    for process in (canary, None):
        with pytest.raises(StoreUnavailable) as caught:
            write(process)
        assert canary not in repr(caught.value.__cause__.__dict__.get("params"))
    assert store.db.fetch(select(lease)) == []


def test_missing_table(store: Store) -> None:
    """A table that is not there is told as a schema that is out of date."""

    def write() -> None:
        with store.db.write() as connection:
            execute(connection, "DELETE FROM l402_nothing")

    with pytest.raises(SchemaOutdated, match="flask l402 upgrade"):
        write()


def test_no_connection_lost(store: Store) -> None:
    """A refused statement does not cost the connection."""
    with pytest.raises(DBAPIError) as caught, store.db._engines.write() as connection:
        execute(connection, "SELECT nonsense FROM nowhere")
    assert not caught.value.connection_invalidated


def test_missing_value(store: Store) -> None:
    """A value that was forgotten is the caller's mistake, told before anything is sent."""
    statement = Statement(insert(payment))
    with pytest.raises(KeyError), store.db.write() as connection:
        statement.run(connection, {"payment_hash": "aa"})
