"""The process's memory and the store: freshness, grace, late counts, forks."""

import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime

import pytest
from conftest import Clock

from l402.errors import StoreError, StoreUnavailable
from l402.store import Sale, Store
from l402.sync import Sync

TOKEN = b"t" * 32
MOMENT = 1_800_000_000.0


@pytest.fixture
def store(database: str) -> Store:
    return Store(database)


@pytest.fixture
def make_sync(store: Store, clock: Clock) -> Callable[..., Sync]:
    def make(evict: Callable[..., None] = lambda _: None) -> Sync:
        return Sync(store, evict, lambda _: None, grace=60, monotonic=clock)

    return make


def sale() -> Sale:
    return Sale(b"h" * 32, TOKEN, "shop", "pass", 1000, "regtest", "quote", "GET", 1, 2, 3, 3)


def test_an_idle_process_reads_before_it_answers(
    make_sync: Callable[..., Sync], store: Store, clock: Clock
) -> None:
    """After a second without news the next request learns what was revoked meanwhile."""
    seen: list[str] = []
    sync = make_sync(lambda rules: seen.extend(rule.subject for rule in rules))
    sync.require_fresh()
    sync._stop.set()  # an idle process: its thread does nothing
    store.revocations.revoke("token", TOKEN.hex())
    sync.require_fresh()
    assert seen == []
    clock.now += 1.1
    sync.require_fresh()
    assert seen == [TOKEN.hex()]


def test_prices_are_read_along(store: Store, clock: Clock) -> None:
    """Every reading hands over all prices that are set; `refresh` needs no store to return."""
    seen: list[list[int]] = []
    sync = Sync(
        store, lambda _: None, lambda found: seen.append([each.msat for each in found]), grace=60,
        monotonic=clock,
    )  # fmt: skip
    sync.refresh()
    sync._stop.set()
    store.prices.set("shop", "quote", "GET", 7)
    assert sync.refresh() <= 1.0
    clock.now += 1.1
    assert sync.refresh() > 1.0
    assert seen == [[], [7]]


def test_refresh_goes_on_without_the_store(
    make_sync: Callable[..., Sync], store: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that is down costs one attempt, and no error; what rests on it is told."""
    sync, tries = make_sync(), []
    sync._stop.set()

    def down() -> None:
        tries.append(1)
        raise StoreUnavailable("down")

    monkeypatch.setattr(store.prices, "all", down)
    for _ in range(3):
        sync.refresh()
        clock.now += 2
    assert len(tries) == 1
    with pytest.raises(StoreError):
        sync.require_fresh()


def test_the_thread_learns_of_revocations_by_itself(
    make_sync: Callable[..., Sync], store: Store
) -> None:
    """A busy process is told without any request having to read."""
    told = threading.Event()
    sync = make_sync(lambda _: told.set())
    sync.require_fresh()
    store.revocations.revoke("token", TOKEN.hex())
    sync._active = True
    assert told.wait(30)
    sync.close()


def test_a_store_that_is_down_is_forgiven_with_grace_only(
    make_sync: Callable[..., Sync],
    store: Store,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Cached passes go on for the grace; everything else fails at once."""
    sync = make_sync()
    sync.require_fresh()

    def down(_: object) -> None:
        raise StoreUnavailable("down")

    monkeypatch.setattr(store.revocations, "changes", down)
    clock.now += 2
    with pytest.raises(StoreError):
        sync.require_fresh()
    sync.require_fresh(grace=True)
    clock.now += 57
    sync.require_fresh(grace=True)
    clock.now += 2
    with pytest.raises(StoreError):
        sync.require_fresh(grace=True)
    monkeypatch.undo()
    with sync._lock:
        sync._read()
    sync.require_fresh()
    sync.close()


def test_counts_are_written_late_and_at_the_end(
    make_sync: Callable[..., Sync], store: Store
) -> None:
    """Uses and challenges stand in the tables once the process closes."""
    store.payments.admit(sale(), datetime.fromtimestamp(1, UTC))
    sync = make_sync()
    for _ in range(5):
        sync.count_use(TOKEN, MOMENT)
        sync.count_challenge("shop", "quote", MOMENT)
    sync.close()
    state = store.credentials.state(TOKEN)
    assert state
    assert state.uses == 5
    assert state.last_used_at == datetime.fromtimestamp(MOMENT, UTC)
    day = datetime.fromtimestamp(MOMENT, UTC)
    assert [row.challenges for row in store.days.stats(day, day)] in ([5], [])


def test_counts_survive_a_store_that_is_down(
    make_sync: Callable[..., Sync], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What could not be written is written the next time, exactly once."""
    store.payments.admit(sale(), datetime.fromtimestamp(1, UTC))
    sync = make_sync()
    sync.count_use(TOKEN, MOMENT)

    def down(_: object) -> None:
        raise StoreUnavailable("down")

    monkeypatch.setattr(store.counts, "count_uses", down)
    with pytest.raises(StoreUnavailable):
        sync.flush()
    monkeypatch.undo()
    sync.count_use(TOKEN, MOMENT)
    sync.flush()
    sync.flush()
    state = store.credentials.state(TOKEN)
    assert state
    assert state.uses == 2


def test_a_forked_child_starts_afresh(make_sync: Callable[..., Sync]) -> None:
    """The parent's thread and counts are the parent's."""
    sync = make_sync()
    sync.count_use(TOKEN, MOMENT)
    sync._begin()
    assert not sync._uses
    assert sync._thread is None


def test_what_waits_is_told_once(
    database: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """While nothing can be written, one line says so; another, that it can be again."""
    monkeypatch.setattr("l402.store.engine.PATIENCE", 0.2)
    store = Store(database)
    sync = Sync(store, lambda _: None, lambda _: None, grace=60)
    with closing(sqlite3.connect(str(store.db.url.database))) as other:
        other.execute("BEGIN IMMEDIATE")
        for number in range(3):
            sync.count_challenge("shop", f"view {number}", MOMENT)
            sync._tick()
    assert [line.partition(":")[0] for line in caplog.messages] == ["counts wait for the store"]
    sync._tick()
    sync._tick()
    assert caplog.messages[1:] == ["counts wait no more"]
