"""A fleet under load whose workers are killed, and the customers who write down what they got.

Each customer keeps a log of its own. It notes what it sends before it does, and each answer and
each payment is on the disk before it goes on.
"""

import http.client
import json
import os
import random
import re
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from l402.nodes.simulated import SimulatedNode
from l402.protocol import authorization, token
from l402.protocol.keys import KeyRing
from support.killed_app import FAILED, OUTSIDE, TOGETHER

WITHIN = 60  # seconds
_TESTS = Path(__file__).parents[1]
WORKERS = 2
_SERVER = ["support.killed_app:create_app()", "-k", "gthread", "-w", f"{WORKERS}", "--threads", "4"]
_SERVER += ["--preload", "--graceful-timeout", "10", "--no-control-socket"]
_CHALLENGE = re.compile(r'L402 macaroon="([^"]+)", invoice="([^"]+)"')
PAUSE = 0.02  # seconds between two looks at what is waited for
_MANY = "1000000/minute"


@dataclass(frozen=True)
class Answer:
    status: int
    headers: http.client.HTTPMessage
    use: str | None
    process: int | None


class Fleet:
    """Two workers under a master that replaces those that die."""

    def __init__(self, folder: Path, database: str, sabotage: str = "", **settings: object) -> None:
        self.folder = folder
        for name in ("armed", "struck", "logs"):
            (folder / name).mkdir()
        secret = secrets.token_hex(32)
        self.keys = KeyRing([secret.encode()])
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self._port: int = self._listener.getsockname()[1]
        given = {
            "KILLED_FOLDER": str(folder),
            "KILLED_SABOTAGE": sabotage,
            "FLASK_L402_DATABASE_URL": database,
            "FLASK_L402_SECRET_KEY": f'"{secret}"',
            "FLASK_L402_RATE_LIMIT": _MANY,
            "FLASK_L402_CHALLENGE_LIMIT": _MANY,
            "FLASK_L402_CHALLENGE_LIMIT_TOTAL": _MANY,
        } | {f"FLASK_{name}": str(value) for name, value in settings.items()}
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("FLASK_", "GUNICORN_"))}
        with (folder / "gunicorn.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "gunicorn", *_SERVER, "-b", f"fd://{self._listener.fileno()}"],
                cwd=_TESTS,
                env=kept | given,
                pass_fds=[self._listener.fileno()],
                stdout=log,
                stderr=log,
            )  # fmt: skip

    def ask(self, path: str, credential: str | None = None, key: str | None = None) -> Answer:
        """Send one request over a connection of its own.

        :raises OSError, http.client.HTTPException: it was not answered
        """
        headers = {"Connection": "close"}
        if credential:
            headers["Authorization"] = credential
        if key:
            headers["Idempotency-Key"] = f'"{key}"'
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=WITHIN)
        try:
            connection.request("GET", path, headers=headers)
            response = connection.getresponse()
            body = response.read()
        finally:
            connection.close()
        told = json.loads(body) if response.headers.get_content_subtype() == "json" else {}
        return Answer(response.status, response.headers, told.get("use"), told.get("process"))

    def workers(self) -> list[int]:
        """Give the processes that the master has, dead ones that it has not noticed included."""
        master = self._process.pid
        assert self._process.poll() is None, "the master ended"
        return [
            int(pid) for pid in Path(f"/proc/{master}/task/{master}/children").read_text().split()
        ]

    def killed(self) -> int:
        """Give the number of workers that were killed, as their master saw it."""
        return (self.folder / "gunicorn.log").read_text().count("was sent SIGKILL")

    def close(self) -> None:
        """Have the master end its workers in order, and wait for it."""
        self._process.terminate()
        try:
            self._process.wait(WITHIN)
        except subprocess.TimeoutExpired:
            self._process.kill()  # its workers notice, and end
            raise
        finally:
            self._listener.close()


