"""The database as the gate meets it: settings, time limits, faults, forks."""

import sqlite3
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from datetime import date
from pathlib import Path

import pytest
from sqlalchemy import Text, event, text
from support.postgres import PostgresServer, free_port
from support.sales import NOW, credit, order, payment_hash, sale
from support.wires import Silent, Wire

from l402.errors import ConfigurationError, SchemaOutdated, StoreError, StoreUnavailable
from l402.store import Standing, Store, migrate
from l402.store.driver import Statement
from l402.store.tables import VERSION_TABLE

pytest_plugins = ["support.databases"]

DEADLINE = 20  # seconds after which a test calls something hung; generous


@pytest.fixture
def sqlite_store(sqlite_url: str) -> Iterator[Store]:
    migrate.upgrade(sqlite_url)
    with closing(Store(sqlite_url)) as store:
        yield store


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stores made from now on give up after a fifth of a second."""
    monkeypatch.setattr("l402.store.engine.PATIENCE", 0.2)


def failure(act: Callable[[], object]) -> StoreError:
    """Run `act` in a thread, and give the error of ours with which it ends in good time."""
    caught: list[StoreError] = []

    def run() -> None:
        with pytest.raises(StoreError) as error:
            act()
        caught.append(error.value)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(DEADLINE)
    assert caught, "it hangs, or did not fail"
    return caught[0]


def pragma(connection, name: str) -> object:
    return connection.exec_driver_sql(f"PRAGMA {name}").scalar()


# --- opening


def test_opens_nothing(tmp_path: Path) -> None:
    """A store that was made but not used has opened no file and started no thread."""
    threads = threading.active_count()
    store = Store(f"sqlite:///{tmp_path / 'record.db'}")
    store.close()
    assert list(tmp_path.iterdir()) == []
    assert threading.active_count() == threads


def test_used_again_after_close(store: Store) -> None:
    """A closed store opens its connections anew."""
    store.payments.admit(sale(), NOW)
    store.close()
    assert store.payments.recorded(payment_hash(1))


def test_closed_file(sqlite_store: Store) -> None:
    """A closed store has let go of its file: SQLite clears up after the last connection."""
    log = Path(f"{sqlite_store.db.url.database}-wal")
    sqlite_store.payments.admit(sale(), NOW)
    assert log.exists()
    sqlite_store.close()
    assert not log.exists()


@pytest.mark.parametrize(
    ("chosen", "usual", "durable"), [("NORMAL", 1, 2), ("FULL", 2, 2), ("EXTRA", 3, 3)]
)
def test_sqlite_settings(sqlite_url: str, chosen: str, usual: int, durable: int) -> None:
    """SQLite really runs with the settings that we rely on; what must be durable is written so."""
    migrate.upgrade(sqlite_url)
    with closing(Store(sqlite_url, chosen)) as store:
        with store.db.write() as connection:
            assert pragma(connection, "journal_mode") == "wal"
            assert pragma(connection, "synchronous") == usual
            assert pragma(connection, "foreign_keys") == 1
            assert pragma(connection, "busy_timeout") == 0  # it waits by itself
        with store.db.write(durable=True) as connection:
            assert pragma(connection, "synchronous") == durable
        with store.db.write() as connection:
            assert pragma(connection, "synchronous") == usual


def test_revocations_are_durable(sqlite_store: Store) -> None:
    """A revocation is on the disk before it is acknowledged."""
    levels = []
    writer = sqlite_store.db._engines._writer
    event.listen(writer, "commit", lambda each: levels.append(pragma(each, "synchronous")))
    sqlite_store.payments.admit(sale(), NOW)
    sqlite_store.revocations.revoke("payment", payment_hash(1).hex())
    assert levels == [1, 2]


def test_refused_settings(sqlite_url: str) -> None:
    """A setting that could corrupt the file is refused."""
    with pytest.raises(ConfigurationError, match="NORMAL, FULL, EXTRA"):
        Store(sqlite_url, "OFF")


def test_setting_not_taken(sqlite_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """If SQLite does not take a setting, the store does not go on without it."""
    monkeypatch.setattr(sqlite_store.db._engines, "synchronous", "FULL")
    monkeypatch.setitem(sys.modules["l402.store.sqlite"].SYNCHRONOUS, "FULL", 9)
    with pytest.raises(StoreUnavailable, match="kept synchronous=2"):
        sqlite_store.ping()


def test_reading_cannot_write(sqlite_store: Store) -> None:
    """A connection that was lent for reading changes nothing."""
    with pytest.raises(StoreUnavailable, match="readonly"), sqlite_store.db.read() as connection:
        connection.execute(text("DELETE FROM l402_payment"))


# --- in memory


def test_in_memory() -> None:
    """A database in memory has its tables at once, is shared by threads, and ends on closing."""
    with closing(Store("sqlite:///:memory:")) as store:
        threads = [
            threading.Thread(target=store.payments.admit, args=(sale(number), NOW))
            for number in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(DEADLINE)
        assert len(store.credentials.page(now=NOW)) == 8
    with closing(store):
        assert store.credentials.page(now=NOW) == []


def test_each_memory_its_own() -> None:
    """Two databases in memory share nothing."""
    with closing(Store("sqlite://")) as one, closing(Store("sqlite://")) as other:
        one.payments.admit(sale(), NOW)
        assert not other.payments.recorded(payment_hash(1))


# --- the schema


def test_schema_missing(database_url: str) -> None:
    """Without tables each use names the command, and works as soon as that has run."""
    with closing(Store(database_url)) as store:
        for _ in range(2):
            with pytest.raises(SchemaOutdated, match="flask l402 upgrade"):
                store.payments.admit(sale(), NOW)
        migrate.upgrade(database_url)
        assert store.payments.admit(sale(), NOW).first


def set_version(store: Store, version: str) -> None:
    with store.db.write() as connection:
        connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '{version}'"))


def test_schema_of_another_release(store: Store) -> None:
    """A process that starts on tables of another release says so, and serves once they fit."""
    with closing(Store(store.db.url.render_as_string(hide_password=False))) as other:
        set_version(store, "0000")
        with pytest.raises(SchemaOutdated, match="at revision 0000: run `flask l402 upgrade`"):
            other.ping()
        set_version(store, "9999")
        with pytest.raises(SchemaOutdated, match="later release"):
            other.ping()
        set_version(store, migrate.head())
        other.ping()


def test_schema_lost(store: Store) -> None:
    """Tables that vanish under a live process are missed and, when they are back, used."""
    store.ping()
    with store.db.write() as connection:
        connection.execute(text("ALTER TABLE l402_payment RENAME TO aside"))
    with pytest.raises(SchemaOutdated, match="flask l402 upgrade"):
        store.payments.admit(sale(), NOW)
    with store.db.write() as connection:
        connection.execute(text("ALTER TABLE aside RENAME TO l402_payment"))
    assert store.payments.admit(sale(), NOW).first


def test_schema_after_a_failure(store: Store) -> None:
    """After a failure the tables are looked at again: it may be another database by now."""
    set_version(store, "9999")
    store.ping()
    with pytest.raises(StoreUnavailable):
        store.payments.admit(sale(msat=-1), NOW)
    with pytest.raises(SchemaOutdated, match="later release"):
        store.ping()


# --- faults


def test_latest_commit(store: Store) -> None:
    """Each statement on a connection lent for reading sees what was committed before it."""
    url = store.db.url
    if url.get_backend_name() == "postgresql":  # where a transaction would hold on to its snapshot
        url = url.set(query={"options": "-c default_transaction_isolation=serializable"})
    count = text("SELECT count(*) FROM l402_payment")
    other = Store(url.render_as_string(hide_password=False))
    with closing(other), other.db.read() as connection:
        assert connection.execute(count).scalar() == 0
        store.payments.admit(sale(), NOW)
        assert connection.execute(count).scalar() == 1


def test_block_that_fails(store: Store) -> None:
    """An error in mid-transaction undoes all of it and passes through."""

    def write() -> None:
        with store.db.write() as connection:
            connection.execute(
                text("INSERT INTO l402_challenge_count VALUES ('2030-01-01', 'a', 'b', 1)")
            )
            raise KeyError

    with pytest.raises(KeyError):
        write()
    assert store.days.stats(date(2030, 1, 1), date(2030, 1, 1)) == []


def test_unusable_file(tmp_path: Path) -> None:
    """A file that is no database, or cannot be made, is a store that is unavailable."""
    (tmp_path / "text.db").write_text("not a database, and long enough to see it" * 20)
    for name in ("text.db", "missing/record.db"):
        store = Store(f"sqlite:///{tmp_path / name}")
        with pytest.raises(StoreUnavailable, match=name):
            store.ping()


def test_disk_full(sqlite_store: Store) -> None:
    """A full disk refuses a sale, keeps every one that was booked, and is forgotten when mended."""
    limit = [24]

    def cap(connection: sqlite3.Connection, _record: object) -> None:
        connection.execute(f"PRAGMA max_page_count={limit[0]}")

    event.listen(sqlite_store.db._engines._writer, "connect", cap)
    booked = 0
    error: StoreUnavailable | None = None
    while error is None and booked < 10_000:
        try:
            sqlite_store.payments.admit(sale(booked), NOW)
            booked += 1
        except StoreUnavailable as full:
            error = full
    assert "full" in str(error)
    assert booked > 0
    assert all(sqlite_store.payments.recorded(payment_hash(number)) for number in range(booked))
    assert not sqlite_store.payments.recorded(payment_hash(booked))
    limit[0] = 10_000
    sqlite_store.close()
    assert sqlite_store.payments.admit(sale(booked), NOW).first


@pytest.mark.usefixtures("impatient")
def test_file_locked_by_another(sqlite_url: str) -> None:
    """While another program keeps the file locked, writing fails in good time; reading goes on."""
    migrate.upgrade(sqlite_url)
    with ExitStack() as stack:
        store = stack.enter_context(closing(Store(sqlite_url)))
        other = stack.enter_context(closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"))))
        other.execute("BEGIN IMMEDIATE")
        assert "locked" in str(failure(lambda: store.payments.admit(sale(), NOW)))
        assert not store.payments.recorded(payment_hash(1))
        other.rollback()
        assert store.payments.admit(sale(), NOW).first


@pytest.mark.usefixtures("impatient")
def test_writer_taken_by_a_thread(sqlite_url: str) -> None:
    """While one thread writes, others wait for their turn, but not for ever."""
    migrate.upgrade(sqlite_url)
    with closing(Store(sqlite_url)) as store:
        with store.db.write():
            assert "another thread" in str(failure(lambda: store.payments.admit(sale(), NOW)))
        assert store.payments.admit(sale(), NOW).first


def test_refused_connection() -> None:
    """A server that is not there is told at once, with its address and without the password."""
    url = f"postgresql://shop:canary-7f3a@127.0.0.1:{free_port()}/shop"
    error = failure(Store(url).ping)
    assert isinstance(error, StoreUnavailable)
    assert "127.0.0.1" in str(error)
    assert "refused" in str(error)
    assert "canary-7f3a" not in "".join(traceback.format_exception(error))


def test_silent_server() -> None:
    """A server that accepts and never answers costs a bounded wait."""
    with Silent() as server:
        url = f"postgresql://shop:canary-7f3a@127.0.0.1:{server.port}/shop"
        error = failure(Store(url).ping)
    assert isinstance(error, StoreUnavailable)
    assert "canary-7f3a" not in "".join(traceback.format_exception(error))


@pytest.mark.postgres
def test_several_hosts(
    postgres_server: PostgresServer, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host that swallows everything is waited for once, and not at each connection."""
    monkeypatch.setattr(migrate, "_CONNECT", 2)
    with Silent() as silent:
        start, _, database = postgres_url.rpartition(f"127.0.0.1:{postgres_server.port}")
        hosts = f"?host=127.0.0.1:{silent.port}&host=127.0.0.1:{postgres_server.port}"
        url = f"{start}{database}{hosts}&target_session_attrs=read-write"
        migrate.upgrade(url)
        assert silent.calls() > 0
        with closing(Store(url)) as store:
            store.ping()
            assert silent.calls() == 1
            store.close()
            store.ping()
            assert store.payments.admit(sale(), NOW).first
            assert silent.calls() == 0


