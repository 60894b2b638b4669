"""A Postgres primary with a synchronous standby: one is killed, and the other takes its place.

Killed processes leave behind what they wrote: the operating system still has it. So these servers
need no ``fsync``, and what they show is the death of processes, and of the way to a host, no power
cut of both.
"""

import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg

from l402.store import migrate
from support.daemons import NotYet, await_that
from support.postgres import PASSWORD, USER, PostgresServer

_HOST = "127.0.0.1"
_CONNINFO = f"host={_HOST} port={{}} user={USER} password={PASSWORD}"
_STATE = "SELECT sync_state FROM pg_stat_replication WHERE state = 'streaming'"


class Node(PostgresServer):
    """One of the two; which of them is the primary changes."""

    def follow(self, primary: "Node") -> None:
        """Begin anew as a standby of `primary`, whatever was here before."""
        shutil.rmtree(self.home / "data", ignore_errors=True)
        self._run(
            "pg_basebackup", "-d", _CONNINFO.format(primary.port), "-D", str(self.home / "data"),
            "-R", "-c", "fast", "--no-sync",
        )  # fmt: skip
        self.start()

    def detach(self) -> None:
        """As a standby, lose the way to the primary: nothing more of it arrives here."""
        self.configure("primary_conninfo", _CONNINFO.format(1))

        def alone() -> bool:
            return not self.rows("SELECT pid FROM pg_stat_wal_receiver WHERE status = 'streaming'")

        await_that("the receiver's end", alone)

    def promote(self) -> None:
        """As a standby, become a primary; it is one when this returns."""
        assert self.rows("SELECT pg_promote()") == [(True,)]

    def configure(self, name: str, value: str) -> None:
        """Change a setting of the running server."""
        self.execute(f"ALTER SYSTEM SET {name} = '{value}'")
        self.execute("SELECT pg_reload_conf()")

    def rows(self, statement: str) -> list[tuple[object, ...]]:
        """Ask the server itself, past whatever leads to it."""
        with psycopg.connect(self.url(), autocommit=True, connect_timeout=2) as connection:
            return connection.execute(statement).fetchall()  # type: ignore[call-overload]

    def kill(self) -> None:
        """Kill every process of the server, at once and in no order."""
        self.signal(signal.SIGKILL)
        assert self._process is not None
        self._process.wait(30)
        self._process = None

    def signal(self, number: signal.Signals) -> None:
        """Send every process of the server a signal; the first one first, lest it make more."""
        assert self._process is not None
        master = self._process.pid
        children = Path(f"/proc/{master}/task/{master}/children").read_text().split()
        for process in (master, *map(int, children)):
            with suppress(ProcessLookupError):
                os.kill(process, number)

    def stop(self) -> None:
        """End the server at once, also while it is stopped."""
        if self._process is not None:
            self.signal(signal.SIGCONT)
        super().stop()


class Pair:
    """Two servers, of which one follows the other; both are found by one URL."""

    def __init__(self) -> None:
        self.primary, self.standby = self.nodes = (Node(), Node())

    def start(self) -> None:
        """Start the one, and the other behind it."""
        self.primary.create()
        self.attach()

    def attach(self) -> None:
        """Make the standby anew, and have every commit wait until it has it."""
        self.standby.follow(self.primary)
        self.synchronize("*")
        await_that("a synchronous standby", lambda: self._state() == "sync")

    def synchronize(self, names: str) -> None:
        """Have commits wait for standbys of these names; "" for none."""
        self.primary.configure("synchronous_standby_names", names)

    def fail_over(self) -> None:
        """Kill the primary if it lives, and promote the standby: the two change places."""
        if self.primary._process is not None:
            self.primary.kill()
        self.standby.promote()
        self.primary, self.standby = self.standby, self.primary

    def fresh(self) -> str:
        """Make a database with our tables in it, and name it as an operator does."""
        name = self.primary.fresh().rpartition("/")[2]
        migrate.upgrade(self.url(name))
        return self.url(name)

    def url(self, database: str) -> str:
        """Name a database by both servers, of which whichever is the primary is meant."""
        hosts = "&".join(f"host={_HOST}:{node.port}" for node in self.nodes)
        owner = f"{USER}:{PASSWORD}"
        return f"postgresql://{owner}@/{database}?{hosts}&target_session_attrs=read-write"

    def remove(self) -> None:
        """End both, and delete their files."""
        for node in self.nodes:
            node.remove()

    def _state(self) -> object:
        try:
            found = self.primary.rows(_STATE)
        except psycopg.OperationalError as error:
            raise NotYet(str(error)) from error
        return found[0][0] if found else None


@contextmanager
def pair() -> Iterator[Pair]:
    """Run a `Pair` for the length of a block."""
    made = Pair()
    try:
        made.start()
        yield made
    finally:
        made.remove()
