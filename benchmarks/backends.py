"""Where the app that is measured keeps its record and its limits."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
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
    from support.redis_servers import Redis, running

    with PostgresServer.running() as server, running(Redis(folder / "redis")) as redis:
        backend = Backend("Postgres + Redis", server.fresh(), redis.uri)
        migrate.upgrade(backend.database)
        yield backend
