"""``flask l402 purge``."""

import json
from collections.abc import Callable
from datetime import timedelta

import pytest
from click.testing import Result
from conftest import Clock
from flask import Flask
from flask.testing import FlaskClient
from support import listing
from support.books import damage, reserve
from support.listing import ListingNode
from support.purges import at, credit, figures, left, use_long_ago
from test_cli_sales import Sold

from l402.cli import cli
from l402.nodes.desk import NodeDesk
from l402.store import Store, health

#: When things are sold here, by the app's clock; the database's shows today.
LONG_AGO = 1_600_000_000.0


@pytest.fixture
def clock() -> Clock:
    clock = Clock()
    clock.now = LONG_AGO
    return clock


@pytest.fixture
def store(app: Flask) -> Store:
    store: Store = app.extensions["l402"].store
    return store


@pytest.fixture
def run(app: Flask) -> Callable[..., Result]:
    return lambda *arguments: app.test_cli_runner().invoke(cli, list(arguments))


def test_what_went(app: Flask, store: Store, run: Callable[..., Result]) -> None:
    """It says what went, row by row; a dry run says the same before, and changes nothing."""
    for path in ("/quote", "/dear", "/foreign"):
        Sold(app, path)
    rows = left(store)
    would = run("purge", "--dry-run")
    assert (would.exit_code, would.stderr, left(store)) == (0, "", rows)
    done = run("purge")
    assert done.exit_code == 0
    assert done.stdout == would.stdout.replace("would go", "gone").replace(
        would.stdout.splitlines()[0].split("  ")[0], done.stdout.splitlines()[0].split("  ")[0]
    )
    lines = dict(line.split() for line in done.stdout.splitlines()[1:])
    assert lines == {
        "tokens": "3", "payments": "3", "entries": "0", "balances": "0", "settlements": "0",
        "replies": "0", "revocations": "0",
    }  # fmt: skip
    assert json.loads(run("list", "--json").stdout)["credentials"] == []


def test_in_json(store: Store, run: Callable[..., Result]) -> None:
    """One document has the numbers, the moment, and what was left."""
    credit(store, 1, service="shop")
    use_long_ago(store, 1, service="shop")
    document = json.loads(run("purge", "--older-than", "400", "--json").stdout)
    ended = health.now(store.db) - timedelta(days=400)
    assert document.pop("ended_before")[:16] == f"{ended:%Y-%m-%dT%H:%M}"
    assert document == {
        "dry_run": False, "left": {}, "tokens": 1, "payments": 1, "entries": 3, "balances": 1,
        "settlements": 0, "replies": 0, "revocations": 0,
    }  # fmt: skip


def test_of_a_process_that_is_gone(store: Store, run: Callable[..., Result]) -> None:
    """What a dead process held is given back first, though nobody serves any more."""
    credit(store, 1, service="shop")
    reserve(store, 1, service="shop", now=at(0))
    damage(store, "UPDATE l402_lease SET expires_at = '2020-01-01 00:00:00.000000'")
    assert json.loads(run("purge", "--json").stdout)["tokens"] == 1
    assert left(store)["credit"] == 0


@pytest.mark.parametrize("command", ["audit", "stats --since 2017-01-01", "export closings"])
def test_the_books_say_what_they_said(
    app: Flask, store: Store, run: Callable[..., Result], command: str
) -> None:
    """Audit and stats say the same to the letter; the sums can be taken elsewhere."""
    Sold(app)
    credit(store, 1, service="shop")
    use_long_ago(store, 1, service="shop")
    while store.credits.expire():
        pass
    before, sums = run(*command.split()), figures(store)
    assert run("purge").exit_code == 0
    after = run(*command.split())
    assert after.exit_code == 0
    assert figures(store) == sums
    if command != "export closings":
        assert after.stdout == before.stdout
        return
    heading, *lines = after.stdout.splitlines()
    assert before.stdout.splitlines() == [heading]
    assert heading == "day,book,kind,service,endpoint,network,number,msat"
    assert "2020-09-13,payment,pass granted,shop,quote,simulated,1,10000" in lines
    rows = run("export", "closings", "--json", "--until", "2020-01-01").stdout.splitlines()
    assert all(json.loads(row)["day"] == "2017-07-14" for row in rows)


def test_shown_again(app: Flask, clock: Clock, store: Store, run: Callable[..., Result]) -> None:
    """A purged token is refused and gets nothing, whatever the app's clock shows."""
    sold = Sold(app)
    credentials = [sold.client.get("/quote").request.headers["Authorization"]]
    run("purge")
    for moment in (LONG_AGO + 1, LONG_AGO + 10**7):
        clock.now = moment
        app.extensions["l402"].holders.verified._begin()  # another process
        (shown,) = credentials
        answer = FlaskClient(app).get("/quote", headers={"Authorization": shown})
        assert (answer.status_code, answer.json["reason"]) == (402, "expired")
    assert left(store)["payment"] == 0


def test_at_the_node(
    app: Flask, clock: Clock, run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What reconcile sees at the node again, of what was purged, is no stranger."""
    monkeypatch.setattr(listing, "ISSUED", int(LONG_AGO))  # when its invoices are paid
    gate = app.extensions["l402"]
    node = ListingNode(gate.keys.derive("simulated node"), clock)
    gate.desk = gate.issuer.desk = gate.bookings.desk = NodeDesk(node, clock=clock)
    for path in ("/quote", "/dear"):
        Sold(app, path)
    node.settle(FlaskClient(app).get("/quote").json["invoice"])
    before = run("reconcile").stdout.split("\n\n", 1)
    assert "never presented: " in before[0]
    assert run("purge").exit_code == 0
    for command in (["reconcile"], ["reconcile", "--from-start"]):
        done = run(*command)
        assert done.exit_code == 0
        assert done.stdout.split("\n\n", 1)[1] == before[1]
        assert done.stdout.count("never presented: ") == 1


def test_books_that_do_not_agree(app: Flask, store: Store, run: Callable[..., Result]) -> None:
    """An account that does not add up stays, and is named; the exit code is 1."""
    credit(store, 1, service="shop")
    use_long_ago(store, 1, service="shop")
    Sold(app)
    damage(store, "UPDATE l402_entry SET msat = msat + 1 WHERE kind = 'use'")
    done = run("purge")
    assert done.exit_code == 1
    (account,) = store.credentials.page(now=health.now(store.db))
    assert done.stderr.splitlines() == [
        f"left: {account.token_id}: its entries do not add up; run flask l402 audit"
    ]


def test_revocations(app: Flask, store: Store, run: Callable[..., Result]) -> None:
    """A revocation outlives what was signed before it, however long that was once sold for."""
    store.revocations.revoke("token", "ab" * 32)
    for years, gone in ((0, 0), (9, 0), (11, 1)):
        moment = health.now(store.db) - timedelta(days=366 * years)
        revoked = f"UPDATE l402_revocation SET revoked_at = '{moment:%Y-%m-%d %H:%M:%S.%f}'"
        damage(store, revoked)
        assert json.loads(run("purge", "--json").stdout)["revocations"] == gone
    assert store.revocations.revoke("token", "ab" * 32)


@pytest.mark.parametrize("days", ["0", "-1", "x"])
def test_a_margin(run: Callable[..., Result], days: str) -> None:
    """A day is the least: clocks may differ."""
    assert run("purge", "--older-than", days).exit_code == 2
