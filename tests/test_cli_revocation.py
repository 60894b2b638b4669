"""``flask l402 revoke``."""

import json
import re
from collections.abc import Callable
from hashlib import sha256
from typing import Any

import pytest
from click.testing import Result
from flask import Flask
from test_cli_sales import Sold

from l402 import signals
from l402.cli import cli

UNKNOWN = "c0ffee" * 10 + "0000"


@pytest.fixture
def run(app: Flask) -> Callable[..., Result]:
    return lambda *arguments: app.test_cli_runner().invoke(cli, ["revoke", *arguments])


def first(done: Result) -> dict[str, Any]:
    assert done.exit_code == 0, done.stderr
    revocation: dict[str, Any] = json.loads(done.stdout)["revocations"][0]
    return revocation


def served(app: Flask, sold: Sold, path: str = "/quote") -> bool:
    """Ask as a process would that has just read what was revoked."""
    sync = app.extensions["l402"].sync
    sync._read()
    return sold.client._send(path).status_code == 200


@pytest.mark.parametrize(
    ("name", "kind"),
    [(lambda s: s.token_id, "token"), (lambda s: s.token_id[:8], "token"),
     (lambda s: s.token_id.upper(), "token"), (lambda s: s.payment_hash, "payment"),
     (lambda s: s.handle, "handle")],
)  # fmt: skip
def test_revokes_by_every_name(
    app: Flask, run: Callable[..., Result], name: Callable[[Sold], str], kind: str
) -> None:
    """Whatever names the sale revokes it, and no other sale."""
    sold, other = Sold(app), Sold(app)
    assert served(app, sold)
    done = first(run(name(sold), "--json"))
    subject = {"token": sold.token_id, "payment": sold.payment_hash, "handle": sold.token_id[:16]}
    assert done == {
        "kind": kind,
        "subject": subject[kind],
        "issued_before": None,
        "outcome": "revoked",
        "credentials": 1,
        "payments": 1,
        "msat": 10_000,
    }
    assert not served(app, sold)
    assert served(app, other)


@pytest.mark.parametrize("kind", ["token", "payment", "handle"])
def test_revokes_before_the_first_presentation(
    app: Flask, run: Callable[..., Result], kind: str
) -> None:
    """A token that was paid for, and never shown, is refused when it is shown."""
    minted: list[dict[str, Any]] = []

    def note(sender: object, **what: Any) -> None:
        minted.append(what)

    client = app.test_client()
    with signals.challenged.connected_to(note, sender=app):
        header = client._send("/quote").headers["WWW-Authenticate"]
    macaroon, invoice = header.split('"')[1], header.split('"')[3]
    gate = app.extensions["l402"]
    preimage = gate.desk.node.settle(invoice)
    names = {
        "token": [minted[0]["token_id"], "--token"],
        "payment": [sha256(preimage).hexdigest(), "--payment"],
        "handle": [gate.keys.handle(bytes.fromhex(minted[0]["token_id"]))],
    }
    done = first(run(*names[kind], "--json"))
    assert (done["kind"], done["outcome"], done["credentials"]) == (kind, "revoked", 0)
    client.authorization = f"L402 {macaroon}:{preimage.hex()}"
    assert client._send("/quote").status_code == 402


def test_an_unknown_id_needs_a_kind(run: Callable[..., Result]) -> None:
    """64 digits that the record does not know could be either: the answer says how to tell."""
    done = run(UNKNOWN)
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "--token" in done.stderr
    assert "--payment" in done.stderr


def test_a_kind_that_the_record_knows_better(app: Flask, run: Callable[..., Result]) -> None:
    """A payment hash is not revoked as a token id, which would revoke nothing."""
    sold = Sold(app)
    assert run(sold.payment_hash, "--token").stderr.endswith("is a payment hash\n")
    assert run(sold.token_id, "--payment").stderr.endswith("is a token id\n")
    assert run(sold.token_id, "--token").exit_code == 0
    assert run(sold.token_id[:8], "--token").exit_code == 2


