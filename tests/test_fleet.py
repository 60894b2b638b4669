"""Several processes that were forked from one, as gunicorn runs them, with one record."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import text
from support.fleets import THREADS, Fleet, statuses
from support.redis_servers import Redis, running

from l402.store import Store

pytest_plugins = ["support.databases"]

_REVOKED_WITHIN = 5  # seconds, generously: one is promised


@pytest.fixture
def make_fleet(tmp_path: Path, database_url: str, store: Store) -> Iterator[Callable[..., Fleet]]:
    fleets: list[Fleet] = []

    def make(**settings: str) -> Fleet:
        fleets.append(Fleet(tmp_path, database_url, **settings))
        return fleets[-1]

    yield make
    for fleet in fleets:
        fleet.close()


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Redis]:
    with running(Redis(tmp_path)) as server:
        yield server


def rows(store: Store, table: str) -> int:
    return int(store.db.fetch(text(f"SELECT count(*) FROM {table}"))[0][0])


def uses(store: Store) -> int:
    return int(store.db.fetch(text("SELECT sum(uses) FROM l402_credential"))[0][0])


def test_one_token_shown_everywhere_at_once_is_one_payment(
    make_fleet: Callable[..., Fleet], store: Store
) -> None:
    """Threads of several processes that first see a token together book it once, and serve it."""
    fleet = make_fleet()
    authorization, payment_hash = fleet.buy()
    assert statuses(fleet.ask_at_once(authorization)) == {200: THREADS}
    found = store.db.fetch(text("SELECT payment_hash, msat FROM l402_payment"))
    assert [tuple(row) for row in found] == [(payment_hash.hex(), 10_000)]
    assert rows(store, "l402_credential") == 1


def test_a_revocation_reaches_every_worker(make_fleet: Callable[..., Fleet], store: Store) -> None:
    """What another process revoked is soon refused by all workers, and stays refused."""
    fleet = make_fleet()
    authorization, payment_hash = fleet.buy()
    fleet.ask_all(authorization)
    store.revocations.revoke("payment", payment_hash.hex())
    revoked_at = time.monotonic()
    refused = 0
    while refused < 40:
        answer = fleet.ask(authorization)
        assert answer.status in (200, 402)
        assert answer.status == 402 or answer.asked_at < revoked_at + _REVOKED_WITHIN
        refused = refused + 1 if answer.status == 402 else 0
    assert statuses(fleet.ask_at_once(authorization, 40 // THREADS * THREADS)) == {402: 32}


def test_uses_are_written_at_the_end(make_fleet: Callable[..., Fleet], store: Store) -> None:
    """Every answered request of every worker is in the record once the server ended in order."""
    fleet = make_fleet()
    authorization, _ = fleet.buy()
    answers = fleet.ask_all(authorization)
    answers += fleet.ask_at_once(authorization)
    assert set(statuses(answers)) == {200}
    fleet.stop()
    assert uses(store) == len(answers)


def test_a_killed_worker_is_replaced(make_fleet: Callable[..., Fleet], store: Store) -> None:
    """After kill -9 of a worker the token opens at the other, and at its replacement."""
    fleet = make_fleet()
    authorization, _ = fleet.buy()
    killed = int(fleet.ask_all(authorization)[0].text)
    os.kill(killed, signal.SIGKILL)
    answers = fleet.ask_all(authorization, but=killed)
    assert statuses(answers) == {200: len(answers)}
    assert str(killed) not in {answer.text for answer in answers}
    assert rows(store, "l402_payment") == 1


@pytest.mark.redis
def test_limits_are_exact_over_workers(make_fleet: Callable[..., Fleet], redis: Redis) -> None:
    """With Redis a token's requests are counted over all workers: ten are let in, no more."""
    patient = '{"socket_timeout": 30, "socket_connect_timeout": 30}'
    fleet = make_fleet(
        L402_RATE_LIMIT="10/hour",
        L402_RATELIMIT_STORAGE_URI=redis.uri,
        RATELIMIT_STORAGE_OPTIONS=patient,
    )
    authorization, _ = fleet.buy()
    answers = fleet.ask_at_once(authorization, 48)
    assert statuses(answers) == {200: 10, 429: 38}
    waits = [int(each.headers["Retry-After"]) for each in answers if each.status == 429]
    assert all(1 <= wait <= 3600 for wait in waits)


@pytest.mark.redis
def test_paid_requests_outlive_redis(make_fleet: Callable[..., Fleet], redis: Redis) -> None:
    """When Redis dies, who paid is served all the same, and sales go on."""
    fleet = make_fleet(L402_RATELIMIT_STORAGE_URI=redis.uri)
    authorization, _ = fleet.buy()
    fleet.ask_all(authorization)
    redis.stop()
    answers = fleet.ask_all(authorization) + fleet.ask_at_once(authorization, 48)
    assert statuses(answers) == {200: len(answers)}
    bought, _ = fleet.buy()
    assert fleet.ask(bought).status == 200
