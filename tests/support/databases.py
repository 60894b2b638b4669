"""Fixtures for real databases: SQLite files, and Postgres from a cluster of the session's own.

A test that asks for `database_url` or `store` runs on both; the Postgres half carries the marker
``postgres``. Test modules take these in by ``pytest_plugins = ["support.databases"]``.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from l402.store import Store, migrate
from support.postgres import PostgresServer


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A running Postgres cluster, for the whole session."""
    with PostgresServer.running() as server:
        yield server


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """The URL of an empty Postgres database of the test's own."""
    url = postgres_server.fresh()
    yield url
    postgres_server.drop(url)


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """The URL of an SQLite file that is not there yet."""
    return f"sqlite:///{tmp_path / 'record.db'}"


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def database_url(request: pytest.FixtureRequest) -> str:
    """The URL of an empty database of the test's own, on SQLite and on Postgres."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    """A store whose tables are made, on SQLite and on Postgres."""
    migrate.upgrade(database_url)
    store = Store(database_url)
    yield store
    store.close()
