"""Postgres for tests: a private cluster on loopback."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Self

USER = "l402"
PASSWORD = "postgres-canary-5d1f"  # recognisable, should it ever reach a message
_NAMES = count(1)


class PostgresServer:
    """A cluster of its own in a temporary directory.

    Unless it is `durable`, what it commits need not reach the disk, for speed.
    """

    def __init__(self, *, durable: bool = False) -> None:
        self.durable = durable
        self.bin = sorted(Path("/usr/lib/postgresql").glob("*/bin"))[-1]
        self.home = Path(tempfile.mkdtemp(prefix="l402-postgres-"))
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._become = unprivileged(self.home)

    @classmethod
    @contextmanager
    def running(cls, *, durable: bool = False) -> Iterator[Self]:
        """Make one and start it, for the length of a block."""
        server = cls(durable=durable)
        try:
            server.create()
            yield server
        finally:
            server.remove()

    def create(self) -> None:
        """Make the cluster's files and start it."""
        password = self.home / "password"
        password.write_text(PASSWORD)
        password.chmod(0o644)
        self._run(
            "initdb", "-D", str(self.home / "data"), "-U", USER, "--no-sync",
            "-A", "scram-sha-256", f"--pwfile={password}", "-E", "UTF8", "--locale=C.UTF-8",
        )  # fmt: skip
        self.start()

    def start(self) -> None:
        """Start the server and wait until it answers."""
        settings = {
            "port": self.port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "fsync": "on" if self.durable else "off",
            "max_connections": 100,
        }
        options = [f"-c{name}={value}" for name, value in settings.items()]
        with (self.home / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*self._become, self.bin / "postgres", "-D", self.home / "data", *options],
                stdout=log,
                stderr=log,
                cwd=self.home,
            )
        self._await()

    def stop(self) -> None:
        """End the server at once, cutting every connection; the files stay."""
        if self._process:
            self._process.send_signal(3)  # SIGQUIT: immediate shutdown
            self._process.wait(timeout=30)
            self._process = None

    def processes(self) -> dict[str, int]:
        """Give the server's processes, by what each is called."""
        assert self._process
        main = self._process.pid
        pids = Path(f"/proc/{main}/task/{main}/children").read_text().split()
        return {Path(f"/proc/{pid}/cmdline").read_text().strip("\0 "): int(pid) for pid in pids}

    def crash(self) -> None:
        """Kill all its processes at once, and with them what they have not written yet."""
        assert self._process
        children = self.processes().values()
        self._process.kill()
        for pid in children:
            os.kill(pid, signal.SIGKILL)
        self._process.wait(timeout=30)
        self._process = None

    def remove(self) -> None:
        """End it and delete its files."""
        self.stop()
        shutil.rmtree(self.home)

    def url(self, database: str = "postgres") -> str:
        """Name one of its databases."""
        return f"postgresql://{USER}:{PASSWORD}@127.0.0.1:{self.port}/{database}"

    def fresh(self) -> str:
        """Make an empty database and name it."""
        name = f"test{next(_NAMES)}_{os.getpid()}"
        self.execute(f"CREATE DATABASE {name}")
        return self.url(name)

    def drop(self, url: str) -> None:
        """Delete a database that `fresh` made."""
        name = url.rpartition("/")[2]
        self.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def execute(self, statement: str) -> None:
        """Run a statement as the cluster's owner."""
        import psycopg

        with psycopg.connect(self.url(), autocommit=True, connect_timeout=2) as connection:
            connection.execute(statement)  # type: ignore[call-overload]

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [*self._become, self.bin / program, *arguments],
            check=True,
            capture_output=True,
            cwd=self.home,
            timeout=60,
        )

    def _await(self) -> None:
        import psycopg  # an extra: tests on SQLite do without it

        deadline = time.monotonic() + 30
        while True:
            try:
                self.execute("SELECT 1")
            except psycopg.OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
            else:
                return


def unprivileged(folder: Path) -> list[str]:
    """Give `folder` to who is not root, and return what runs a program as them, before its name."""
    if os.geteuid() != 0:
        return []
    owner = next(user for user in ("postgres", "nobody") if _exists(user))
    shutil.chown(folder, owner)
    group = str(pwd.getpwnam(owner).pw_gid)
    return ["setpriv", f"--reuid={owner}", f"--regid={group}", "--clear-groups"]


def free_port() -> int:
    """Give a TCP port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _exists(user: str) -> bool:
    try:
        pwd.getpwnam(user)
    except KeyError:
        return False
    return True
