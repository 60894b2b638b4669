"""pgbouncer for tests: in transaction mode, in front of a Postgres of the test's own."""

import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import make_url

from support.daemons import NotYet, Process, await_that
from support.postgres import PASSWORD, USER, PostgresServer, free_port, unprivileged


class PgBouncer:
    """One pgbouncer for all databases of a server; `settings` are its own, by name.

    Few server connections, so that clients really share them.
    """

    def __init__(self, server: PostgresServer, host: str = "127.0.0.1", **settings: object) -> None:
        self.host, self.port = host, free_port()
        folder = server.home / f"pgbouncer-{self.port}"
        folder.mkdir()
        become = unprivileged(folder)
        given = {
            "listen_addr": host,
            "listen_port": self.port,
            "unix_socket_dir": "",
            "pool_mode": "transaction",
            "default_pool_size": 4,
            "max_client_conn": 1000,
            "auth_type": "scram-sha-256",
            "auth_file": folder / "users",
            "admin_users": USER,
        } | settings
        lines = [f"{name} = {value}\n" for name, value in given.items()]
        target = f"[databases]\n* = host=127.0.0.1 port={server.port}\n[pgbouncer]\n"
        (folder / "pgbouncer.ini").write_text(target + "".join(lines))
        (folder / "users").write_text(f'"{USER}" "{PASSWORD}"\n')
        program = shutil.which("pgbouncer") or "/usr/sbin/pgbouncer"
        self._command = [*become, program, "-q", str(folder / "pgbouncer.ini")]
        self._folder = folder
        self._process: Process | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        program, *flags = self._command
        self._process = Process(Path(program), self._folder, " ".join(flags))
        await_that("pgbouncer", lambda: self.admin("SHOW VERSION"))

    def stop(self) -> None:
        """End it at once, cutting every connection."""
        if self._process is not None:
            self._process.signal(signal.SIGKILL)
            self._process.stop()

    def restart(self) -> None:
        """End it, and start it anew."""
        self.stop()
        self.start()

    def url(self, database: str) -> str:
        """Name a database of its server, by the URL that leads there directly, through here."""
        through = make_url(database).set(host=self.host, port=self.port)
        return through.render_as_string(hide_password=False)

    def admin(self, command: str) -> list[Any]:
        """Give its console a command, such as RECONNECT, and return the rows that it answers."""
        assert self._process is not None
        self._process.check()
        try:
            with psycopg.connect(
                host=self.host, port=self.port, user=USER, password=PASSWORD,
                dbname="pgbouncer", autocommit=True, connect_timeout=2,
            ) as console:  # fmt: skip
                cursor = console.execute(command)  # type: ignore[call-overload]
                return cursor.fetchall() if cursor.description else []
        except psycopg.OperationalError as error:
            raise NotYet(str(error)) from error


@contextmanager
def bouncing(server: PostgresServer, **settings: Any) -> Iterator[PgBouncer]:
    """Run a pgbouncer for the length of a block."""
    bouncer = PgBouncer(server, **settings)
    try:
        bouncer.start()
        yield bouncer
    finally:
        bouncer.stop()
