"""Where the app that is measured keeps its record and its limits."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from l402.store import migrate


class Backend(NamedTuple):
    """A database whose tables are made, and the storage of the limits."""

    name: str
    database: str
    limits: str | None = None

    @property
    def environment(self) -> dict[str, str]:
        """What tells a server's process of it; see `from_environment`."""
        return {
            "BENCH_BACKEND": self.name,
            "BENCH_DATABASE": self.database,
            "BENCH_LIMITS": self.limits or "",
        }

    @classmethod
    def from_environment(cls) -> "Backend":
        """Return the backend that this process was told of."""
        told = os.environ
        return cls(told["BENCH_BACKEND"], told["BENCH_DATABASE"], told["BENCH_LIMITS"] or None)


def sqlite(folder: Path) -> Backend:
    """Make a new SQLite file; the limits are in each process's memory."""
    backend = Backend("SQLite", f"sqlite:///{folder / 'l402.db'}")
    migrate.upgrade(backend.database)
    return backend


@contextmanager
def postgres_and_redis(folder: Path) -> Iterator[Backend | None]:
    """Run PostgreSQL and Redis on loopback; None if one of them is not installed."""
    programs = any(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    if not programs or shutil.which("redis-server") is None:
        yield None
        return
    from support.postgres import PostgresServer

    server = PostgresServer()
    try:
        server.create()
        with _redis(folder / "redis") as limits:
            backend = Backend("Postgres + Redis", server.fresh(), limits)
            migrate.upgrade(backend.database)
            yield backend
    finally:
        server.remove()


@contextmanager
def _redis(folder: Path) -> Iterator[str]:
    import redis
    from support.daemons import Process, await_that, free_port

    port = free_port()
    program = Path(shutil.which("redis-server") or "")
    process = Process(program, folder, f"--port {port} --bind 127.0.0.1 --dir {folder}")

    def answers() -> bool:
        process.check()
        with suppress(redis.ConnectionError), redis.Redis(port=port) as client:
            return bool(client.ping())
        return False

    try:
        await_that("redis-server", answers)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.stop()
