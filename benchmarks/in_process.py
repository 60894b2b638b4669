"""Time of one call of ``wsgi_app``, and what a flood of unpaid requests leaves behind."""

import time
from collections.abc import Iterator
from pathlib import Path

from flask import Flask
from sqlalchemy import create_engine, func, select
from werkzeug.test import EnvironBuilder

from benchmarks.shop import LND, bare_app, create_app, paid_token
from l402.store import tables

_ROUNDS, _CALLS = 15, 1000
_FLOOD = 10_000


def rows() -> Iterator[tuple[str, float, str, str]]:
    """Yield measurements: name, value, unit, target."""
    app, simulated, without = create_app(LND), create_app(), bare_app()
    authorization = paid_token(app)
    bare, paid, free, challenge = [], [], [], []
    for _ in range(_ROUNDS):  # in turn, so that the machine's moods meet all of them
        bare.append(_time(app, "/bare"))
        paid.append(_time(app, "/paid", authorization))
        free.append(_time(without, "/bare"))
        challenge.append(_time(simulated, "/paid", calls=_CALLS // 10))
    yield "bare view", min(bare) * 1e6, "µs", ""
    yield "paid repeat", min(paid) * 1e6, "µs", ""
    yield "challenge, simulated node", min(challenge) * 1e6, "µs", ""
    yield "paid repeat / bare", min(paid) / min(bare), "", "<= 1.5"
    yield "free view, with / without the extension", min(bare) / min(free), "", "<= 1.02"
    yield from _flood(simulated)
    for sold in (app, simulated):
        sold.extensions["l402"].sync.close()


def _flood(app: Flask) -> Iterator[tuple[str, float, str, str]]:
    before, memory = _record(app), _resident()
    _time(app, "/paid", calls=_FLOOD)
    yield f"memory after {_FLOOD} unpaid challenges", _resident() - memory, "MB", "<= 20"
    yield f"rows after {_FLOOD} unpaid challenges", _record(app) - before, "", "<= 0"


def _time(app: Flask, path: str, authorization: str | None = None, calls: int = _CALLS) -> float:
    headers = {"Authorization": authorization} if authorization else {}
    environ = EnvironBuilder(path=path, headers=headers).get_environ()
    begun = time.perf_counter()
    for _ in range(calls):
        body = app.wsgi_app(dict(environ), _start_response)
        b"".join(body)
        body.close()  # type: ignore[attr-defined]
    return (time.perf_counter() - begun) / calls


def _start_response(*_: object) -> None:
    pass


def _record(app: Flask) -> int:
    app.extensions["l402"].sync.flush()
    engine = create_engine(app.config["L402_DATABASE_URL"])
    with engine.connect() as connection:
        counts = (
            connection.execute(select(func.count()).select_from(table)).scalar_one()
            for table in (tables.payment, tables.credential, tables.revocation)
        )
        return sum(counts)


def _resident() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6
