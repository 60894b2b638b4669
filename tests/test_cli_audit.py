"""``flask l402 audit``."""

import json
import re
from collections.abc import Callable

import pytest
from click.testing import Result
from flask import Flask
from support.books import damage, fill
from support.sales import token_id

from l402.cli import cli
from l402.cli.progress import Progress
from l402.store import Store


@pytest.fixture
def store(app: Flask) -> Store:
    """The app's store, with an account for everything that can happen."""
    store: Store = app.extensions["l402"].store
    fill(store)
    return store


@pytest.fixture
def run(app: Flask) -> Callable[..., Result]:
    return lambda *arguments: app.test_cli_runner().invoke(cli, ["audit", *arguments])


def test_books_that_agree(store: Store, run: Callable[..., Result]) -> None:
    """The totals are told, and that they agree; what is granted is the sum of what follows."""
    done = run()
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "balances          3",
        "entries          13",
        "granted        38.5 sat",
        "  bought         34 sat",
        "  by hand         3 sat",
        "  written off   1.5 sat",
        "balance          11 sat",
        "reserved          2 sat",
        "used           13.5 sat",
        "expired          10 sat",
        "debited           2 sat",
        "",
        "the books agree",
    ]


def test_in_json(store: Store, run: Callable[..., Result]) -> None:
    """One document has the verdict, the totals in msat and the differences."""
    document = json.loads(run("--json").stdout)
    assert document["ok"] is True
    assert document["differences"] == []
    totals = document["totals"]
    parts = ("balance", "reserved", "used", "expired", "debited")
    assert totals["granted"] == sum(totals[part] for part in parts) == 38_500


def test_books_that_differ(store: Store, run: Callable[..., Result]) -> None:
    """Each difference is a line with account, service and both figures; the exit code is 1."""
    token = token_id(1).hex()
    damage(store, f"UPDATE l402_credit SET balance = balance + 1 WHERE token_id = '{token}'")
    done = run()
    assert done.exit_code == 1
    lines = done.stdout.splitlines()
    assert lines[0] == f"{token} quotes: balance and reserved: expected 9000, found 9001"
    assert lines[-1] == "1 difference"
    done = run("--json")
    assert done.exit_code == 1
    document = json.loads(done.stdout)
    assert document["ok"] is False
    assert document["differences"] == [
        {"token_id": token, "service": "quotes", "what": "balance and reserved",
         "expected": 9_000, "found": 9_001},
    ]  # fmt: skip


def test_several_differences(store: Store, run: Callable[..., Result]) -> None:
    """What is not there is called nothing, and the differences are counted."""
    damage(store, "DELETE FROM l402_use", "DELETE FROM l402_reply", "UPDATE l402_payment SET"
           f" kind = 'credit' WHERE token_id = '{token_id(4).hex()}'")  # fmt: skip
    done = run()
    assert re.search(r"purchase of payment \w{64}: expected 10000, found nothing\n", done.stdout)
    assert done.stdout.endswith("\n2 differences\n")


def test_progress(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Away from a terminal a line is written now and then; on one it is written over."""
    progress = Progress("balances", shown=False)
    with progress:
        progress.begin("chain of entries")
        progress.rows = 12_345
        assert re.fullmatch(r"chain of entries: 12,345 rows, \d s", progress.line())
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("l402.cli.progress._ELSEWHERE", 0.0)
    with Progress("balances") as progress:
        progress._teller.join(0.05)
    assert capsys.readouterr().err.startswith("balances: 0 s\nbalances: 0 s\n")
    monkeypatch.setattr("l402.cli.progress._ON_TERMINAL", 0.0)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with Progress("balances") as progress:
        progress._teller.join(0.05)
    shown = capsys.readouterr().err
    assert shown.startswith("\rbalances: 0 s\x1b[K\rbalances: 0 s\x1b[K")
    assert shown.endswith("\r\x1b[K")
    assert "\n" not in shown
    monkeypatch.setattr("l402.cli.progress._ON_TERMINAL", 60.0)
    with Progress("balances") as progress:
        progress.clear()
        assert capsys.readouterr().err == "\r\x1b[K"
