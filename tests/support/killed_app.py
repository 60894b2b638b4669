"""A shop whose processes kill themselves at a named point once it is armed.

The product has no hooks for this: the methods of its store are wrapped here, and the statements
that it runs are listened to. A point is armed by a file of its name in ``armed``, of the folder
that ``KILLED_FOLDER`` names; the process that moves that file to ``struck`` is the one that dies,
so each is struck once, whichever process and thread comes by first. ``KILLED_SABOTAGE`` names what
is broken on purpose (see `support.killed_sabotage`).
"""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import wraps
from pathlib import Path
from typing import Any

from flask import Flask
from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine

from l402 import L402, current_payment, paywall, sync
from l402.store import driver, leases
from l402.store.engine import Database
from l402.store.payments import Payments
from l402.store.uses import Uses

#: What a call costs, and how many of them one payment buys; what a pass costs.
PRICE, CALLS, PASS = 1_000, 5, 3_000  # msat, calls, msat
#: Seconds; shorter than in production, so that a test need not wait half a minute.
LEASE, RENEW = 1.5, 0.3
#: What a view that fails answers.
FAILED = 418

#: In the order of a call's life; what was added up is not committed at "…uncommitted".
POINTS = (
    "purchase-written", "purchase-uncommitted", "purchase-committed",
    "reserve-debited", "reserve-uncommitted", "reserve-committed",
    "view",
    "take-deleted", "take-uncommitted", "take-committed",
    "release-uncommitted", "release-committed",
    "recover-uncommitted", "recover-committed",
)  # fmt: skip
#: Kills that come from another process at any time: of one worker, or of all of them.
OUTSIDE, TOGETHER = "outside", "together"
#: Which statement, of which doing, makes a point.
_STATEMENTS = {
    ("purchase", "INSERT INTO l402_payment"): "purchase-written",
    ("reserve", "UPDATE l402_credit"): "reserve-debited",
    ("take", "DELETE FROM l402_use"): "take-deleted",
}

_now = threading.local()


def reach(point: str) -> None:
    """Die here and now, if this point is armed."""
    folder = Path(os.environ["KILLED_FOLDER"])
    try:
        (folder / "armed" / point).rename(folder / "struck" / f"{point}.{os.getpid()}")
    except FileNotFoundError:
        return
    os.kill(os.getpid(), signal.SIGKILL)


def create_app() -> Flask:
    """Make the app from ``FLASK_L402_…``; its views name the use that they are charged for."""
    _hurry()
    if sabotage := os.environ.get("KILLED_SABOTAGE"):
        from support.killed_sabotage import SABOTAGES

        SABOTAGES[sabotage].apply()
    _watch()
    app = Flask("killed")
    app.config.from_prefixed_env()
    app.config.update(L402_NODE="simulated:", L402_SIMULATED=True, L402_SERVICE="killed")
    L402(app)

    @app.get("/call")
    @paywall(msat=PRICE, uses=CALLS)
    def call() -> dict[str, object]:
        return _use()

    @app.get("/fail")
    @paywall(msat=PRICE, uses=CALLS)
    def fail() -> tuple[dict[str, object], int]:
        return _use(), FAILED

    @app.get("/pass")
    @paywall(msat=PASS)
    def passed() -> dict[str, int]:
        return {"process": os.getpid()}

    return app


def _use() -> dict[str, object]:
    reach("view")
    assert current_payment.use_id
    return {"use": current_payment.use_id.hex(), "process": os.getpid()}


def _hurry() -> None:
    leases.LEASE, leases.RENEW = timedelta(seconds=LEASE), RENEW
    sync._INTERVAL, sync._CHORES_EVERY = 0.1, 0.2


def _watch() -> None:
    Uses._reserve = _doing("reserve", Uses._reserve)
    Uses.take = _doing("take", Uses.take)
    Payments._book = _doing("purchase", Payments._book)
    release, recover = (_doing(name, Uses._give_back) for name in ("release", "recover"))

    def give_back(uses: Uses, key: str, *, lapsed: bool = False) -> int | None:
        return (recover if lapsed else release)(uses, key, lapsed=lapsed)

    Uses._give_back = give_back
    Database.write, Database.alone = _watched(Database.write), _watched_alone(Database.alone)
    driver.execute = _listened(driver.execute)
    event.listen(Engine, "after_cursor_execute", _executed)


def _doing(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    """Note what this thread is at while it runs `method`."""

    @wraps(method)
    def noted(*args: Any, **kwargs: Any) -> Any:
        before = getattr(_now, "doing", None)
        _now.doing = name
        try:
            return method(*args, **kwargs)
        finally:
            _now.doing = before

    return noted


def _watched(write: Callable[..., Any]) -> Callable[..., Any]:
    """Reach the points on both sides of each commit."""

    @contextmanager
    def watched(database: Database, durable: bool = False) -> Iterator[Connection]:
        doing = getattr(_now, "doing", None)
        with write(database, durable) as connection:
            yield connection
            commits = doing is not None and connection.in_transaction()
            if commits:
                reach(f"{doing}-uncommitted")
        if commits:
            reach(f"{doing}-committed")

    return watched


class _Watched:
    """A step whose commit follows it or, on Postgres, comes with it."""

    def __init__(self, step: driver.Runs) -> None:
        self._step = step

    def run(self, connection: Connection, *rest: Any) -> Any:
        point = f"{_now.doing}-uncommitted"
        if connection.dialect.name == "postgresql":
            reach(point)
            return self._step.run(connection, *rest)
        row = self._step.run(connection, *rest)
        if row is not None:
            reach(point)
        return row


def _watched_alone(alone: Callable[..., Any]) -> Callable[..., Any]:
    """Reach the points on both sides of each commit, of steps that are transactions alone."""

    def watched(database: Database, step: driver.Runs, *rest: Any, **options: Any) -> Any:
        if (doing := getattr(_now, "doing", None)) is None:
            return alone(database, step, *rest, **options)
        row = alone(database, _Watched(step), *rest, **options)
        if row is not None:
            reach(f"{doing}-committed")
        return row

    return watched


def _listened(execute: Callable[..., Any]) -> Callable[..., Any]:
    def listened(connection: Connection, sql: str, *rest: Any) -> Any:
        rows = execute(connection, sql, *rest)
        if rows:
            _ran(sql)
        return rows

    return listened


def _executed(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
    _ran(statement)


def _ran(statement: str) -> None:
    for (doing, part), point in _STATEMENTS.items():
        if doing == getattr(_now, "doing", None) and part in statement:
            reach(point)
