"""``flask l402 upgrade`` and ``current``."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from flask import Flask

from l402.cli import cli
from l402.store import migrate


@pytest.fixture
def new(make_app: Callable[..., Flask], tmp_path: Path) -> Flask:
    """An app whose database does not exist yet."""
    return make_app(L402_DATABASE_URL=f"sqlite:///{tmp_path / 'new.db'}")


def test_upgrade_makes_the_tables(new: Flask) -> None:
    """After an upgrade the app sells; a second one says that there was nothing to do."""
    runner = new.test_cli_runner()
    first = runner.invoke(cli, ["upgrade"])
    assert first.exit_code == 0
    assert first.stdout.endswith(f"new.db is at revision {migrate.head()} now, was new\n")
    assert new.test_client().get("/quote").status_code == 200
    assert "already" in runner.invoke(cli, ["upgrade"]).stdout


def test_upgrade_in_json(new: Flask) -> None:
    """The document tells the revision before and after."""
    document = json.loads(new.test_cli_runner().invoke(cli, ["upgrade", "--json"]).stdout)
    assert list(document) == ["database", "before", "revision"]
    assert (document["before"], document["revision"]) == (None, migrate.head())


def test_current(new: Flask, app: Flask) -> None:
    """It tells whether the tables are this release's, and what to do if not."""
    assert app.test_cli_runner().invoke(cli, ["current"]).stdout == f"{migrate.head()} (head)\n"
    missing = new.test_cli_runner().invoke(cli, ["current"])
    assert missing.exit_code == 0
    assert missing.stdout.startswith("no tables; the head is")


def test_current_in_json(new: Flask, app: Flask) -> None:
    """The document says it in three keys."""
    head = migrate.head()
    asked = ["current", "--json"]
    assert json.loads(app.test_cli_runner().invoke(cli, asked).stdout) == {
        "revision": head,
        "head": head,
        "is_head": True,
    }
    assert json.loads(new.test_cli_runner().invoke(cli, asked).stdout) == {
        "revision": None,
        "head": head,
        "is_head": False,
    }


def test_a_password_stays_out_of_the_output(make_app: Callable[..., Flask]) -> None:
    """A database that does not answer is named without its password."""
    app = make_app(L402_DATABASE_URL="postgresql://shop:pa55word@127.0.0.1:1/shop")
    for command in ("upgrade", "current"):
        done = app.test_cli_runner().invoke(cli, [command])
        assert done.exit_code == 1
        assert "pa55word" not in done.output
        assert done.stderr.count("\n") == 1
