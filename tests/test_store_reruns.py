"""Running again what a race or a broken connection has undone: how long, and in whose turn."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from l402.errors import StoreUnavailable
from l402.store import Store
from l402.store.faults import Interrupted

pytest_plugins = ["support.databases"]


def test_run_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """What lost a race runs again while a caller waits; any other failure is told at once."""
    outcomes: list[object] = [*[Interrupted("raced")] * 12, "done"]

    def operation() -> object:
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    assert store.db.run(operation) == "done"
    outcomes[:] = [StoreUnavailable("down"), "done"]
    with pytest.raises(StoreUnavailable, match="down"):
        store.db.run(operation)
    monkeypatch.setattr("l402.store.engine.PATIENCE", 0.1)
    outcomes[:] = [Interrupted("raced")] * 1000
    with pytest.raises(StoreUnavailable, match="raced"):
        store.db.run(operation)
    assert len(outcomes) < 998


def test_run_again_in_turns(store: Store) -> None:
    """Of a process's threads that lost a race one at a time tries again; they all get through."""
    met, trying, most = threading.Barrier(8), set[int](), []

    def operation() -> int:
        thread = threading.get_ident()
        if thread not in tried:
            tried.add(thread)
            met.wait(30)
            raise Interrupted("raced")
        trying.add(thread)
        most.append(len(trying))
        trying.discard(thread)
        return thread

    tried = set[int]()
    with ThreadPoolExecutor(8) as pool:
        done = [job.result(30) for job in [pool.submit(store.db.run, operation) for _ in range(8)]]
    assert set(done) == tried
    assert set(most) == {1}


def test_no_more_tries_when_late(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """What took its time to fail is not tried again: a caller waits for it."""
    monkeypatch.setattr("l402.store.engine.PATIENCE", -1.0)
    tries = []

    def operation() -> None:
        tries.append(1)
        raise Interrupted("gone")

    with pytest.raises(StoreUnavailable):
        store.db.run(operation)
    assert len(tries) == 1
