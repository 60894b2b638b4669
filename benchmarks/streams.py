"""Words per second of a stream that is charged word by word, against the same stream free."""

import os
import statistics
import time
import urllib.request
from collections.abc import Iterator

from benchmarks.served import gunicorn
from benchmarks.shop import LND, create_app, paid_token
from l402.protocol.token import CREDIT

_ROUNDS = 7
_WORDS = int(os.environ.get("BENCH_WORDS", "10000"))


def rows() -> Iterator[tuple[str, float, str, str]]:
    """Yield measurements: name, value, unit, target; ratios are the medians of the rounds'."""
    authorization = paid_token(create_app(LND), CREDIT, 10**12)
    free, metered = [], []
    with gunicorn(f"create_app({LND!r})", 4) as address:
        _read(f"{address}/words", authorization)  # books the payment
        for _ in range(_ROUNDS):  # in turn, so that the machine's moods meet both
            free.append(_read(f"{address}/free-words"))
            metered.append(_read(f"{address}/words", authorization))
    ratio = statistics.median(m / f for m, f in zip(metered, free, strict=True))
    yield f"gunicorn gthread 1x4, stream of {_WORDS} words, free", statistics.median(free), "/s", ""
    yield "  the same, charged word by word", statistics.median(metered), "/s", ""
    yield "  / free", ratio, "", ">= 0.5"


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