@pytest.mark.postgres
def test_wrong_password(postgres_server: PostgresServer) -> None:
    """A wrong password is told, and not shown."""
    url = postgres_server.url().replace("postgres-canary-5d1f", "canary-7f3a")
    error = failure(Store(url).ping)
    assert "password authentication failed" in str(error)
    assert "canary-7f3a" not in "".join(traceback.format_exception(error))


@pytest.mark.postgres
@pytest.mark.usefixtures("impatient")
def test_server_falls_silent(postgres_server: PostgresServer, postgres_url: str) -> None:
    """An open connection on which no answer comes is given up, and replaced when all is well."""
    migrate.upgrade(postgres_url)
    with Wire(postgres_server.port) as wire:
        url = postgres_url.replace(f":{postgres_server.port}/", f":{wire.port}/")
        with closing(Store(url)) as store:
            store.ping()
            wire.swallow()
            assert "no answer within 0.2 s" in str(failure(store.ping))
            wire.mend()
            assert store.payments.admit(sale(), NOW).first
            wire.swallow()
            failure(lambda: store.payments.admit(sale(2), NOW))
            wire.mend()
            assert store.payments.admit(sale(2), NOW).first


@pytest.mark.postgres
@pytest.mark.usefixtures("impatient")
def test_silence_after_a_report(postgres_server: PostgresServer, postgres_url: str) -> None:
    """A call waits no longer than it may on a connection on which a report was patient."""
    migrate.upgrade(postgres_url)
    with Wire(postgres_server.port) as wire:
        url = postgres_url.replace(f":{postgres_server.port}/", f":{wire.port}/")
        with closing(Store(url)) as store:
            store.payments.admit(credit(store), NOW)
            store.uses.reserve(asked := order(), NOW)
            with store.db.read(patience=60 * DEADLINE) as connection:
                connection.execute(_SESSION)
            wire.swallow()
            assert "no answer within 0.2 s" in str(failure(lambda: store.uses.take(asked.use_id)))
            wire.mend()


