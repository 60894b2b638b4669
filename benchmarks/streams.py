"""Words per second of a stream that is charged word by word, against the same stream free."""

import os
import time
import urllib.request
from collections.abc import Iterator
from statistics import median

from benchmarks.backends import Backend
from benchmarks.results import Effort, Row, ratio
from benchmarks.servers import Server
from benchmarks.shop import create_app, paid_token
from l402.protocol.token import CREDIT

_WORDS = int(os.environ.get("BENCH_WORDS", "10000"))


def rows(server: Server, backend: Backend, effort: Effort) -> Iterator[Row]:
    """Yield rates, and the median of the rounds' ratios."""
    setting = f"{server.name}, {backend.name}, stream of {_WORDS} words"
    authorization = paid_token(create_app(backend), CREDIT, 10**12)
    free, metered = [], []
    with server.serve(backend) as address:
        _read(f"{address}/words", authorization)  # books the payment
        for _ in range(effort.rounds):  # in turn, so that the machine's moods meet both
            free.append(_read(f"{address}/free-words"))
            metered.append(_read(f"{address}/words", authorization))
    yield Row(setting, "free", median(free), "/s")
    yield Row(setting, "charged word by word", median(metered), "/s")
    yield Row(setting, "charged word by word / free", ratio(metered, free), "", ">= 0.5")


def _read(url: str, authorization: str | None = None) -> float:
    headers = {"Authorization": authorization} if authorization else {}
    asked = urllib.request.Request(f"{url}?words={_WORDS}", headers=headers)
    begun = time.perf_counter()
    with urllib.request.urlopen(asked, timeout=60) as answer:
        body = answer.read()
    seconds = time.perf_counter() - begun
    if body.count(b"data: ") != _WORDS or b"payment-required" in body:
        raise SystemExit(f"{url} did not send {_WORDS} words")
    return _WORDS / seconds
