"""``flask l402 credit`` and ``debit``."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import Result
from flask import Flask
from support.books import buy, reserve
from support.sales import ISSUED, NOW, payment_hash, sale, token_id

from l402.cli import cli
from l402.store import Store

TOKEN = token_id(1).hex()


@pytest.fixture
def store(app: Flask, clock: Any) -> Store:
    """The app's store, with 10 sat for quotes on token 1."""
    clock.now = NOW.timestamp()
    store: Store = app.extensions["l402"].store
    buy(store, 1)
    return store


@pytest.fixture
def run(app: Flask) -> Callable[..., Result]:
    def invoke(command: str, token: str, sats: int, name: str, *more: str) -> Result:
        by_hand = [command, token, "--sats", str(sats), "--id", name, *more]
        why = [] if "--why" in more else ["--why", "the outage"]
        return app.test_cli_runner().invoke(cli, by_hand + why)

    return invoke


def balance(store: Store, number: int = 1) -> int:
    return store.credits.of(token_id(number))[0].balance


def test_credit_and_debit(store: Store, run: Callable[..., Result]) -> None:
    """A balance is changed, and the ledger says by how much and why."""
    assert run("credit", TOKEN, 5, "t-1").stdout == (
        f"credited: 5 sat, t-1: {TOKEN[:16]} has 15 sat for quotes\n"
    )
    done = run("debit", TOKEN[:8], 12, "t-2", "--why", "credited twice")
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout == f"debited: 12 sat, t-2: {TOKEN[:16]} has 3 sat for quotes\n"
    assert balance(store) == 3_000
    entries = list(store.ledger.entries(kinds=["credit", "debit"]))
    assert [(each.kind, each.msat, each.balance_after, each.why) for each in entries] == [
        ("credit", 5_000, 15_000, "the outage"),
        ("debit", 12_000, 3_000, "credited twice"),
    ]


@pytest.mark.parametrize("name", [TOKEN, TOKEN.upper(), TOKEN[:6], payment_hash(1).hex()])
def test_by_every_name(store: Store, run: Callable[..., Result], name: str) -> None:
    """A token is named as for the other commands."""
    assert run("credit", name, 1, "t-1").exit_code == 0
    assert balance(store) == 11_000


def test_once(store: Store, run: Callable[..., Result]) -> None:
    """Run again under its id, it counts once and says so, also when the token is dead by then."""
    first = json.loads(run("credit", TOKEN, 5, "t-1", "--json").stdout)
    assert first == {
        "token_id": TOKEN, "service": "quotes", "msat": 5_000, "id": "t-1",
        "outcome": "credited", "balance": 15_000,
    }  # fmt: skip
    again = json.loads(run("credit", TOKEN, 5, "t-1", "--json").stdout)
    assert again == first | {"outcome": "was credited already"}
    store.revocations.revoke("token", TOKEN)
    assert run("credit", TOKEN, 5, "t-1").exit_code == 0
    assert run("credit", TOKEN, 5, "t-1", "--dry-run").stdout.startswith("was credited already")
    assert balance(store) == 15_000


def test_an_id_stands_for_one_change(store: Store, run: Callable[..., Result]) -> None:
    """The same id with another amount, direction or token is refused."""
    buy(store, 2)
    assert run("credit", TOKEN, 5, "t-1").exit_code == 0
    for command, token, amount in (
        ("credit", TOKEN, 6), ("debit", TOKEN, 5), ("credit", token_id(2).hex(), 5),
    ):  # fmt: skip
        done = run(command, token, amount, "t-1")
        assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (2, "", 1)
        assert "t-1" in done.stderr
    assert (balance(store), balance(store, 2)) == (15_000, 10_000)


def test_never_below_zero(store: Store, run: Callable[..., Result]) -> None:
    """More than is left, or what calls in flight hold, cannot be taken off; less can."""
    reserve(store, 1, 4_500)
    done = run("debit", TOKEN, 6, "t-1")
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert "only 5.5 sat" in done.stderr
    assert "calls in flight hold 4.5 sat" in done.stderr
    assert run("debit", TOKEN, 5, "t-1").exit_code == 0
    assert balance(store) == 500


