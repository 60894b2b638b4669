"""pgbouncer in transaction mode: nothing of one client reaches another, nobody waits for ever."""

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import psycopg
import pytest
from flask import Flask
from sqlalchemy import text
from support.daemons import await_that
from support.pgbouncer import PgBouncer, bouncing
from support.postgres import PostgresServer
from support.redemptions import SPAWN
from support.sales import NOW, payment_hash, sale

from l402.cli import cli
from l402.errors import StoreError, StoreUnavailable
from l402.store import Store, migrate, postgres
from l402.testing import PayingClient

pytest_plugins = ["support.databases"]
pytestmark = pytest.mark.scale

#: What a client could leave behind on the server's connection, if it forgot itself.
_LEFT = (
    "SELECT name, setting FROM pg_settings WHERE source = 'session'",
    "SELECT statement FROM pg_prepared_statements",
    "SELECT name FROM pg_cursors",
    "SELECT mode FROM pg_locks WHERE locktype = 'advisory'",
    "SHOW transaction_isolation",
    "SHOW transaction_read_only",
    "SELECT pg_backend_pid()",
)


@pytest.fixture
def bouncer(postgres_server: PostgresServer) -> Iterator[PgBouncer]:
    """One connection to the server, so that all clients share it."""
    with bouncing(postgres_server, default_pool_size=1) as made:
        yield made


@pytest.fixture
def url(bouncer: PgBouncer, postgres_url: str) -> str:
    """A database whose tables are made, through pgbouncer."""
    url = bouncer.url(postgres_url)
    migrate.upgrade(url)
    return url


def found(url: str) -> dict[str, Any]:
    """What another client finds on the one connection."""
    with psycopg.connect(url, autocommit=True, prepare_threshold=None) as neighbour:
        return {query: neighbour.execute(query).fetchall() for query in _LEFT}


def sold(store: Store) -> None:
    """What a shop does, more often than the five times after which psycopg would prepare it."""
    for number in range(8):
        store.payments.admit(sale(number), NOW)
        store.counts.count_uses({sale(number).token_id: (1, NOW)})
        store.revocations.changes(NOW)
        store.revocations.revoke("payment", payment_hash(number).hex())


def reported(store: Store) -> None:
    with store.db.snapshot() as connection:
        connection.execute(text("SELECT count(*) FROM l402_payment")).scalar()


def given_up(store: Store) -> None:
    """A report whose reader leaves in the middle."""
    everything = text("SELECT * FROM pg_class")
    with store.db.snapshot() as connection, connection.execute(everything) as rows:
        rows.fetchone()


def refused(store: Store) -> None:
    with pytest.raises(StoreUnavailable):
        store.payments.admit(sale(99, msat=-1), NOW)


def too_slow(store: Store) -> None:
    with pytest.raises(StoreUnavailable, match="statement timeout"), store.db.write() as connection:
        connection.execute(text("SELECT pg_sleep(9)"))


def upgraded(store: Store) -> None:
    url = store.db.url.render_as_string(hide_password=False)
    migrate.upgrade(url)
    migrate.current(url)


def check_nothing_is_left(url: str) -> None:
    before = found(url)
    with closing(Store(url)) as store:
        for act in (sold, reported, given_up, refused, too_slow, upgraded):
            act(store)
            assert found(url) == before, act.__name__


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("l402.store.engine.PATIENCE", 0.4)


@pytest.mark.usefixtures("impatient")
def test_nothing_is_left(url: str) -> None:
    """Time limits, isolation levels and statements of one client never meet the next one."""
    check_nothing_is_left(url)


def _for_the_session(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "_BEGIN", postgres._BEGIN.replace("SET LOCAL", "SET"))


def _prepared(monkeypatch: pytest.MonkeyPatch) -> None:
    create = postgres.create_engine

    def preparing(url: Any, **how: Any) -> Any:
        how["connect_args"]["prepare_threshold"] = 2
        return create(url, **how)

    monkeypatch.setattr(postgres, "create_engine", preparing)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("sabotage", [_for_the_session, _prepared])
def test_what_is_left_is_found(
    url: str, monkeypatch: pytest.MonkeyPatch, sabotage: Callable[[pytest.MonkeyPatch], None]
) -> None:
    """SET instead of SET LOCAL, and prepared statements, would be found."""
    sabotage(monkeypatch)
    with pytest.raises((AssertionError, StoreError)):
        check_nothing_is_left(url)


def test_upgrade(bouncer: PgBouncer, postgres_url: str, make_app: Callable[..., Flask]) -> None:
    """The tables are made through it, also by two hosts at once."""
    url = bouncer.url(postgres_url)
    app = make_app(L402_DATABASE_URL=url)
    with SPAWN.Pool(2) as pool:
        pool.map_async(migrate.upgrade, [url] * 2).get(60)
    assert app.test_cli_runner().invoke(cli, ["upgrade"]).exit_code == 0
    assert migrate.current(url) == migrate.head()
    client = PayingClient(app)
    assert client.get("/quote").status_code == 200


@pytest.mark.parametrize("seconds", [1, 120])
def test_no_connection_is_free(
    postgres_server: PostgresServer, postgres_url: str, make_app: Callable[..., Flask], seconds: int
) -> None:
    """While others hold every connection, callers get 503 and are told when to come again."""
    with bouncing(postgres_server, default_pool_size=1, query_wait_timeout=seconds) as bouncer:
        url = bouncer.url(postgres_url)
        migrate.upgrade(url)
        app = make_app(L402_DATABASE_URL=url)
        assert PayingClient(app).get("/quote").status_code == 200
        with psycopg.connect(url, prepare_threshold=None) as holder:
            holder.execute("SELECT 1")  # and does not end its transaction
            answer = PayingClient(app).get("/fact")
            assert answer.status_code == 503
            assert 1 <= int(answer.headers["Retry-After"]) <= 60
        await_that("service", lambda: PayingClient(app).get("/fact").status_code == 200)


def test_start_up_options(url: str) -> None:
    """Options in the URL are refused by it, and that is told: set them on the database."""
    options = f"{url}?options=-c%20statement_timeout%3D1"
    with closing(Store(options)) as store, pytest.raises(StoreUnavailable, match="options"):
        store.ping()
