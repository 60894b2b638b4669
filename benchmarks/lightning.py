"""Unpaid challenges on a real lnd, against a bare loop that has the same lnd issue invoices.

Both come from eight connections, in turn; the app is one gunicorn worker of eight threads.
"""

import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import requests

from benchmarks.served import ask, gunicorn

_ROUNDS, _SECONDS, _CALLERS = 5, 4, 8
_CONCURRENCY = 8  # L402_NODE_CONCURRENCY


class _Load(NamedTuple):
    rate: float  # answers per second
    slowest: float  # 99th percentile, ms


def rows() -> Iterator[tuple[str, float, str, str]]:
    """Yield measurements: name, value, unit, target; ratios are the medians of the rounds'."""
    sys.path.insert(0, "tests")
    from support.network import network  # it builds lnd if need be, and that takes minutes

    with tempfile.TemporaryDirectory() as folder, network(Path(folder)) as running:
        bob = running.bob
        macaroon = bob.bake(Path(folder), "invoices:read", "invoices:write")
        app = f"create_app({bob.node_url(macaroon)!r}, {_CONCURRENCY})"
        with gunicorn(app, threads=_CALLERS) as address:
            bare, ours = [], []
            for _ in range(_ROUNDS):
                bare.append(_loop(bob.url, macaroon.read_bytes().hex(), str(bob.tls_cert)))
                before = _issued(bob)
                ours.append(_Load(*ask(f"{address}/paid", _SECONDS, refused=True)))
                if _issued(bob) - before < ours[-1].rate * _SECONDS:
                    raise SystemExit("not every answer was a challenge")
    pairs = list(zip(ours, bare, strict=True))
    what = f"challenges on lnd, gthread 1x{_CALLERS}, NODE_CONCURRENCY {_CONCURRENCY}"
    yield "invoices from lnd, bare requests loop", statistics.median(b.rate for b in bare), "/s", ""
    yield what, statistics.median(o.rate for o in ours), "/s", ">= 660"
    yield "  / bare loop", statistics.median(o.rate / b.rate for o, b in pairs), "", ">= 0.7"
    yield "  99th percentile", statistics.median(o.slowest for o in ours), "ms", ""
    yield (
        "  99th percentile / bare loop's",
        statistics.median(o.slowest / b.slowest for o, b in pairs),
        "",
        "<= 3",
    )


def _issued(node: Any) -> int:
    """Return how many invoices an lnd has issued so far."""
    latest = node.call("GET", "/v1/invoices?reversed=true&num_max_invoices=1")
    return int(latest["last_index_offset"])


def _loop(url: str, macaroon: str, certificate: str) -> _Load:
    """Have invoices issued by ``POST /v1/invoices`` from eight threads, a session each."""
    seconds: list[float] = []
    began = time.monotonic()
    threads = [
        threading.Thread(target=_post, args=(url, macaroon, certificate, began + _SECONDS, seconds))
        for _ in range(_CALLERS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rate = len(seconds) / (time.monotonic() - began)
    return _Load(rate, statistics.quantiles(seconds, n=100)[98] * 1000)


def _post(url: str, macaroon: str, certificate: str, end: float, seconds: list[float]) -> None:
    order = {"memo": "shop: GET paid", "value_msat": "10000", "expiry": "600", "private": False}
    with requests.Session() as session:
        session.trust_env = False
        session.headers["Grpc-Metadata-macaroon"] = macaroon
        while (sent := time.monotonic()) < end:
            answer = session.post(
                f"{url}/v1/invoices", json=order, verify=certificate, timeout=(3.05, 10)
            )
            answer.raise_for_status()
            answer.json()
            seconds.append(time.monotonic() - sent)
