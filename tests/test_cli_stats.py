"""``flask l402 stats``."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import Result
from flask import Flask
from support.books import buy, reserve, use
from test_cli_sales import Sold

from l402.cli import cli, times


@pytest.fixture
def run(app: Flask) -> Callable[..., Result]:
    return lambda *arguments: app.test_cli_runner().invoke(cli, list(arguments))


def test_stats(app: Flask, clock: Any, run: Callable[..., Result]) -> None:
    """Challenges, sales and satoshis stand by day and service, with their sums below."""
    Sold(app)
    clock.now += 86_400
    Sold(app, "/dear"), Sold(app, "/foreign")
    app.test_client()._send("/quote")
    app.extensions["l402"].sync.flush()
    assert run("stats").stdout.splitlines() == [
        "DAY         SERVICE  CHALLENGES  SALES  SATS  USES  USED",
        "2027-01-15  shop              1      1    10     0     0",
        "2027-01-16  other             1      1    10     0     0",
        "2027-01-16  shop              2      1    20     0     0",
        "total                         4      3    40     0     0",
    ]


def test_stats_of_chosen_days(app: Flask, clock: Any, run: Callable[..., Result]) -> None:
    """Days outside the chosen ones are left out; the last day is today if none is named."""
    Sold(app)
    clock.now += 10 * 86_400
    Sold(app, "/dear")
    sold = {"challenges": 1, "sales": 1, "msat": 10_000, "uses": 0, "used_msat": 0}
    assert json.loads(run("stats", "--json", "--until", "2027-01-15", "--days", "1").stdout) == {
        "since": "2027-01-15",
        "until": "2027-01-15",
        "days": [{"day": "2027-01-15", "service": "shop"} | sold],
        "total": sold,
    }
    recent = json.loads(run("stats", "--json", "--days", "10").stdout)
    assert [recent["since"], recent["until"]] == ["2027-01-16", "2027-01-25"]
    assert recent["total"]["msat"] == 20_000
    since = json.loads(run("stats", "--json", "--since", "2027-01-15").stdout)
    assert since["total"]["sales"] == 2
    assert run("stats", "--since", "2027-01-15", "--days", "3").exit_code == 2


def test_stats_by_endpoint(app: Flask, clock: Any, run: Callable[..., Result]) -> None:
    """Each endpoint is counted for itself; calls count on the day on which they were charged."""
    Sold(app), Sold(app, "/fact")
    store = app.extensions["l402"].store
    app.extensions["l402"].sync.flush()
    buy(store, 1, now=times.now(clock.now))
    use(store, 1, 2_000)
    use(store, 1, 3_500, endpoint="lookup")
    store.uses.release(reserve(store, 1, 1_000))
    reserve(store, 1, 1_000)
    today = f"{next(store.ledger.entries()).at:%Y-%m-%d}"  # the database's own clock
    done = run("stats", "--by-endpoint", "--since", min(today, "2027-01-15"))
    assert sorted(done.stdout.splitlines()[1:-1]) == sorted([
        "2027-01-15  quotes   quote              0      1    10     0     0",
        "2027-01-15  shop     fact               1      1    10     0     0",
        "2027-01-15  shop     quote              1      1    10     0     0",
        f"{today}  quotes   lookup             0      0     0     1   3.5",
        f"{today}  quotes   quote              0      0     0     1     2",
    ])  # fmt: skip
    assert done.stdout.splitlines()[0] == (
        "DAY         SERVICE  ENDPOINT  CHALLENGES  SALES  SATS  USES  USED"
    )
    assert done.stdout.splitlines()[-1].split() == ["total", "2", "3", "30", "2", "5.5"]
    days = json.loads(
        run("stats", "--by-endpoint", "--json", "--until", today, "--days", "1").stdout
    )
    assert [(day["endpoint"], day["uses"], day["used_msat"]) for day in days["days"]] == [
        ("lookup", 1, 3_500), ("quote", 1, 2_000),
    ]  # fmt: skip
