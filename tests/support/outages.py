"""Callers of a shop during an outage of its node: who paid before, and a crowd that has not."""

import http.client
import math
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from queue import SimpleQueue
from typing import NamedTuple

_DEADLINE = 60  # seconds


class Answer(NamedTuple):
    """What one request was answered, and how many seconds later."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes
    seconds: float


class Caller:
    """Sends requests over one kept-alive connection; each must be answered within a minute."""

    def __init__(self, url: str, credential: str | None = None) -> None:
        host = url.removeprefix("http://")
        self._connection = http.client.HTTPConnection(host, timeout=_DEADLINE)
        self._headers = {"Authorization": credential} if credential else {}

    def ask(self, path: str = "/quote") -> Answer:
        """Send one request."""
        began = time.perf_counter()
        self._connection.request("GET", path, headers=self._headers)
        response = self._connection.getresponse()
        body = response.read()
        return Answer(response.status, response.headers, body, time.perf_counter() - began)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


@contextmanager
def calling(url: str, credential: str | None = None) -> Iterator[Caller]:
    """Run a `Caller` for the length of a block."""
    caller = Caller(url, credential)
    try:
        yield caller
    finally:
        caller.close()


class Crowd:
    """Callers who have not paid: each request is sent as soon as it is asked for."""

    def __init__(self, url: str, size: int = 8) -> None:
        self._url = url
        self._wanted: SimpleQueue[bool] = SimpleQueue()
        self._pool = ThreadPoolExecutor(size)
        self._callers = [self._pool.submit(self._call) for _ in range(size)]

    def send(self, number: int = 1) -> None:
        """Have so many requests sent."""
        for _ in range(number):
            self._wanted.put(True)

    def answers(self) -> list[Answer]:
        """Wait for all requests, and return their answers."""
        for _ in self._callers:
            self._wanted.put(False)
        found = [answer for caller in self._callers for answer in caller.result(_DEADLINE)]
        self._pool.shutdown()
        return found

    def _call(self) -> list[Answer]:
        with calling(self._url) as caller:
            return [caller.ask() for _ in iter(self._wanted.get, False)]


def holders_p99(
    url: str, credential: str, number: int, meanwhile: Callable[[int], None] = lambda _: None
) -> float:
    """Return the 99th percentile, in seconds, of `number` paid requests over two connections.

    `meanwhile` is called with the number of each request on the first one.
    """

    def hold(each: Callable[[int], None]) -> list[float]:
        seconds = []
        with calling(url, credential) as holder:
            for index in range(number // 2):
                each(index)
                answer = holder.ask()
                assert answer.status == 200, answer
                seconds.append(answer.seconds)
        return seconds

    with ThreadPoolExecutor(2) as pool:
        both = pool.map(hold, (meanwhile, lambda _: None))
        seconds = sorted(second for some in both for second in some)
    return seconds[math.ceil(0.99 * len(seconds)) - 1]


@contextmanager
def besieged(url: str) -> Iterator[list[Answer]]:
    """Have unpaid requests sent without a pause, four at a time, for the length of a block.

    Their answers are put into the list as they come; after it all are there.
    """
    found: list[Answer] = []
    ending = threading.Event()

    def call() -> None:
        with calling(url) as caller:
            while not ending.is_set():
                found.append(caller.ask())

    with ThreadPoolExecutor(4) as pool:
        callers = [pool.submit(call) for _ in range(4)]
        try:
            yield found
        finally:
            ending.set()
        for each in callers:
            each.result(_DEADLINE)
