"""Requests per second behind a server, bare and sold in each way."""

from collections.abc import Callable, Iterator
from statistics import median

from benchmarks.backends import Backend
from benchmarks.load import Load, ask, in_turn, present
from benchmarks.results import Effort, Row, ratio
from benchmarks.servers import Server
from benchmarks.shop import create_app, paid_token
from l402.protocol.token import CREDIT

#: More than any server books in a second.
_TOKENS = 5000
_PASS, _CREDIT = "pass", "credit"
#: The least part of the bare view's requests per second, by server, database and sale.
_TARGETS = {
    ("gthread 1x4", "SQLite", _PASS): ">= 0.93",
    ("granian 1x4", "SQLite", _PASS): ">= 0.85",
    ("gthread 1x4", "SQLite", _CREDIT): ">= 0.4",
    ("gthread 2x4", "Postgres + Redis", _CREDIT): ">= 0.2",
}


def rows(server: Server, backend: Backend, effort: Effort) -> Iterator[Row]:
    """Yield rates, and the medians of the rounds' ratios."""
    setting = f"{server.name}, {backend.name}"
    with server.serve(backend) as address:
        found = in_turn(effort.rounds, _slices(address, backend, effort.seconds))
    bare = found.pop("bare")
    yield Row(setting, "bare", median(load.rate for load in bare), "/s")
    for name, loads in found.items():
        yield Row(setting, name, median(load.rate for load in loads), "/s")
    for name, loads in found.items():
        target = _TARGETS.get((server.name, backend.name, name), "")
        part = ratio([load.rate for load in loads], [load.rate for load in bare])
        yield Row(setting, f"{name} / bare", part, "", target)
    for name, loads in found.items():
        slower = ratio([load.slowest for load in loads], [load.slowest for load in bare])
        yield Row(setting, f"{name} / bare, 99th percentile", slower)


def _slices(address: str, backend: Backend, seconds: int) -> dict[str, Callable[[], Load]]:
    app = create_app(backend)
    holder, caller = paid_token(app), paid_token(app, CREDIT, 10**12)

    def first() -> Load:
        tokens = [paid_token(app) for _ in range(_TOKENS * seconds)]
        return present(f"{address}/paid", seconds, tokens)

    return {
        "bare": lambda: ask(f"{address}/bare", seconds),
        _PASS: lambda: ask(f"{address}/paid", seconds, holder),
        _CREDIT: lambda: ask(f"{address}/call", seconds, caller),
        "first presentation": first,
        "challenge": lambda: ask(f"{address}/paid", seconds, refused=True),
    }
