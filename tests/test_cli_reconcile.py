"""``flask l402 reconcile``."""

import json
from collections.abc import Callable

import pytest
from click.testing import Result
from conftest import Clock
from flask import Flask
from flask.testing import FlaskClient
from support.books import damage
from support.listing import ListingNode
from test_cli_sales import Sold

from l402.cli import cli
from l402.cli.times import iso, now, shown
from l402.nodes.base import Settlement
from l402.nodes.desk import NodeDesk
from l402.store.audit import Audit


@pytest.fixture
def node(app: Flask, clock: Clock) -> ListingNode:
    """The app's node, which the app sells through from now on."""
    gate = app.extensions["l402"]
    listing = ListingNode(gate.keys.derive("simulated node"), clock)
    gate.desk = gate.issuer.desk = gate.bookings.desk = NodeDesk(listing, clock=clock)
    return listing


@pytest.fixture
def run(app: Flask) -> Callable[..., Result]:
    return lambda *arguments: app.test_cli_runner().invoke(cli, ["reconcile", *arguments])


def challenge(app: Flask) -> str:
    """Get an invoice, and leave it."""
    refused = FlaskClient(app).get("/quote")
    assert refused.status_code == 402
    invoice: str = refused.json["invoice"]
    return invoice


def table(told: Result) -> dict[str, tuple[int, str]]:
    """The sums: counts, and satoshis as they are written."""
    lines = told.stdout.split("COUNT")[1].split("\n\n")[0].splitlines()[1:]
    cells = (line.rsplit(maxsplit=2) for line in lines)
    return {name.strip(): (int(count), sats) for name, count, sats in cells}


def test_agreement(app: Flask, node: ListingNode, run: Callable[..., Result]) -> None:
    """What was paid and presented agrees; the sums of both sides are told."""
    for path in ("/quote", "/dear", "/foreign"):
        Sold(app, path)
    challenge(app)
    done = run()
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "4 invoices read, 3 paid ones of ours were new",
        "",
        "                      COUNT  SATS",
        "paid at the node          3    40",
        "  presented               3    40",
        "  never presented         0     0",
        "on record                 3    40",
        "  not among the paid      0     0",
        "",
        "the books agree with the node",
    ]
    assert node.looked_up == []


def test_never_presented(app: Flask, node: ListingNode, run: Callable[..., Result]) -> None:
    """What was paid and never used is listed until it is used, and is nothing wrong."""
    Sold(app)
    node.settle(challenge(app))
    unused = list(node.list.values())[1]
    done = run()
    assert done.exit_code == 0
    handle = unused.description.split()[-1]
    settled_at = now(unused.settled_at)
    assert done.stdout.splitlines()[0] == (
        f"never presented: {unused.payment_hash.hex()}: 10 sat, settled {shown(settled_at)},"
        f" {handle}"
    )
    assert table(done)["never presented"] == (1, "10")
    document = json.loads(run("--json").stdout)
    assert document["ok"] is True
    assert document["never_presented"] == [
        {"payment_hash": unused.payment_hash.hex(), "network": "simulated", "handle": handle,
         "msat": 10_000, "received": 10_000, "settled_at": iso(settled_at)},
    ]  # fmt: skip


def test_again(app: Flask, node: ListingNode, run: Callable[..., Result]) -> None:
    """A second run tells the same sums, and only what was paid since is new."""
    Sold(app)
    first = run()
    second = run()
    assert table(second) == table(first)
    assert second.stdout.startswith("0 invoices read, 0 paid ones of ours were new\n")
    Sold(app)
    assert run().stdout.startswith("1 invoices read, 1 paid ones of ours were new\n")
    anew = run("--from-start")
    assert anew.stdout.startswith("2 invoices read, 0 paid ones of ours were new\n")
    assert table(anew)["paid at the node"] == (2, "20")


