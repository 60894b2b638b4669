"""Time of one call of ``wsgi_app``, and what a flood of unpaid requests leaves behind.

What asks no other program and no disk is timed by the processor time of its thread, which the rest
of the machine disturbs less; all else by the clock on the wall.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

from flask import Flask
from sqlalchemy import create_engine, func, select
from werkzeug.test import EnvironBuilder

from benchmarks.backends import Backend
from benchmarks.results import Effort, Row, ratio
from benchmarks.shop import bare_app, create_app, paid_token
from l402.protocol.token import CREDIT
from l402.store import tables

#: Calls of a slice: of what takes some ten microseconds, and of what takes hundreds. Short slices,
#: and many of them, so that the best ones were not interrupted.
_CALLS, _FEW = 200, 40
_SLICES = 6  # of each, in a round
_FLOOD = 10_000
#: What is sold, and how many times a bare view's time it may take where that is said.
_SALES = {"pass": "<= 1.4", "credit": "", "first presentation": "", "challenge": ""}

Environ = dict[str, Any]


def rows(backend: Backend, effort: Effort) -> Iterator[Row]:
    """Yield the best of the slices, and the medians of their ratios.

    On SQLite also what concerns no database.
    """
    setting, alone = _setting(backend), backend.limits is None
    app, without = create_app(backend), bare_app()
    measures = _measures(app)
    if alone:
        measures = {"free": partial(time_calls, without, "/bare"), **measures}
    for measure in measures.values():
        measure()
    found: dict[str, list[float]] = {name: [] for name in measures}
    order = list(measures)
    for _ in range(effort.rounds * _SLICES):  # in turn: the machine's moods meet all
        for name in order:
            found[name].append(measures[name]())
        order.reverse()  # each leaves warmer or colder caches to the next
    yield from _rows(setting, found, alone)
    if alone:
        yield Row(setting, "free view, with / without the extension",
                  ratio(found["bare"], found["free"]), "", "<= 1.02")  # fmt: skip
        yield Row(setting, "hooks on the host", _hooks(app) - _hooks(without), "hooks", "<= 0")
    _close(app)


def _rows(setting: str, found: Mapping[str, list[float]], alone: bool) -> Iterator[Row]:
    bare = found["bare"]
    yield Row(setting, "bare", min(bare) * 1e6, "µs")
    for name in _SALES:
        yield Row(setting, name, min(found[name]) * 1e6, "µs")
    for name, target in _SALES.items():
        yield Row(setting, f"{name} / bare", ratio(found[name], bare), "", target * alone)
    added = (min(found["challenge"]) - min(bare)) * 1e6
    yield Row(setting, "challenge, added to bare", added, "µs", "<= 250" * alone)


def _measures(app: Flask) -> dict[str, Callable[[], float]]:
    holder, caller = paid_token(app), paid_token(app, CREDIT, 10**12)
    stored = partial(time_calls, app, clock=time.perf_counter)
    counted = stored if app.config.get("L402_RATELIMIT_STORAGE_URI") else partial(time_calls, app)
    return {
        "bare": lambda: time_calls(app, "/bare"),
        "pass": lambda: counted("/paid", [holder] * _CALLS),
        "credit": lambda: stored("/call", [caller] * _FEW),
        "first presentation": lambda: stored("/paid", [paid_token(app) for _ in range(_FEW)]),
        "challenge": lambda: counted("/paid", [None] * _FEW, "402"),
    }


def time_calls(
    app: Flask,
    path: str,
    shown: Sequence[str | None] = (None,) * _CALLS,
    status: str = "200",
    clock: Callable[[], float] = time.thread_time,
) -> float:
    """Return the seconds of a call, of as many as there are Authorizations to show."""
    environs = [environ(path, authorization) for authorization in shown]
    begun = clock()
    for each in environs:
        call(app, each, status)
    return (clock() - begun) / len(environs)


def environ(path: str, authorization: str | None = None) -> Environ:
    """Return the WSGI environment of a request."""
    shown = {"HTTP_AUTHORIZATION": authorization} if authorization else {}
    return _plain(path) | shown


@cache
def _plain(path: str) -> Environ:
    return EnvironBuilder(path=path).get_environ()


def call(app: Flask, given: Environ, status: str = "200") -> None:
    """Have one request answered, with this status."""

    def start_response(line: str, *_: object) -> None:
        if not line.startswith(status):
            raise SystemExit(f"{given['PATH_INFO']} answered {line} instead of {status}")

    body: Any = app.wsgi_app(given, start_response)  # type: ignore[arg-type]
    b"".join(body)
    body.close()


def _hooks(app: Flask) -> int:
    kinds = (
        app.before_request_funcs, app.after_request_funcs, app.teardown_request_funcs,
        app.url_value_preprocessors, {None: app.teardown_appcontext_funcs},
    )  # fmt: skip
    return sum(len(hooks) for kind in kinds for hooks in kind.values())


def flood(backend: Backend) -> Iterator[Row]:
    """Yield what a flood of unpaid requests leaves behind."""
    app = create_app(backend)
    time_calls(app, "/paid", [None] * _FEW, "402")
    before, memory = _record(app, backend), _resident()
    for _ in range(_FLOOD // _FEW):
        time_calls(app, "/paid", [None] * _FEW, "402")
    grown, left = _resident() - memory, _record(app, backend) - before
    after = f"after {_FLOOD} unpaid challenges"
    yield Row(_setting(backend), f"memory {after}", grown, "MB", "<= 20")
    yield Row(_setting(backend), f"rows {after}", left, "rows", "<= 0")
    _close(app)


def _setting(backend: Backend) -> str:
    return f"in process, {backend.name}"


def _close(app: Flask) -> None:
    app.extensions["l402"].sync.close()
    app.extensions["l402"].store.close()


def _record(app: Flask, backend: Backend) -> int:
    app.extensions["l402"].sync.flush()
    engine = create_engine(backend.database)
    with engine.connect() as connection:
        counts = (
            connection.execute(select(func.count()).select_from(table)).scalar_one()
            for table in (tables.payment, tables.credential, tables.revocation)
        )
        return sum(counts)


def _resident() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6
