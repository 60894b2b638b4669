"""``flask l402 stats``."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import Result
from flask import Flask
from test_cli_sales import Sold

from l402.cli import cli


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
        "DAY         SERVICE  CHALLENGES  SALES  SATS",
        "2027-01-15  shop              1      1    10",
        "2027-01-16  other             1      1    10",
        "2027-01-16  shop              2      1    20",
        "total                         4      3    40",
    ]


def test_stats_of_chosen_days(app: Flask, clock: Any, run: Callable[..., Result]) -> None:
    """Days outside the chosen ones are left out; the last day is today if none is named."""
    Sold(app)
    clock.now += 10 * 86_400
    Sold(app, "/dear")
    days = [{"day": "2027-01-15", "service": "shop", "challenges": 1, "sales": 1, "msat": 10_000}]
    assert json.loads(run("stats", "--json", "--until", "2027-01-15", "--days", "1").stdout) == {
        "since": "2027-01-15",
        "until": "2027-01-15",
        "days": days,
        "total": {"challenges": 1, "sales": 1, "msat": 10_000},
    }
    recent = json.loads(run("stats", "--json", "--days", "10").stdout)
    assert [recent["since"], recent["until"]] == ["2027-01-16", "2027-01-25"]
    assert recent["total"]["msat"] == 20_000
    since = json.loads(run("stats", "--json", "--since", "2027-01-15").stdout)
    assert since["total"]["sales"] == 2
    assert run("stats", "--since", "2027-01-15", "--days", "3").exit_code == 2
