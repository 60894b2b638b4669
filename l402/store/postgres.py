"""Postgres by psycopg 3, with every wait bounded on our side of the wire.

A server that is stopped, or a network that swallows packets, never answers, and no setting of the
server's helps against that. All of it works behind pgbouncer in transaction mode: no start-up
options, settings by transaction only, and no prepared statement is taken for granted.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache, partial
from hashlib import sha256
from typing import Any, cast

import psycopg
from psycopg import errors
from psycopg.abc import RV, PQGen
from psycopg.pq import TransactionStatus
from sqlalchemy import create_engine, event
from sqlalchemy.engine import URL, Connection

from l402.store import driver

#: Begins a transaction and sets its limits, in milliseconds, in one exchange.
_BEGIN = (
    "BEGIN; SET LOCAL statement_timeout = {statement:.0f};"
    " SET LOCAL idle_in_transaction_session_timeout = {idle:.0f}"
)

#: The like for a transaction of one statement. A plan that was made while a table was small is
#: kept when it has grown, so it must not read all of it.
_SETTINGS = "SET LOCAL statement_timeout = {statement:.0f}; SET LOCAL enable_seqscan = off; "
#: Its commit waits, as any other's, until standbys have all that was committed before it.
_CONFIRM = "SELECT pg_logical_emit_message(true, 'l402', '')"


class Bounded(psycopg.Connection[Any]):
    """A connection that gives up, and closes itself, when an answer takes too long.

    It does so too when the answer to a commit is that a standby was not waited for.
    """

    patience = 2.0  # seconds for one exchange with the server
    _unreplicated = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.prepared: set[str] = set()  # the statements that its session has, as far as we know
        self.add_notice_handler(self._heed)

    def wait(self, gen: PQGen[RV], *args: Any, **kwargs: Any) -> RV:
        """Wait as psycopg does, but no longer than `patience` from now."""
        outcome = super().wait(self._within(gen), *args, **kwargs)
        if self._unreplicated:
            self.close()
            raise psycopg.OperationalError("committed, but perhaps not on the standby")
        return outcome

    def _heed(self, notice: psycopg.errors.Diagnostic) -> None:
        # Its code is that of any warning, and its text is in the server's language.
        if notice.source_function == "SyncRepWaitForLSN":
            self._unreplicated = True

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
        settings = _SETTINGS.format(statement=patience * 750)
        self._alone = partial(_ask_alone, settings)
        self._hasty = partial(_ask_alone, f"{settings}SET LOCAL synchronous_commit = off; ")
        self._writer = create_engine(
            url,
            isolation_level="AUTOCOMMIT",
            hide_parameters=True,
            pool_timeout=patience,
            pool_reset_on_return=None,  # see `_reset`
            use_native_hstore=False,
            connect_args={"prepare_threshold": None, "connect_timeout": max(2, round(patience))},
        )
        self._snapshots = self._writer.execution_options(
            isolation_level="REPEATABLE READ", postgresql_readonly=True
        )
        self._last: tuple[str, str] | None = None  # the host that answered, and its port
        event.listen(self._writer, "do_connect", self._connect)
        event.listen(self._writer, "reset", _reset)

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

    def alone(self, step: driver.Runs, values: Mapping[str, Any], may_be_lost: bool) -> Any:
        """Run a statement as a transaction of its own, in one exchange with the server.

        It is never idle within that, and no lock is held over the network.
        """
        with self._writer.connect() as connection:
            _driver(connection).patience = self.patience
            return step.run(connection, values, self._hasty if may_be_lost else self._alone)

    @contextmanager
    def write(self, durable: bool = False) -> Iterator[Connection]:
        """Lend a connection for one transaction, at the isolation level that the server sets."""
        with self._writer.connect() as connection:
            _driver(connection).patience = self.patience
            with connection.begin():  # as far as SQLAlchemy knows; it sends nothing
                driver.execute(connection, self._begin)
                yield connection

    def confirm(self) -> None:
        """Commit something: all that can be read before it is safe then.

        What was committed without an answer can be read also while no standby has it.
        """
        with self._writer.connect() as connection:
            _driver(connection).patience = self.patience
            driver.execute(connection, _CONFIRM)

    def _connect(
        self, dialect: object, record: object, args: list[Any], kwargs: dict[str, Any]
    ) -> Bounded:
        """Connect to the first of the hosts that will do, beginning with the one of last time.

        Otherwise each connection would wait for a host that is dead.
        """
        hosts = sorted(_hosts(kwargs), key=lambda each: each != self._last)
        if len(hosts) > 1:
            kwargs["host"], kwargs["port"] = map(",".join, zip(*hosts, strict=True))
        connection = Bounded.connect(*args, **kwargs)
        found = connection.info.host, str(connection.info.port)
        self._last = next((each for each in hosts if each in (found, (found[0], ""))), None)
        return connection

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


def _reset(connection: Bounded, record: object, state: object) -> None:
    """Roll back what a connection comes back with: most are idle, and asking takes long enough."""
    if connection.pgconn.transaction_status != TransactionStatus.IDLE:
        connection.rollback()


def _hosts(given: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Read the hosts of a connection, each with its port; one port may be that of all."""
    hosts = str(given.get("host", "")).split(",")
    ports = str(given.get("port", "")).split(",")
    return list(zip(hosts, ports if len(ports) > 1 else ports * len(hosts), strict=True))


def _ask_alone(settings: str, connection: Bounded, sql: str, parameters: Any) -> list[Any]:
    """Run a statement as a transaction of its own, planned once for each session of the server."""
    name, prepare, execute = _prepared(sql)
    for _ in range(3):
        known = name in connection.prepared
        try:
            rows = _exchange(connection, settings + prepare * (not known) + execute, parameters)
        except errors.InvalidSqlStatementName:  # pgbouncer gave us another session
            connection.prepared.discard(name)
        except errors.DuplicatePreparedStatement:  # one in which somebody was before us
            connection.prepared.add(name)
        except errors.FeatureNotSupported:  # it was planned before the type of a column changed
            connection.prepared.discard(name)
            prepare = f"DEALLOCATE {name}; {prepare}"
        else:
            connection.prepared.add(name)
            return rows
    return _exchange(connection, settings + sql, parameters)


def _exchange(connection: Bounded, sql: str, parameters: Any) -> list[Any]:
    """Send several statements together, which the server runs as one transaction."""
    # Only a text without parameters may be of several, so ours are put in on this side.
    cursor = psycopg.ClientCursor(connection)
    cursor.execute(sql, parameters)
    while cursor.nextset():
        pass
    return cursor.fetchall()


@cache
def _prepared(sql: str) -> tuple[str, str, str]:
    """Name a statement after its text; give what prepares it and what runs it then."""
    numbers = _Numbers()
    text = (sql % numbers).replace("%", "%%")
    own = f"l402_{sha256(text.encode()).hexdigest()[:24]}"
    values = ", ".join(f"%({name})s" for name in numbers)
    return own, f"PREPARE {own} AS {text}; ", f"EXECUTE {own}" + f" ({values})" * bool(numbers)


class _Numbers(dict[str, str]):
    """What stands for each parameter in a prepared text, by its name, as they are met."""

    def __missing__(self, name: str) -> str:
        return self.setdefault(name, f"${len(self) + 1}")


def _driver(connection: Connection) -> Bounded:
    return cast(Bounded, connection.connection.driver_connection)
