"""Postgres by psycopg 3, with every wait bounded on our side of the wire.

A server that is stopped, or a network that swallows packets, never answers, and no setting of the
server's helps against that. All of it works behind pgbouncer in transaction mode: no start-up
options, no prepared statements, settings by transaction only.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import psycopg
from psycopg.abc import RV, PQGen
from sqlalchemy import create_engine, event
from sqlalchemy.engine import URL, Connection

from l402.store import driver

#: Begins a transaction and sets its limits, in milliseconds, in one exchange.
_BEGIN = (
    "BEGIN; SET LOCAL statement_timeout = {statement:.0f};"
    " SET LOCAL idle_in_transaction_session_timeout = {idle:.0f}"
)


class Bounded(psycopg.Connection[Any]):
    """A connection that gives up, and closes itself, when an answer takes too long."""

    patience = 2.0  # seconds for one exchange with the server

    def wait(self, gen: PQGen[RV], *args: Any, **kwargs: Any) -> RV:
        """Wait as psycopg does, but no longer than `patience` from now."""
        return super().wait(self._within(gen), *args, **kwargs)

    def _within(self, gen: PQGen[RV]) -> PQGen[RV]:
        # psycopg resumes its generators at least every 0.1 s, whether or not anything arrived.
        deadline = time.monotonic() + self.patience
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                if time.monotonic() > deadline:
                    self.close()
                    raise psycopg.OperationalError(f"no answer within {self.patience:g} s")
                wanted = gen.send(ready)
        except StopIteration as done:
            return cast(RV, done.value)


class Postgres:
    """The engine of one Postgres database; nothing is opened yet."""

    in_memory = False

    def __init__(self, url: URL, patience: float) -> None:
        self.patience = patience
        # The server gives up first: then a transaction that waited for a lock keeps its connection.
        # Its second limit frees the rows that a vanished host held.
        self._begin = _BEGIN.format(statement=patience * 750, idle=patience * 2000)
        self._writer = create_engine(
            url,
            isolation_level="AUTOCOMMIT",
            hide_parameters=True,
            pool_timeout=patience,
            use_native_hstore=False,
            connect_args={"prepare_threshold": None, "connect_timeout": max(2, round(patience))},
        )
        self._snapshots = self._writer.execution_options(
            isolation_level="REPEATABLE READ", postgresql_readonly=True
        )
        event.listen(self._writer, "do_connect", _connect)

    @contextmanager
    def read(self, patience: float) -> Iterator[Connection]:
        """Lend a connection on which each statement reads the latest commit."""
        with self._writer.connect() as connection:
            _driver(connection).patience = patience
            yield connection

    @contextmanager
    def snapshot(self, patience: float) -> Iterator[Connection]:
        """Lend a connection on which every statement reads what the first one read."""
        with self._snapshots.connect() as connection:
            _driver(connection).patience = patience
            yield connection

    @contextmanager
    def write(self, durable: bool = False) -> Iterator[Connection]:
        """Lend a connection for one transaction, at the isolation level that the server sets."""
        with self._writer.connect() as connection:
            _driver(connection).patience = self.patience
            with connection.begin():  # as far as SQLAlchemy knows; it sends nothing
                driver.execute(connection, self._begin)
                yield connection

    def checkpoint(self) -> None:
        """Nothing: the server does it by itself."""

    def close(self) -> None:
        """Close every connection that is not in use."""
        self._writer.dispose()

    def before_fork(self) -> None:
        """Nothing: a child can tell its parent's sockets from its own."""

    def after_fork(self, child: bool) -> None:
        """Forget, in a child, the connections of its parent."""
        if child:
            self._writer.dispose(close=False)


def _connect(dialect: object, record: object, args: list[Any], kwargs: dict[str, Any]) -> Bounded:
    return Bounded.connect(*args, **kwargs)


def _driver(connection: Connection) -> Bounded:
    return cast(Bounded, connection.connection.driver_connection)
