"""The database as the gate meets it: bounded in time, safe across forks, checked at first use."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol, TypeVar
from weakref import WeakSet

from sqlalchemy import Executable, Row, text
from sqlalchemy.engine import URL, Connection
from sqlalchemy.exc import SQLAlchemyError

from l402.store.driver import Runs
from l402.store.faults import outdated, told
from l402.store.reruns import Reruns
from l402.store.sqlite import SQLite
from l402.store.tables import SCHEMA_VERSION, VERSION_TABLE, metadata
from l402.store.url import parse, shown

#: Seconds that a request waits for one step of the store: a connection, a lock, an answer.
PATIENCE = 2.0
#: Seconds that a report over the whole record may take.
LEISURE = 600.0
#: Rows that a report keeps in memory at a time.
_ROWS = 1000
_VERSION = text(f"SELECT version_num FROM {VERSION_TABLE}")  # noqa: S608 - a constant

_NONE: Mapping[str, Any] = {}

T = TypeVar("T")


class _Engines(Protocol):
    in_memory: bool

    def read(self, patience: float) -> AbstractContextManager[Connection]: ...
    def snapshot(self, patience: float) -> AbstractContextManager[Connection]: ...
    def write(self, durable: bool = False) -> AbstractContextManager[Connection]: ...
    def confirm(self) -> None: ...
    def alone(self, step: Runs, values: Mapping[str, Any], may_be_lost: bool) -> Any: ...
    def checkpoint(self) -> None: ...
    def close(self) -> None: ...
    def before_fork(self) -> None: ...
    def after_fork(self, child: bool) -> None: ...


class Database:
    """One database, by URL; opens nothing before it is first used.

    `sqlite_synchronous` is NORMAL, FULL or EXTRA: whether SQLite's last transactions survive a
    power cut. They survive the death of a process in any case.

    :raises ConfigurationError: if the URL or the setting cannot be used
    """

    def __init__(self, url: str, sqlite_synchronous: str = "NORMAL") -> None:
        self.url = parse(url)
        self._engines = _engines(self.url, sqlite_synchronous)
        self._checked = False
        self._reruns = Reruns(self._confirm)
        self.checks = 0  # how often the schema was found to be ours
        _LIVE.add(self)

    def __repr__(self) -> str:
        return f"Database({shown(self.url)!r})"

    @contextmanager
    def read(self, patience: float | None = None) -> Iterator[Connection]:
        """Lend a connection in autocommit, for statements that change nothing.

        `patience` is how many seconds each may take, if not `PATIENCE`; SQLite's may take any.

        :raises StoreError: if the database gives no usable answer
        """
        self._check()
        with self._telling(), self._engines.read(patience or PATIENCE) as connection:
            yield connection

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """Lend a connection as `read` does, whatever tables there are.

        :raises StoreError: as `read`
        """
        with self._telling(), self._engines.read(PATIENCE) as connection:
            yield connection

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """Lend a connection all of whose statements read the record as it is at one moment.

        For reports: it holds no one up, each statement may take `LEISURE`, and rows are streamed.

        :raises StoreError: as `read`
        """
        self._check()
        with self._telling(), self._engines.snapshot(LEISURE) as connection:
            yield connection.execution_options(yield_per=_ROWS)

    @contextmanager
    def write(self, durable: bool = False) -> Iterator[Connection]:
        """Lend a connection for one transaction, committed at the end of the block.

        `durable`: on SQLite too, the commit is on the disk before the block ends.

        :raises StoreError: as `read`; the transaction is then undone, or its outcome unknown
        """
        self._check()
        with self._telling(), self._engines.write(durable) as connection:
            yield connection

    def alone(self, step: Runs, values: Mapping[str, Any], *, may_be_lost: bool = False) -> Any:
        """Run a step as a transaction of its own, and give its first row, or None.

        `may_be_lost`: the commit need not be on the disk yet. A server that crashes may forget it,
        but then also whatever was committed after it.

        :raises StoreError: as `read`; it is then undone, or its outcome unknown
        """
        self._check()
        with self._telling():
            return self._engines.alone(step, values, may_be_lost)

    def fetch(
        self, statement: Executable, parameters: Mapping[str, Any] = _NONE
    ) -> Sequence[Row[Any]]:
        """Read the rows of one statement that changes nothing, on a connection that works.

        :raises StoreError: as `read`
        """

        def once() -> Sequence[Row[Any]]:
            with self.read() as connection:
                return connection.execute(statement, parameters).all()

        return self.run(once, changes=False)

    def run(self, operation: Callable[[], T], *, changes: bool = True) -> T:
        """Run `operation` and, when a race or a broken connection undid it, run it again.

        All of it runs again, and its commit may have counted although the connection broke, so it
        must find out by itself what is already done. `changes`: what it finds so is told only once
        it is as safe as a commit that was answered.

        :raises StoreError: as `read`, when it fails otherwise, or still does after `PATIENCE`
        """
        return self._reruns.run(operation, PATIENCE, changes=changes)

    def checkpoint(self) -> None:
        """Have an SQLite file take up what was written, so that no request must wait for that.

        :raises StoreError: if it could not
        """
        with self._telling():
            self._engines.checkpoint()

    def close(self) -> None:
        """Close the connections; a later use opens new ones."""
        self._engines.close()
        self._checked = False

    def _confirm(self) -> None:
        with self._telling():
            self._engines.confirm()

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """Translate errors, and have the schema checked again after one: it may be mended."""
        try:
            yield
        except SQLAlchemyError as error:
            self._checked = False
            raise told(error, self.url) from error

    def _check(self) -> None:
        """See once per process that the tables are those of this release."""
        if self._checked:
            return
        with self._telling():
            if self._engines.in_memory:
                self._create()
            with self._engines.read(PATIENCE) as connection:
                found = connection.execute(_VERSION).scalar()
        if found != SCHEMA_VERSION:
            raise outdated(self.url, found)
        self._checked = True
        self.checks += 1

    def _create(self) -> None:
        """Make the tables of a database in memory, which no migration from outside can reach."""
        with self._engines.write() as connection:
            if connection.dialect.has_table(connection, VERSION_TABLE):
                return
            metadata.create_all(connection)
            connection.exec_driver_sql(f"CREATE TABLE {VERSION_TABLE} (version_num VARCHAR(32))")
            connection.exec_driver_sql(
                f"INSERT INTO {VERSION_TABLE} VALUES ('{SCHEMA_VERSION}')"  # noqa: S608
            )


def _engines(url: URL, sqlite_synchronous: str) -> _Engines:
    if url.get_backend_name() == "sqlite":
        return SQLite(url, sqlite_synchronous, PATIENCE)
    from l402.store.postgres import Postgres  # psycopg is an extra

    return Postgres(url, PATIENCE)


_LIVE: WeakSet[Database] = WeakSet()


def _before_fork() -> None:
    for database in list(_LIVE):
        database._engines.before_fork()


def _after_fork(child: bool) -> None:
    for database in list(_LIVE):
        database._checked = database._checked and not child
        database._engines.after_fork(child)


os.register_at_fork(
    before=_before_fork,
    after_in_parent=lambda: _after_fork(child=False),
    after_in_child=lambda: _after_fork(child=True),
)
