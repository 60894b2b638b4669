"""SQLite: readers in autocommit, and one writer per process, in turns.

A write transaction begins as ``BEGIN IMMEDIATE``: one that read first and then wanted to write
could fail at once, whatever the time-out. The turns keep a process's threads out of SQLite's busy
handler, whose sleeps are what makes slow answers.
"""

import random
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from sqlite3 import Connection as DriverConnection
from typing import Any

from sqlalchemy import create_engine, event
from sqlalchemy.engine import URL, Connection, Engine
from sqlalchemy.pool import QueuePool, StaticPool

from l402.errors import ConfigurationError, StoreUnavailable
from l402.store import driver
from l402.store.url import in_memory, shown

#: What an operator may choose, and the number SQLite reads back. OFF could corrupt the file.
SYNCHRONOUS = {"NORMAL": 1, "FULL": 2, "EXTRA": 3}
#: Pages of the write-ahead log, 4 KiB each, after which whoever commits moves them into the file:
#: only if no process has done so beside its requests (see `Database.checkpoint`).
_CHECKPOINT = 20_000
#: What the writer keeps of the file in memory, KiB: the upper parts of large indexes.
_CACHE = 16_384
#: Seconds between two looks at whether another process still writes: they grow, within bounds.
_SHORTEST, _LONGEST = 0.001, 0.016
_LEVEL = "l402_synchronous"