@pytest.mark.postgres
def test_cut_connections(postgres_server: PostgresServer, postgres_url: str) -> None:
    """Connections that were cut while idle are replaced unnoticed, for reading and for writing."""
    migrate.upgrade(postgres_url)
    cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{}'"
    with closing(Store(postgres_url)) as store:
        store.ping()
        for act in (
            lambda: store.payments.admit(sale(), NOW),
            lambda: store.revocations.changes(NOW),
            lambda: store.revocations.revoke("payment", payment_hash(1).hex()),
            lambda: store.counts.count_uses({sale().token_id: (1, NOW)}),
            lambda: store.credentials.state(sale().token_id),
        ):
            postgres_server.execute(cut.format(store.db.url.database))
            act()
        assert store.credentials.state(sale().token_id).uses == 1


@pytest.mark.postgres
@pytest.mark.parametrize("after", [False, True])
def test_cut_in_mid_commit(postgres_server: PostgresServer, postgres_url: str, after: bool) -> None:
    """A connection lost in its commit leaves one row, and at most one call is the first."""
    migrate.upgrade(postgres_url)
    with Wire(postgres_server.port) as wire:
        url = postgres_url.replace(f":{postgres_server.port}/", f":{wire.port}/")
        with closing(Store(url)) as store:
            for number in range(5):
                wire.cut(b"COMMIT\0", after=after)
                standing = store.payments.admit(sale(number), NOW)
                assert standing == Standing(first=not after, revoked=False, late=False)
            assert len(store.credentials.page(now=NOW)) == 5


