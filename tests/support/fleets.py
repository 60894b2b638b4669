"""Servers of several processes that share one record, on one host or on many."""

import http.client
import itertools
import os
import secrets
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import NamedTuple, Protocol

from test_gate import CHALLENGE

from l402.nodes.simulated import SimulatedNode
from l402.protocol import bolt11
from l402.protocol.keys import KeyRing

DEADLINE = 60  # seconds
THREADS = 16
_TESTS = Path(__file__).parents[1]
_APP = "support.fleet_app:create_app()"
_SERVER = [_APP, "-k", "gthread", "--preload", "--graceful-timeout", "10", "--no-control-socket"]
_MANY = "100000/minute"


class Answer(NamedTuple):
    status: int
    text: str
    headers: http.client.HTTPMessage
    asked_at: float  # by the monotonic clock
    took: float  # seconds


class Place(Protocol):
    """Where a server runs."""

    @property
    def address(self) -> str: ...
    def entered(self) -> AbstractContextManager[None]: ...


class Loopback:
    """This machine itself."""

    address = "127.0.0.1"

    def entered(self) -> AbstractContextManager[None]:
        """Change nothing."""
        return nullcontext()


class Server:
    """A gunicorn on a port of its own; who connects before it listens waits for it."""

    def __init__(
        self, place: Place, folder: Path, environment: dict[str, str], workers: int, threads: int
    ) -> None:
        with place.entered(), (folder / "gunicorn.log").open("ab") as log:
            self._listener = socket.create_server((place.address, 0), backlog=256)
            self.port: int = self._listener.getsockname()[1]
            self.host = place.address
            listener = self._listener.fileno()
            size = ["-w", str(workers), "--threads", str(threads), "-b", f"fd://{listener}"]
            self._process = subprocess.Popen(
                [sys.executable, "-m", "gunicorn", *_SERVER, *size],
                cwd=_TESTS,
                env=environment,
                pass_fds=[listener],
                stdout=log,
                stderr=log,
            )

    def stop(self) -> None:
        """Have the master end its workers in order, and wait for it."""
        self._process.terminate()
        self._process.wait(DEADLINE)

    def close(self) -> None:
        """Stop it, and give the port back."""
        self.stop()
        self._listener.close()


class Fleet:
    """One server in each place, which are asked in turn, each time over a fresh connection.

    Who is not told to ask from another address asks from the next one of `callers`.
    """

    def __init__(
        self,
        folder: Path,
        database: str,
        places: Sequence[Place] = (Loopback(),),
        workers: int = 2,
        threads: int = 8,
        callers: Iterable[str | None] = itertools.repeat(None),
        **settings: str,
    ) -> None:
        self._secret = secrets.token_hex(32)
        given = {
            "L402_DATABASE_URL": database,
            "L402_SECRET_KEY": f'"{self._secret}"',
            "L402_RATE_LIMIT": _MANY,
            "L402_CHALLENGE_LIMIT": _MANY,
            "L402_CHALLENGE_LIMIT_TOTAL": _MANY,
            "FLEET_FOLDER": str(folder),
        } | settings
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("FLASK_", "GUNICORN_"))}
        #: What tells a process of the app's how it is configured.
        self.environment = kept | {f"FLASK_{key}": value for key, value in given.items()}
        self.folder, self.workers = folder, workers * len(places)
        self.servers = [
            Server(place, folder, self.environment, workers, threads) for place in places
        ]
        self._turns, self._callers = itertools.cycle(self.servers), iter(callers)

    def ask(
        self,
        authorization: str | None = None,
        path: str = "/quote",
        *,
        caller: str | None = None,
        key: str | None = None,
    ) -> Answer:
        """Send one request over a connection of its own, under an Idempotency-Key if it has one."""
        headers = {"Connection": "close"}
        if authorization:
            headers["Authorization"] = authorization
        if key:
            headers["Idempotency-Key"] = f'"{key}"'
        server, caller = next(self._turns), caller or next(self._callers)
        connection = http.client.HTTPConnection(
            server.host, server.port, DEADLINE, (caller, 0) if caller else None
        )
        try:
            asked_at = time.monotonic()
            connection.request("GET", path, headers=headers)
            response = connection.getresponse()
            body = response.read().decode()
            took = time.monotonic() - asked_at
            return Answer(response.status, body, response.headers, asked_at, took)
        finally:
            connection.close()

    def ask_at_once(
        self,
        authorization: str | None,
        times: int = THREADS,
        path: str = "/quote",
        *,
        threads: int = THREADS,
        caller: str | None = None,
        key: str | None = None,
    ) -> list[Answer]:
        """Send so many requests from threads that begin together."""
        barrier = threading.Barrier(threads)

        def ask(thread: int) -> list[Answer]:
            barrier.wait(DEADLINE)
            share = range(thread, times, threads)
            return [self.ask(authorization, path, caller=caller, key=key) for _ in share]

        with ThreadPoolExecutor(threads) as pool:
            return [each for answers in pool.map(ask, range(threads)) for each in answers]

    def ask_all(self, authorization: str, *, but: int | None = None) -> list[Answer]:
        """Ask until all workers (other than `but`) served the token; return every answer."""
        answers: list[Answer] = []
        end = time.monotonic() + DEADLINE
        while time.monotonic() < end:
            answers += self.ask_at_once(authorization)
            served = {each.text for each in answers if each.status == 200} - {str(but)}
            if len(served) == self.workers:
                return answers
        told = Counter(each.text for each in answers)
        raise AssertionError(f"not all of {self.workers} workers served it: {told}")

    def buy(self, path: str = "/quote") -> tuple[str, bytes]:
        """Buy a token at the simulated node; return its Authorization and its payment hash."""
        return self.pay(self.ask(path=path))

    def pay(self, answer: Answer) -> tuple[str, bytes]:
        """Pay what a 402 asks; return the Authorization and the payment hash."""
        assert answer.status == 402, answer.text
        found = CHALLENGE.fullmatch(answer.headers["WWW-Authenticate"])
        assert found
        keys = KeyRing([self._secret.encode()])
        preimage = SimulatedNode(keys.derive("simulated node")).settle(found[2])
        return f"L402 {found[1]}:{preimage.hex()}", bolt11.decode(found[2]).payment_hash

    def stop(self) -> None:
        """Have all workers end in order."""
        for server in self.servers:
            server.stop()

    def close(self) -> None:
        """Stop all servers, and give their ports back."""
        for server in self.servers:
            server.close()


def statuses(answers: Sequence[Answer]) -> Counter[int]:
    """Count answers by their status."""
    return Counter(answer.status for answer in answers)