def test_never_settled(app: Flask, node: ListingNode, run: Callable[..., Result]) -> None:
    """What was presented and not paid is found, with what the node says of it; the code is 1."""
    sold, other = Sold(app), Sold(app)
    node.change(bytes.fromhex(sold.payment_hash), Settlement.OPEN)
    del node.list[node.find(bytes.fromhex(other.payment_hash)).position]
    done = run()
    assert done.exit_code == 1
    lines = done.stdout.splitlines()
    assert sorted(line.rpartition(": ")[2] for line in lines[:2]) == ["gone", "open"]
    assert f"never settled: {sold.payment_hash}: 10 sat, presented " in done.stdout
    assert sold.token_id in done.stdout
    assert lines[-1] == "2 payments are wrong"
    assert table(done)["not among the paid"] == (2, "20")
    document = json.loads(run("--json").stdout)
    assert document["ok"] is False
    found = {each["payment_hash"]: each["state"] for each in document["never_settled"]}
    assert found == {sold.payment_hash: "open", other.payment_hash: "gone"}
    assert document["totals"]["unread"] == {"count": 2, "msat": 20_000}


def test_settled_since(app: Flask, node: ListingNode, run: Callable[..., Result]) -> None:
    """What was paid and presented while the list was read is asked for by its hash, and is fine."""
    sold = Sold(app)
    node.invoices = lambda after: []  # type: ignore[method-assign]
    done = run()
    assert done.exit_code == 0
    assert node.looked_up == [bytes.fromhex(sold.payment_hash)]
    assert table(done)["not among the paid"] == (1, "10")


def test_amounts(app: Flask, node: ListingNode, run: Callable[..., Result]) -> None:
    """Too little is wrong, too much is told."""
    under, over = Sold(app), Sold(app)
    node.change(bytes.fromhex(under.payment_hash), Settlement.UNDERPAID, received=9_999)
    node.change(bytes.fromhex(over.payment_hash), Settlement.SETTLED, received=12_500)
    done = run()
    assert done.exit_code == 1
    assert f"underpaid: {under.payment_hash}: expected 10 sat, received 9.999" in done.stdout
    assert f"overpaid: {over.payment_hash}: expected 10 sat, received 12.5" in done.stdout
    assert done.stdout.endswith("\n1 payment is wrong\n")
    document = json.loads(run("--json").stdout)
    assert [len(document[name]) for name in ("underpaid", "overpaid", "never_settled")] == [1, 1, 0]


def test_changed_record(app: Flask, node: ListingNode, run: Callable[..., Result]) -> None:
    """An amount that was raised in the record is more than what arrived."""
    Sold(app)
    assert run().exit_code == 0
    damage(app.extensions["l402"].store, "UPDATE l402_payment SET msat = 11000")
    done = run()
    assert (done.exit_code, done.stdout.splitlines()[0].partition(":")[0]) == (1, "underpaid")


def test_balances(app: Flask, node: ListingNode, run: Callable[..., Result]) -> None:
    """Reconciling moves no money: the audit says the same before and after."""
    Sold(app)
    node.settle(challenge(app))
    db = app.extensions["l402"].store.db
    before = Audit(db).run(pytest.fail, lambda step: None)
    run()
    assert Audit(db).run(pytest.fail, lambda step: None) == before


def test_another_node(app: Flask, node: ListingNode, run: Callable[..., Result]) -> None:
    """At another node than the last time the command fails in one line, and says what to do."""
    Sold(app)
    run()
    node.list.clear()
    done = run()
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert "another node" in done.stderr
    assert "--from-start" in done.stderr
    anew = run("--from-start")
    assert anew.exit_code == 0
    assert table(anew)["paid at the node"] == (1, "10")


def test_no_list(app: Flask, run: Callable[..., Result]) -> None:
    """With a node that cannot list its invoices the command says so."""
    done = run()
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr == (
        "Error: SimulatedNode() cannot list its invoices, so nothing can be compared with it\n"
    )
