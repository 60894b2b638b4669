"""On a real lnd: paid repeats and unpaid challenges, ours and Aperture's, in one run.

Aperture stands in front of the same server's bare view. Challenges are also set against a bare loop
that has the same lnd issue invoices. All come over eight connections, in turn.
"""

import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import requests
from support.network import Network, network

from benchmarks.aperture import aperture, buy
from benchmarks.backends import Backend, sqlite
from benchmarks.load import CONNECTIONS, Load, ask, in_turn
from benchmarks.results import Row, ratio
from benchmarks.servers import Server
from benchmarks.shop import create_app, paid_token

_ROUNDS, _SECONDS, _SATS = 9, 2, 10
#: The servers that sell challenges, and how many calls of the node each process makes at a time.
_ONE, _TWO = Server("gthread", 1, 8), Server("gthread", 2, 8)
_CONCURRENCY = 8
#: Those that serve paid repeats; Aperture has the cores that they leave it.
_REPEATS = (Server("gthread", 1, 4), Server("gthread", 2, 4), Server("granian", 1, 4))


def rows(folder: Path) -> Iterator[Row]:
    """Yield rates, 99th percentiles and the medians of the rounds' ratios."""
    with network(folder / "network") as running:
        backend = sqlite(folder)
        for server in _REPEATS:
            yield from _repeats(server, folder, running, backend)
        yield from _challenges(folder, running, backend)


def _repeats(server: Server, folder: Path, running: Network, backend: Backend) -> Iterator[Row]:
    setting = f"paid repeats, {server.name}"
    holder = paid_token(create_app(backend))
    with server.serve(backend) as app:
        place = app.removeprefix("http://")
        with aperture(folder / server.name, running.bob, place, _SATS) as proxy:
            bought = buy(f"{proxy}/bare", running.alice)
            found = in_turn(_ROUNDS, {
                "bare": lambda: ask(f"{app}/bare", _SECONDS),
                "ours": lambda: ask(f"{app}/paid", _SECONDS, holder),
                "Aperture": lambda: ask(f"{proxy}/bare", _SECONDS, bought),
            })  # fmt: skip
    yield from _figures(setting, found)
    yield _compared(setting, found, "ours", "bare")
    yield _compared(setting, found, "Aperture", "bare")
    yield _compared(setting, found, "ours", "Aperture", ">= 1.25")
    yield _compared(setting, found, "ours", "Aperture", figure="slowest")


def _challenges(folder: Path, running: Network, backend: Backend) -> Iterator[Row]:
    setting, bob = f"challenges on lnd, NODE_CONCURRENCY {_CONCURRENCY}", running.bob
    macaroon = bob.bake(folder, "invoices:read", "invoices:write")
    with ExitStack() as stack:
        slices: dict[str, Callable[[], Load]] = {"requests loop": lambda: _loop(bob, macaroon)}
        for server in (_ONE, _TWO):
            told = {"node": bob.node_url(macaroon), "concurrency": _CONCURRENCY}
            address = stack.enter_context(server.serve(backend, **told))
            slices[_ours(server)] = partial(_issue, bob, f"{address}/paid")
            proxied = address.removeprefix("http://")
        proxy = stack.enter_context(aperture(folder / "challenges", bob, proxied, _SATS))
        slices["Aperture"] = partial(_issue, bob, f"{proxy}/paid")
        found = in_turn(_ROUNDS, slices)
    yield from _figures(setting, found)
    one, two = _ours(_ONE), _ours(_TWO)
    yield _compared(setting, found, one, "requests loop", ">= 0.7")
    yield _compared(setting, found, two, "requests loop")
    yield _compared(setting, found, "Aperture", "requests loop")
    yield _compared(setting, found, one, "requests loop", "<= 3", "slowest")
    yield _compared(setting, found, one, "Aperture", ">= 1")
    yield _compared(setting, found, one, "Aperture", figure="slowest")
    yield _compared(setting, found, two, "Aperture", ">= 1.2")
    yield _compared(setting, found, "Aperture", two, ">= 1.2", "slowest")


def _ours(server: Server) -> str:
    return f"ours, {server.name}"


def _figures(setting: str, found: dict[str, list[Load]]) -> Iterator[Row]:
    for name, loads in found.items():
        yield Row(setting, name, statistics.median(load.rate for load in loads), "/s")
    for name, loads in found.items():
        slowest = statistics.median(load.slowest for load in loads)
        yield Row(setting, f"{name}, 99th percentile", slowest, "ms")


def _compared(
    setting: str,
    found: dict[str, list[Load]],
    one: str,
    other: str,
    target: str = "",
    figure: str = "rate",
) -> Row:
    parts = ratio(*([getattr(load, figure) for load in found[name]] for name in (one, other)))
    what = "" if figure == "rate" else ", 99th percentile"
    return Row(setting, f"{one} / {other}{what}", parts, "", target)


def _issue(node: Any, url: str) -> Load:
    """Ask for challenges, and see by the node's own count that each was one."""
    before = _issued(node)
    load = ask(url, _SECONDS, refused=True)
    if _issued(node) - before < load.rate * _SECONDS:
        raise SystemExit("not every answer was a challenge")
    return load


def _issued(node: Any) -> int:
    """Return how many invoices an lnd has issued so far."""
    latest = node.call("GET", "/v1/invoices?reversed=true&num_max_invoices=1")
    return int(latest["last_index_offset"])


def _loop(node: Any, macaroon: Path) -> Load:
    """Have invoices issued by ``POST /v1/invoices`` from eight threads, a session each."""
    seconds: list[float] = []
    began = time.monotonic()
    given = (node.url, macaroon.read_bytes().hex(), str(node.tls_cert), began + _SECONDS, seconds)
    threads = [threading.Thread(target=_post, args=given) for _ in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rate = len(seconds) / (time.monotonic() - began)
    return Load(rate, statistics.quantiles(seconds, n=100)[98] * 1000)


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