@pytest.mark.postgres
def test_restarted_server(postgres_server: PostgresServer, postgres_url: str) -> None:
    """While the server is down each use fails, and afterwards the same store serves again."""
    migrate.upgrade(postgres_url)
    with closing(Store(postgres_url)) as store:
        assert store.payments.admit(sale(), NOW).first
        postgres_server.stop()
        try:
            assert isinstance(failure(lambda: store.payments.admit(sale(2), NOW)), StoreUnavailable)
        finally:
            postgres_server.start()
        assert store.payments.recorded(payment_hash(1))
        assert store.payments.admit(sale(2), NOW).first


@pytest.mark.postgres
@pytest.mark.usefixtures("impatient")
def test_lock_held_by_another(postgres_url: str) -> None:
    """A sale that another transaction is booking for ever is given up, and booked when it ends."""
    migrate.upgrade(postgres_url)
    hold = text(f"INSERT INTO l402_credential VALUES ('{sale().token_id.hex()}', 's', now())")
    with closing(Store(postgres_url)) as store, closing(Store(postgres_url)) as other:
        with other.db.write() as connection:
            connection.execute(hold)
            assert "timeout" in str(failure(lambda: store.payments.admit(sale(), NOW)))
            connection.rollback()
        assert store.payments.admit(sale(), NOW).first