class Log:
    """What one customer saw, a JSON object a line."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def note(self, **line: object) -> None:
        """Write a line; it outlives this process, as any write does."""
        os.write(self._file, json.dumps(line).encode() + b"\n")

    def keep(self, **line: object) -> None:
        """Write a line, and see it on the disk."""
        self.note(**line)
        os.fsync(self._file)

    def close(self) -> None:
        os.close(self._file)


@dataclass
class Household:
    """Customers that share an account, and keep one credential for all they buy."""

    credential: str | None = None


@dataclass
class Load:
    """The customers of a fleet, who come until `over`; `answers` counts what they got."""

    fleet: Fleet
    seed: int
    patience: float  # seconds, for an answer to a call that is sent again and again
    over: threading.Event = field(default_factory=threading.Event)
    answers: Counter[int] = field(default_factory=Counter)

    @contextmanager
    def running(self, *others: "Customer") -> Iterator[None]:
        """Have customers come for the length of a block: by pairs, and each pair has its habit.

        With them come `others`, each of whom has his own.
        """
        threads = list(others)
        for number, keyed in enumerate((0.0, 0.5, 1.0)):
            household = Household()
            threads += [
                Customer(self, f"{number}{letter}", household, keyed) for letter in ("a", "b")
            ]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self.over.set()
            for thread in threads:
                thread.join(2 * WITHIN)
        if faults := [thread.fault for thread in threads if thread.fault]:
            raise faults[0]
        assert not any(thread.is_alive() for thread in threads)


class Customer(threading.Thread):
    """One who buys, calls, and tries again; `keyed` is the share of calls that bring a key."""

    def __init__(self, load: Load, name: str, household: Household, keyed: float) -> None:
        super().__init__(name=f"customer-{name}", daemon=True)
        self.fault: Exception | None = None
        self._load, self._fleet, self._household, self._keyed = load, load.fleet, household, keyed
        self._chance = random.Random(f"{load.seed} {name}")
        self._log = Log(load.fleet.folder / "logs" / f"{name}.jsonl")
        self._node = SimulatedNode(load.fleet.keys.derive("simulated node"))

    def run(self) -> None:
        """Come again and again."""
        try:
            while not self._load.over.is_set():
                self._come()
        except Exception as error:
            self.fault = error
        finally:
            self._log.close()

    def _come(self) -> None:
        if self._chance.random() < 0.02:  # begins anew, with an account of its own
            self._household.credential = None
        path = self._chance.choices(["/call", "/fail", "/pass"], [7, 2, 1])[0]
        credential = self._household.credential
        if path != "/pass" and self._chance.random() < self._keyed:
            key = secrets.token_hex(8)
            answer = self._insist(path, credential, key)
            if answer and answer.status == 200 and self._chance.random() < 0.2:
                self._insist(path, credential, key)  # and is given the same answer
        else:
            answer = self.ask(path, credential)
        if answer and answer.status == 402:
            self._buy(answer)

    def _insist(self, path: str, credential: str | None, key: str) -> Answer | None:
        """Send a call under a key until it is answered for good."""
        deadline = time.monotonic() + self._load.patience
        while time.monotonic() < deadline:
            answer = self.ask(path, credential, key)
            if answer and answer.status not in (409, 503):
                return answer
            time.sleep(PAUSE)
        return None

    def _buy(self, refused: Answer) -> None:
        """Pay; now and then the token is put aside, to be shown when all is over."""
        found = _CHALLENGE.match(refused.headers["WWW-Authenticate"])
        assert found
        credential = f"L402 {found[1]}:{self._node.settle(found[2]).hex()}"
        aside = self._chance.random() < 0.1
        bought = token.verify(self._fleet.keys, authorization.parse(credential)[0])
        self._log.keep(
            paid=bought.payment_hash.hex(),
            token=bought.token_id.hex(),
            kind=bought.grant.kind,
            msat=bought.grant.msat,
            credential=credential,
        )
        if not aside:
            self._household.credential = credential

    def ask(self, path: str, credential: str | None, key: str | None = None) -> Answer | None:
        """Send a request and write down what came of it; None if it was not answered."""
        return ask(self._fleet, self._log, path, credential, key, self._load.answers)


def ask(
    fleet: Fleet,
    log: Log,
    path: str,
    credential: str | None,
    key: str | None = None,
    answers: Counter[int] | None = None,
) -> Answer | None:
    """Send a request, on the record of `log`; None if it was not answered."""
    own = secrets.token_hex(8)
    log.note(sent=own, path=path, key=key, credential=credential)
    begun = time.monotonic()
    try:
        answer = fleet.ask(path, credential, key)
    except (OSError, http.client.HTTPException):
        return None
    log.keep(
        got=own,
        status=answer.status,
        use=answer.use,
        balance=answer.headers["L402-Balance-Msat"],
        replayed="Idempotency-Replayed" in answer.headers,
        retry_after=answer.headers["Retry-After"],
        begun=begun,
        seconds=time.monotonic() - begun,
    )
    if answers is not None:
        answers[answer.status] += 1
    return answer


def kill(load: Load, kills: int, points: Sequence[str], done: Counter[str]) -> None:
    """Kill workers, at every point in turn; count in `done` how many at each."""
    chance = random.Random(load.seed)
    while done.total() < kills:
        for point in chance.sample(points, len(points))[: kills - done.total()]:
            if point in (OUTSIDE, TOGETHER):
                killed = _kill_outside(load, chance, together=point == TOGETHER)
            else:
                killed = _kill_inside(load.fleet, point)
            await_(lambda dead=killed: dead.isdisjoint(load.fleet.workers()), "a worker's end")
            done[point] += len(killed)


def _kill_outside(load: Load, chance: random.Random, together: bool) -> set[int]:
    """Kill a worker, or all, some requests and a moment later, whatever they are at."""
    end = load.answers.total() + chance.randrange(12)
    moment = chance.uniform(0.0005, 0.02)
    await_(lambda: load.answers.total() >= end and load.fleet.workers(), "answers", moment)
    workers = load.fleet.workers()
    killed = set(workers if together else [chance.choice(workers)])
    for worker in killed:
        os.kill(worker, signal.SIGKILL)
    return killed


def _kill_inside(fleet: Fleet, point: str) -> set[int]:
    """Have the worker that comes to this point first kill itself."""
    # There is something to recover only if a worker died with a use in its hands.
    points = ["view", point] if point.startswith("recover") else [point]
    for each in reversed(points):
        (fleet.folder / "armed" / each).touch()
    return {_struck(fleet.folder / "struck", each) for each in points}


def _struck(folder: Path, point: str) -> int:
    """Wait until a worker killed itself there; give its process."""
    await_(lambda: any(folder.glob(f"{point}.*")), point, 0.002)
    (struck,) = folder.glob(f"{point}.*")
    struck.unlink()
    return int(struck.suffix[1:])


def await_(
    condition: Callable[[], object], what: str, pause: float = PAUSE, within: float = WITHIN
) -> None:
    """Return once `condition` holds.

    :raises TimeoutError: it did not within so many seconds
    """
    deadline = time.monotonic() + within
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {within:g} s for {what}")
        time.sleep(pause)


def present_all(fleet: Fleet, credentials: dict[str, str], within: float) -> None:
    """Show each paid token once more, at the view that it was bought for.

    `credentials` gives the kind of right that each buys.

    :raises TimeoutError: one was not accepted within so many seconds
    """
    log = Log(fleet.folder / "logs" / "present.jsonl")
    for credential, kind in credentials.items():
        path = "/pass" if kind == "pass" else "/fail"

        def shown(path: str = path, credential: str = credential) -> bool:
            answer = ask(fleet, log, path, credential)
            return answer is not None and answer.status in (200, 402, FAILED)

        await_(shown, "a paid token's welcome", within=within)
    log.close()