def test_an_unknown_prefix_or_handle(run: Callable[..., Result]) -> None:
    """First digits must be in the record, and a handle must be ours."""
    assert run("c0ffee").exit_code == 3
    assert run("l402:0011223344556677:00000000").exit_code == 3
    assert run("coffee").exit_code == 2


def test_one_mistake_revokes_nothing(app: Flask, run: Callable[..., Result]) -> None:
    """Of several names all are understood before any is revoked."""
    sold = Sold(app)
    assert run(sold.token_id, "c0ffee").exit_code == 3
    assert served(app, sold)


def test_twice_is_no_error(app: Flask, run: Callable[..., Result]) -> None:
    """A second revocation changes nothing and says so; one name given twice counts once."""
    sold = Sold(app)
    once = json.loads(run(sold.token_id, sold.token_id[:9], "--json").stdout)
    assert [done["outcome"] for done in once["revocations"]] == ["revoked"]
    assert first(run(sold.token_id, "--json"))["outcome"] == "was revoked already"


def test_a_dry_run_changes_nothing(app: Flask, run: Callable[..., Result]) -> None:
    """--dry-run tells what would be revoked; it is served as before, and nobody is told."""
    sold, told = Sold(app), []

    def note(sender: object, **what: Any) -> None:
        told.append(what)

    with signals.revoked.connected_to(note, sender=app):
        lines = run(sold.token_id, "--dry-run").stdout.splitlines()
    assert lines[0].split() == ["KIND", "SUBJECT", "OUTCOME", "TOKENS", "PAYMENTS", "SATS"]
    assert re.split(" {2,}", lines[1])[:3] == ["token", sold.token_id, "would be revoked"]
    assert lines[1].split()[-3:] == ["1", "1", "10"]
    assert json.loads(run(sold.token_id, "--dry-run", "--json").stdout)["dry_run"] is True
    assert served(app, sold)
    assert told == []


def test_a_service_before_a_time(app: Flask, clock: Any, run: Callable[..., Result]) -> None:
    """All of a service that was issued before a time is refused, and nothing else."""
    old, foreign = Sold(app), Sold(app, "/foreign")
    clock.now += 60
    new = Sold(app)
    before = str(int(clock.now))
    would = first(run("--service", "shop", "--before", before, "--dry-run", "--json"))
    assert (would["credentials"], would["payments"], would["msat"]) == (1, 1, 10_000)
    done = first(run("--service", "shop", "--before", before, "--json"))
    assert (done["kind"], done["subject"], done["outcome"]) == ("service", "shop", "revoked")
    assert done["issued_before"] == "2027-01-15T08:01:00Z"
    assert not served(app, old)
    assert served(app, new)
    assert served(app, foreign, "/foreign")


def test_a_time_to_come_is_refused(app: Flask, clock: Any, run: Callable[..., Result]) -> None:
    """A mistyped year must not refuse everybody who pays until then."""
    done = run("--service", "shop", "--before", "2127-01-01")
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert "future" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [[], ["--service", "shop"], ["--before", "2026-01-31"], ["c0ffee", "--service", "shop"],
     ["--service", "shop", "--before", "2026-01-31", "--token"],
     ["--service", "no name", "--before", "2026-01-31"]],
)  # fmt: skip
def test_what_makes_no_sense(run: Callable[..., Result], arguments: list[str]) -> None:
    """It is called with names, or with a service and a time."""
    done = run(*arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr


def test_the_host_is_told(app: Flask, run: Callable[..., Result]) -> None:
    """The signal tells the kind and the subject, with the app as its sender."""
    told: list[dict[str, Any]] = []

    def note(sender: object, **what: Any) -> None:
        told.append(what)

    with signals.revoked.connected_to(note, sender=app):
        run(UNKNOWN, "--token")
    assert told == [{"kind": "token", "subject": UNKNOWN}]