@pytest.mark.postgres
@pytest.mark.usefixtures("impatient")
def test_balance_held_by_another(postgres_url: str) -> None:
    """A call whose balance another transaction holds for ever is given up in good time."""
    migrate.upgrade(postgres_url)
    with closing(Store(postgres_url)) as store, closing(Store(postgres_url)) as other:
        store.payments.admit(credit(store), NOW)
        store.uses.reserve(asked := order(), NOW)
        (session,) = store.db.fetch(_SESSION)
        with other.db.write() as connection:
            connection.execute(text("SELECT * FROM l402_credit FOR UPDATE"))
            assert "statement timeout" in str(failure(lambda: store.uses.reserve(order(), NOW)))
            assert "statement timeout" in str(failure(lambda: store.uses.take(asked.use_id)))
        assert store.db.fetch(_SESSION) == [session]  # nothing was hung up for it
        store.uses.reserve(asked := order(), NOW)
        assert store.uses.take(asked.use_id) == 6_000


_SESSION = text("SELECT pg_backend_pid()")
_COMMIT = Statement(
    text(
        "SELECT current_setting('synchronous_commit') AS waits,"
        " current_setting('statement_timeout') AS most,"
        " current_setting('enable_seqscan') AS scans"
    ).columns(waits=Text, most=Text, scans=Text)
)


@pytest.mark.postgres
def test_settings_of_one_transaction(postgres_url: str) -> None:
    """What a transaction is told about its limits and its commit holds for that one alone."""
    migrate.upgrade(postgres_url)
    with closing(Store(postgres_url)) as store:
        assert store.db.alone(_COMMIT, {}, may_be_lost=True) == ("off", "1500ms", "off")
        assert store.db.alone(_COMMIT, {}) == ("on", "1500ms", "off")
        with store.db.read() as connection:
            assert _COMMIT.run(connection, {}) == ("on", "0", "on")


@pytest.mark.postgres
def test_sessions_that_change(postgres_url: str) -> None:
    """Sessions that do not have a statement yet, or have it from another, are no hindrance.

    A pooler that gives each transaction another session looks like this.
    """
    migrate.upgrade(postgres_url)
    with closing(Store(postgres_url)) as store:
        store.payments.admit(credit(store), NOW)

        def call() -> int:
            store.uses.reserve(asked := order(msat=1_000), NOW)
            return store.uses.take(asked.use_id)

        assert [call(), call()] == [9_000, 8_000]  # the first one brings the lease
        with store.db.connection() as connection:
            connection.exec_driver_sql("DEALLOCATE ALL")
        assert call() == 7_000
        with store.db.connection() as connection:
            connection.connection.driver_connection.prepared.clear()
        assert call() == 6_000


