"""Several processes that were forked from one, as gunicorn runs them, with one record."""

import http.client
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest
from sqlalchemy import text
from test_gate import CHALLENGE
from test_limits import Redis

from l402.nodes.simulated import SimulatedNode
from l402.protocol import bolt11
from l402.protocol.keys import KeyRing
from l402.store import Store

pytest_plugins = ["support.databases"]

_TESTS = Path(__file__).parent
_SERVER = ["support.fleet_app:create_app()", "-k", "gthread", "-w", "2", "--threads", "8"]
_SERVER += ["--preload", "--graceful-timeout", "10", "--no-control-socket"]
_DEADLINE = 60  # seconds
_REVOKED_WITHIN = 5  # seconds, generously: one is promised
_THREADS = 16


class Answer(NamedTuple):
    status: int
    text: str
    headers: http.client.HTTPMessage
    asked_at: float


class Fleet:
    """A server of two workers on a port of its own; every request takes a fresh connection."""

    def __init__(self, folder: Path, database: str, **settings: str) -> None:
        self._secret = secrets.token_hex(32)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self._port: int = self._listener.getsockname()[1]
        given = {
            "L402_DATABASE_URL": database,
            "L402_SECRET_KEY": f'"{self._secret}"',
            "L402_RATE_LIMIT": "100000/minute",
            "L402_CHALLENGE_LIMIT": "100000/minute",
            "L402_CHALLENGE_LIMIT_TOTAL": "100000/minute",
        } | settings
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("FLASK_", "GUNICORN_"))}
        listener = self._listener.fileno()
        with (folder / "gunicorn.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "gunicorn", *_SERVER, "-b", f"fd://{listener}"],
                cwd=_TESTS,
                env=kept | {f"FLASK_{key}": value for key, value in given.items()},
                pass_fds=[listener],
                stdout=log,
                stderr=log,
            )

    def ask(self, authorization: str | None = None, path: str = "/quote") -> Answer:
        """Send one request over a connection of its own."""
        headers = {"Authorization": authorization} if authorization else {}
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=_DEADLINE)
        try:
            asked_at = time.monotonic()
            connection.request("GET", path, headers=headers | {"Connection": "close"})
            response = connection.getresponse()
            body = response.read().decode()
            return Answer(response.status, body, response.headers, asked_at)
        finally:
            connection.close()

    def ask_at_once(self, authorization: str, times: int = _THREADS) -> list[Answer]:
        """Send requests from 16 threads that begin together."""
        barrier = threading.Barrier(_THREADS)

        def ask(_: int) -> list[Answer]:
            barrier.wait(_DEADLINE)
            return [self.ask(authorization) for _ in range(times // _THREADS)]

        with ThreadPoolExecutor(_THREADS) as pool:
            return [each for answers in pool.map(ask, range(_THREADS)) for each in answers]

    def ask_all(self, authorization: str, *, but: int | None = None) -> list[Answer]:
        """Ask until two workers (other than `but`) served the token; return every answer."""
        answers: list[Answer] = []
        end = time.monotonic() + _DEADLINE
        while time.monotonic() < end:
            answers += self.ask_at_once(authorization)
            if len({each.text for each in answers if each.status == 200} - {str(but)}) == 2:
                return answers
        raise AssertionError(f"one worker took it all: {Counter(each.text for each in answers)}")

    def buy(self) -> tuple[str, bytes]:
        """Buy a token at the simulated node; return its Authorization and its payment hash."""
        return self.pay(self.ask())

    def pay(self, answer: Answer) -> tuple[str, bytes]:
        """Pay what a 402 asks; return the Authorization and the payment hash."""
        assert answer.status == 402, answer.text
        found = CHALLENGE.fullmatch(answer.headers["WWW-Authenticate"])
        assert found
        keys = KeyRing([self._secret.encode()])
        preimage = SimulatedNode(keys.derive("simulated node")).settle(found[2])
        return f"L402 {found[1]}:{preimage.hex()}", bolt11.decode(found[2]).payment_hash

    def stop(self) -> None:
        """Have the master end its workers in order, and wait for it."""
        self._process.terminate()
        self._process.wait(_DEADLINE)

    def close(self) -> None:
        self.stop()
        self._listener.close()


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
    server = Redis(tmp_path)
    server.start()
    yield server
    server.stop()


def statuses(answers: list[Answer]) -> Counter[int]:
    return Counter(answer.status for answer in answers)


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
    assert statuses(fleet.ask_at_once(authorization)) == {200: _THREADS}
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
    assert statuses(fleet.ask_at_once(authorization, 40 // _THREADS * _THREADS)) == {402: 32}


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
