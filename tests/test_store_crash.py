"""A Postgres server that is killed whole, and what its record has when it is back.

A reservation does not wait for the disk: it may be lost then, and whatever is answered on the
strength of it is committed later, and waits. This is no power cut: what the server wrote, the
operating system still has.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
from flask import Flask
from support.books import buy
from support.postgres import PostgresServer
from support.redemptions import PRICE, totals
from support.sales import NOW, order

from l402 import paywall
from l402.errors import StoreError, StoreUnavailable
from l402.store import Store, migrate
from l402.store.audit import Audit, Difference
from l402.store.orders import Reserved

pytestmark = pytest.mark.postgres


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """A server that really waits for the disk, where it says so."""
    with PostgresServer.running(durable=True) as server:
        yield server


@pytest.fixture
def url(server: PostgresServer) -> Iterator[str]:
    url = server.fresh()
    migrate.upgrade(url)
    yield url
    server.drop(url)


def stop_the_writer(server: PostgresServer) -> None:
    """Have nothing reach the disk but what a commit waits for."""
    (writer,) = [pid for name, pid in server.processes().items() if "walwriter" in name]
    os.kill(writer, signal.SIGSTOP)


def crash(server: PostgresServer) -> None:
    server.crash()
    server.start()


def differences(store: Store) -> list[Difference]:
    found: list[Difference] = []
    Audit(store.db).run(found.append, lambda step: None)
    return found


def test_a_lost_reservation(server: PostgresServer, url: str) -> None:
    """What was taken stands, also what it rested on; a use that is lost is not to be taken."""
    with closing(Store(url)) as store:
        buy(store, 1)
        store.uses.reserve(order(msat=1), NOW)  # waits for the disk: it brings the lease
        stop_the_writer(server)
        store.uses.reserve(taken := order(), NOW)
        assert store.uses.take(taken.use_id) == 7_999
        store.uses.reserve(lost := order(), NOW)
        crash(server)
        store.db.close()
        with pytest.raises(StoreUnavailable, match="not in the record"):
            store.uses.take(lost.use_id)
        assert store.uses.release(lost.use_id) is None
        (credit,) = store.credits.of(lost.token_id)
        assert (credit.balance, credit.reserved) == (7_999, 1)
        assert [each.kind for each in store.ledger.entries()] == ["purchase", "use"]
        assert differences(store) == []


def test_a_charge_that_is_told(server: PostgresServer, url: str) -> None:
    """Once a metered call is charged a part, neither that nor its reservation is lost."""
    with closing(Store(url)) as store:
        buy(store, 1)
        store.uses.reserve(order(msat=1), NOW)
        stop_the_writer(server)
        store.uses.reserve(metered := order(), NOW)
        store.uses.charge(metered.use_id, 500)
        crash(server)
        store.db.close()
        assert store.uses.release(metered.use_id) == 9_499
        assert differences(store) == []


def test_a_call_is_not_served(
    server: PostgresServer, url: str, make_app: Callable[..., Flask]
) -> None:
    """A caller whose reservation is lost while the view runs is told so, and not charged."""
    app = make_app(L402_DATABASE_URL=url)
    crashes = [lambda: None]

    @app.get("/call")
    @paywall(sats=2, uses=5)
    def call() -> str:
        crashes.pop()()
        return "served"

    client = app.test_client()
    assert client.get("/call").text == "served"
    stop_the_writer(server)
    crashes.append(lambda: crash(server))
    answer = client.get("/call")
    assert (answer.status_code, answer.json["reason"]) == (503, "store_unavailable")
    crashes.append(lambda: None)
    answer = client.get("/call")
    assert answer.text == "served"
    assert answer.headers["L402-Balance-Msat"] == "6000"


def test_crashes_under_load(server: PostgresServer, url: str) -> None:
    """Crash after crash, each use that was told as taken is in the ledger, and the books agree."""
    with closing(Store(url)) as store:
        buy(store, 1, msat=10**9)
        told: set[str] = set()
        for _ in range(3):
            crash_under_load(server, store, told)
            store.uses.renew()
        used = {each.operation for each in store.ledger.entries(kinds=["use"])}
        assert used >= told
        assert totals(store) == (10**9 - len(used) * PRICE,) * 2
        assert differences(store) == []


def crash_under_load(server: PostgresServer, store: Store, told: set[str]) -> None:
    enough = len(told) + 200
    reached, over = threading.Event(), threading.Event()

    def redeem() -> None:
        while not over.is_set():
            asked = order(msat=PRICE)
            try:
                if isinstance(store.uses.reserve(asked, NOW), Reserved):
                    store.uses.take(asked.use_id)
                    told.add(f"use:{asked.use_id.hex()}")
            except StoreError:
                continue
            if len(told) >= enough:
                reached.set()

    threads = [threading.Thread(target=redeem) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        assert reached.wait(60)
        server.crash()
    finally:
        over.set()
        for thread in threads:
            thread.join(60)
        server.start()
