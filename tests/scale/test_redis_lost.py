"""Redis is killed or stopped under paid load: who has paid is served, and sales go on."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from support.fleets import DEADLINE, Answer, Fleet
from support.redis_servers import Redis, running

from l402.store import migrate

pytest_plugins = ["support.databases"]
pytestmark = pytest.mark.scale

_CUSTOMERS = 4
_ENOUGH = 200  # answers
_SLOWEST = 1.0  # seconds that 99 of 100 holders are answered within; each waits for 0.1 at most
_WORKERS, _SHARE = 2, 4
_CHALLENGES = 40  # an hour, to one address, while Redis counts
_OWN = 10  # requests an hour of one token at /limited
_BACK = 10  # seconds, generously: one or so is promised


class Customers:
    """Holders of credit and of a pass, who come all the time; `answers` is what they got."""

    def __init__(self, fleet: Fleet, paths: dict[str, str]) -> None:
        self.answers: list[tuple[float, Answer]] = []  # with the seconds that it took
        self._fleet, self._paths = fleet, list(paths.items())
        self._over = threading.Event()

    @contextmanager
    def coming(self) -> Iterator[None]:
        """Have them come for the length of a block."""
        threads = [threading.Thread(target=self._come) for _ in range(_CUSTOMERS)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._over.set()
            for thread in threads:
                thread.join(DEADLINE)

    def await_more(self, number: int = _ENOUGH) -> list[tuple[float, Answer]]:
        """Wait until they were answered so often again; give those answers."""
        before, end = len(self.answers), time.monotonic() + DEADLINE
        while len(self.answers) < before + number:
            assert time.monotonic() < end, "too few answers"
            time.sleep(0.01)
        return self.answers[before:]

    def _come(self) -> None:
        while not self._over.is_set():
            for path, authorization in self._paths:
                begun = time.monotonic()
                answer = self._fleet.ask(authorization, path)
                self.answers.append((time.monotonic() - begun, answer))


def granted(fleet: Fleet, status: int, most: int, **request: str) -> set[int]:
    """Ask until so many requests got a status, in all workers; give what the next ones get."""
    end, got = time.monotonic() + DEADLINE, 0
    while got < most:
        assert time.monotonic() < end, f"only {got} of {most} got {status}"
        got += fleet.ask(**request).status == status
    return {fleet.ask(**request).status for _ in range(most)}


@pytest.mark.parametrize("killed", [True, False])
def test_redis_is_lost_under_load(tmp_path: Path, postgres_url: str, killed: bool) -> None:
    """Meanwhile each process counts for itself, challenges more strictly; then all together."""
    migrate.upgrade(postgres_url)
    settings = {
        "L402_CHALLENGE_LIMIT": f"{_CHALLENGES}/hour",
        "L402_CHALLENGE_LIMIT_TOTAL": "100000/hour",
    }
    with running(Redis(tmp_path / "redis")) as redis, closing(
        Fleet(tmp_path, postgres_url, workers=_WORKERS,
              L402_RATELIMIT_STORAGE_URI=redis.uri, **settings)
    ) as fleet:  # fmt: skip
        customers = Customers(fleet, {path: fleet.buy(path)[0] for path in ("/quote", "/draw")})
        limited = fleet.buy("/limited")[0]
        with customers.coming():
            customers.await_more()
            before = len(customers.answers)
            redis.stop() if killed else redis.signal(signal.SIGSTOP)
            # Each process grants a quarter of the challenges, and all of a holder's requests.
            beyond = granted(fleet, 402, _CHALLENGES // _SHARE * _WORKERS)
            beyond |= granted(fleet, 200, _OWN * _WORKERS, authorization=limited, path="/limited")
            customers.await_more()
            lost = sorted(seconds for seconds, _ in customers.answers[before:])
            redis.start() if killed else redis.signal(signal.SIGCONT)
            back, counted = time.monotonic(), _counted(redis)
            while _counted(redis) <= counted:
                assert time.monotonic() < back + _BACK
            back = time.monotonic() - back
    assert {answer.status for _, answer in customers.answers} == {200}
    assert beyond == {429}
    slowest = lost[len(lost) * 99 // 100]
    print(f"{len(lost)} answers, 99 of 100 within {slowest:.3f} s, back after {back:.2f} s")
    assert slowest < _SLOWEST


def _counted(redis: Redis) -> int:
    """Give how many requests of tokens Redis counted."""
    return sum(int(redis.call("GET", key)) for key in redis.call("KEYS", "*token/*"))