def test_a_lost_race_is_refused(
    store: Store, run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is spent between the look and the change is not there to be taken off."""
    monkeypatch.setattr("l402.cli.hand._require_enough", lambda own, change: None)
    done = run("debit", TOKEN, 11, "t-1")
    assert (done.exit_code, done.stderr.count("\n")) == (1, 1)
    assert balance(store) == 10_000


def test_dry_run(store: Store, run: Callable[..., Result]) -> None:
    """A dry run says what would come of it, refuses what would be refused, and does nothing."""
    for command, left in (("credit", "15"), ("debit", "5")):
        done = run(command, TOKEN, 5, "t-1", "--dry-run")
        assert done.stdout.startswith(f"would be {command}ed: 5 sat")
        assert f"has {left} sat" in done.stdout
    assert run("debit", TOKEN, 11, "t-1", "--dry-run").exit_code == 1
    assert balance(store) == 10_000
    assert not list(store.ledger.entries(kinds=["credit", "debit"]))


def test_unknown(store: Store, run: Callable[..., Result]) -> None:
    """A token that is not in the record, or never had credit, ends with 3."""
    store.payments.admit(sale(2), NOW)
    unknown = run("credit", "a" * 64, 5, "t-1")
    passes = run("credit", token_id(2).hex(), 5, "t-1")
    service = run("credit", TOKEN, 5, "t-1", "--service", "other")
    for done in (unknown, passes, service):
        assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (3, "", 1)
    assert "no credit for other" in service.stderr


@pytest.mark.parametrize("command", ["credit", "debit"])
def test_revoked(store: Store, run: Callable[..., Result], command: str) -> None:
    """A revoked token's balance stays as it is."""
    store.revocations.revoke("token", TOKEN)
    done = run(command, TOKEN, 5, "t-1")
    assert (done.exit_code, done.stderr) == (1, f"Error: {TOKEN} is revoked\n")
    assert balance(store) == 10_000


@pytest.mark.parametrize(
    ("ends_at", "valid_until", "said"),
    [(ISSUED + 100, ISSUED + 9000, "ended on 2030-03-17 17:48:20"),
     (ISSUED + 9000, ISSUED + 100, "opens nothing any more")],
)  # fmt: skip
@pytest.mark.parametrize("command", ["credit", "debit"])
def test_dead(
    store: Store, clock: Any, run: Callable[..., Result], command: str, ends_at: int,
    valid_until: int, said: str,
) -> None:  # fmt: skip
    """After the end of the balance, or of the last macaroon, nothing is credited or debited."""
    buy(store, 2, ends_at=ends_at, valid_until=valid_until)
    token = token_id(2).hex()
    assert run(command, token, 5, "t-1").exit_code == 0
    clock.now = ISSUED + 100
    done = run(command, token, 5, "t-2")
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert said in done.stderr


def test_several_balances(store: Store, run: Callable[..., Result]) -> None:
    """Where a token has several balances, the service must be named."""
    buy(store, 2, token_id=token_id(1), service="other")
    done = run("credit", TOKEN, 5, "t-1")
    assert done.exit_code == 2
    assert "other, quotes" in done.stderr
    assert run("credit", TOKEN, 5, "t-1", "--service", "other").exit_code == 0
    left = {each.service: each.balance for each in store.credits.of(token_id(1))}
    assert left == {"quotes": 10_000, "other": 15_000}


@pytest.mark.parametrize(
    "more",
    [["--why", " "], ["--id", ""], ["--id", " x"], ["--id", "a\nb"], ["--id", "a" * 101],
     ["--sats", "0"], ["--sats", "-5"], ["--sats", "1.5"]],
)  # fmt: skip
def test_misuse(store: Store, run: Callable[..., Result], more: list[str]) -> None:
    """An amount, a reason or an id that is none is refused before anything is done."""
    done = run("credit", TOKEN, 5, "t-1", *more)
    assert (done.exit_code, done.stdout) == (2, "")
    assert balance(store) == 10_000