class SQLite:
    """The engines of one SQLite file, or of one database in memory; nothing is opened yet."""

    def __init__(self, url: URL, synchronous: str, patience: float) -> None:
        if synchronous not in SYNCHRONOUS:
            raise ConfigurationError(
                f"SQLite's synchronous must be one of {', '.join(SYNCHRONOUS)}, not {synchronous}"
            )
        self.url = url
        self.synchronous = synchronous
        self.patience = patience
        self.in_memory = in_memory(url)
        self._turn = threading.Lock()
        self._at_fork = False
        one = {"poolclass": StaticPool} if self.in_memory else {"pool_size": 1, "max_overflow": 0}
        self._writer = self._engine(**one)
        event.listen(self._writer, "connect", _never_waits)
        self._kept: list[Connection] = []  # the writer, between two transactions
        if not self.in_memory:
            # As many readers as there are threads: opening one takes less than waiting for one.
            self._reader = self._engine(pool_size=16, max_overflow=-1)
            event.listen(self._reader, "connect", _only_reads)

    @contextmanager
    def read(self, patience: float) -> Iterator[Connection]:
        """Lend a connection on which each statement reads the latest commit."""
        if self.in_memory:  # one connection for all: it must not be read in mid-transaction
            with self.write() as connection:
                yield connection
            return
        with self._reader.connect() as connection:
            yield connection

    @contextmanager
    def snapshot(self, patience: float) -> Iterator[Connection]:
        """Lend a connection on which every statement reads what the first one read."""
        with self.read(patience) as connection:
            if not self.in_memory:
                connection.exec_driver_sql("BEGIN")  # deferred; given back, it is rolled back
            yield connection

    def alone(self, step: driver.Runs, values: Mapping[str, Any], may_be_lost: bool) -> Any:
        """Run a step as a transaction of its own."""
        with self.write() as connection:
            return step.run(connection, values)

    @contextmanager
    def write(self, durable: bool = False) -> Iterator[Connection]:
        """Lend the writer for one transaction; `durable` ones survive a power cut too."""
        if not self._turn.acquire(timeout=self.patience):
            raise StoreUnavailable(
                f"{shown(self.url)}: another thread has been writing for {self.patience:g} s"
            )
        try:
            level = "FULL" if durable and self.synchronous == "NORMAL" else self.synchronous
            # Kept from one to the next: to borrow it each time took a third of the whole.
            connection = self._kept.pop() if self._kept else self._writer.connect()
            try:
                with connection.begin():
                    self._begin(connection, level)
                    yield connection
            except BaseException:
                connection.close()  # rolls back whatever is left
                raise
            self._kept.append(connection)
        finally:
            self._turn.release()

    def confirm(self) -> None:
        """Nothing: what can be read here is in the file."""

    def checkpoint(self) -> None:
        """Move what was written from the log into the file; holds up no reader and no writer."""
        if not self.in_memory:
            with self._reader.connect() as connection:
                connection.exec_driver_sql("PRAGMA wal_checkpoint(PASSIVE)")

    def close(self) -> None:
        """Close every connection that is not in use."""
        while self._kept:
            self._kept.pop().close()
        for engine in self._engines():
            engine.dispose()

    def before_fork(self) -> None:
        """Wait for the threads to finish and close the file.

        SQLite keeps its locks by process: what a child inherits open confuses those of both.
        """
        self._at_fork = self._turn.acquire(timeout=self.patience)
        if self.in_memory:
            return
        deadline = time.monotonic() + self.patience
        while self._readers() and time.monotonic() < deadline:
            time.sleep(0.001)
        self.close()

    def after_fork(self, child: bool) -> None:
        """Go on, each with connections of its own; what was in memory was copied."""
        if child:
            self._turn = threading.Lock()
            if not self.in_memory:
                self._kept = []
                for engine in self._engines():
                    engine.dispose(close=False)
        elif self._at_fork:
            self._turn.release()

    def _readers(self) -> int:
        pool = self._reader.pool
        return pool.checkedout() if isinstance(pool, QueuePool) else 0

    def _engines(self) -> list[Engine]:
        return [self._writer] if self.in_memory else [self._writer, self._reader]

    def _engine(self, **pool: Any) -> Engine:
        engine = create_engine(
            self.url,
            hide_parameters=True,
            connect_args={"check_same_thread": False, "timeout": self.patience},
            **pool,
        )
        event.listen(engine, "connect", self._prepare)
        return engine

    def _prepare(self, connection: DriverConnection, record: object) -> None:
        """Set a new connection up, and read back what SQLite made of it."""
        connection.isolation_level = None  # the driver begins nothing by itself
        # Each checkpoint waits for the disk, the longer the larger the indexes are.
        connection.execute(f"PRAGMA wal_autocheckpoint={_CHECKPOINT}")
        settings = {
            "journal_mode": ("WAL", "memory" if self.in_memory else "wal"),
            "synchronous": (self.synchronous, SYNCHRONOUS[self.synchronous]),
            "foreign_keys": ("ON", 1),
        }
        for name, (value, expected) in settings.items():
            connection.execute(f"PRAGMA {name}={value}")
            (found,) = connection.execute(f"PRAGMA {name}").fetchone()
            if found != expected:
                raise StoreUnavailable(
                    f"{shown(self.url)}: SQLite kept {name}={found} instead of {value} "
                    "(is the file on a network file system?)"
                )

    def _begin(self, connection: Connection, level: str) -> None:
        if connection.info.get(_LEVEL) != level:
            driver.execute(connection, f"PRAGMA synchronous={level}")
            connection.info[_LEVEL] = level
        deadline, pause = time.monotonic() + self.patience, _SHORTEST
        while not driver.begin_immediate(connection):
            if time.monotonic() > deadline:
                raise StoreUnavailable(f"{shown(self.url)}: the database is locked by another")
            # SQLite's own pauses grow to 100 ms, and who has waited longest waits longer still.
            time.sleep(random.uniform(pause / 2, pause))  # noqa: S311 - spreads rivals
            pause = min(2 * pause, _LONGEST)


def _never_waits(connection: DriverConnection, record: object) -> None:
    connection.execute("PRAGMA busy_timeout=0")
    connection.execute(f"PRAGMA cache_size=-{_CACHE}")


def _only_reads(connection: DriverConnection, record: object) -> None:
    connection.execute("PRAGMA query_only=ON")