@pytest.mark.postgres
def test_types_that_change(postgres_url: str) -> None:
    """A session that planned a statement before a column's type changed runs it all the same."""
    migrate.upgrade(postgres_url)
    with closing(Store(postgres_url)) as store:
        store.payments.admit(credit(store), NOW)
        for _ in range(2):  # the first one writes the lease
            store.uses.reserve(order(), NOW)
        with store.db.write() as connection:
            connection.execute(text("ALTER TABLE l402_credit ALTER ends_at TYPE timestamptz(3)"))
        for left in (4_000, 2_000):
            assert store.uses.reserve(order(), NOW).balance == left


@pytest.mark.postgres
def test_percent_sign(postgres_url: str) -> None:
    """A statement that has a percent sign in it can be sent alone."""
    migrate.upgrade(postgres_url)
    statement = Statement(text("SELECT '%(of)s' || :of AS said").columns(said=Text))
    with closing(Store(postgres_url)) as store:
        assert store.db.alone(statement, {"of": "100 %"}) == ("%(of)s100 %",)


@pytest.mark.postgres
@pytest.mark.usefixtures("impatient")
def test_long_statement(postgres_url: str) -> None:
    """A request's statement has its limit, a report's another."""
    migrate.upgrade(postgres_url)
    sleep = text("SELECT pg_sleep(0.5)")
    with closing(Store(postgres_url)) as store:
        assert "no answer" in str(failure(lambda: store.db.fetch(sleep)))
        with store.db.read(patience=DEADLINE) as connection:
            connection.execute(sleep)


# --- forks

FORK = """
import os, sys
from l402.store import Store
from support.sales import NOW, sale

store = Store(sys.argv[1])
assert store.payments.admit(sale(0), NOW).first
child = os.fork()
numbers = range(1, 40) if child else range(40, 80)
assert all(store.payments.admit(sale(number), NOW).first for number in numbers)
store.close()
if not child:
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""

FORK_IN_MID_WRITE = """
import os, sys, threading, time
from l402.store import Store
from support.sales import NOW, sale

store = Store(sys.argv[1])
store.ping()
writing = threading.Event()

def write():
    with store.db.write():
        writing.set()
        time.sleep(0.1)

thread = threading.Thread(target=write)
thread.start()
writing.wait()
child = os.fork()
assert store.payments.admit(sale(1 if child else 2), NOW).first
if not child:
    os._exit(0)
thread.join()
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""


def run_script(script: str, url: str) -> None:
    root = Path(__file__).parents[1]
    subprocess.run(
        [sys.executable, "-c", script, url],
        check=True,
        timeout=60,
        env={"PYTHONPATH": f"{root}:{root / 'tests'}"},
    )


def test_fork(store: Store) -> None:
    """Parent and child go on booking at the same time, on connections of their own."""
    run_script(FORK, store.db.url.render_as_string(hide_password=False))
    assert len(store.credentials.page(now=NOW, limit=100)) == 80
    if store.db.url.get_backend_name() == "sqlite":
        with store.db.read() as connection:
            assert pragma(connection, "integrity_check") == "ok"


def test_fork_in_mid_write(store: Store) -> None:
    """A fork while a thread writes leaves the child neither a lock nor half a transaction."""
    run_script(FORK_IN_MID_WRITE, store.db.url.render_as_string(hide_password=False))
    assert len(store.credentials.page(now=NOW)) == 2


def test_fork_in_memory() -> None:
    """A database in memory is copied by a fork, and goes on in both."""
    run_script(FORK, "sqlite:///:memory:")
