"""The group: how it is reached, its help, and how its commands fail."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskCliRunner

from l402.cli import cli

COMMANDS = [
    "keygen", "upgrade", "current", "doctor", "routes", "price", "list", "show", "revoke",
    "credit", "debit", "stats", "audit", "reconcile", "export", "purge",
    "wallet",
]  # fmt: skip
BY_HAND = ["--sats", "1", "--why", "goodwill", "--id", "ticket-1"]


def flask(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("FLASK")}
    return subprocess.run(
        [sys.executable, "-m", "flask", *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_flask_finds_the_group(tmp_path: Path) -> None:
    """``flask l402 --help`` works in an empty directory, and says what is there to do."""
    done = flask("l402", "--help", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert "  Sell the views of a Flask app for Lightning payments (L402)." in lines
    assert "    0  it worked" in lines
    assert "    3  what was named is not in the record" in lines
    assert "  keygen     Make a secret key for L402_SECRET_KEY." in lines
    listed = lines[lines.index("Commands:") + 1 :]
    assert [line.split()[0] for line in listed] == COMMANDS
    assert not any(line.endswith("...") for line in listed)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str) -> None:
    """The help of each command has an example to copy, and the choice of JSON."""
    done = FlaskCliRunner(Flask("shop")).invoke(cli, [command, "--help"])
    assert done.exit_code == 0
    assert "Example" in done.output
    assert f"l402 {command}" in done.output
    assert "--json" in done.output


@pytest.mark.parametrize(
    "arguments",
    [["current"], ["upgrade"], ["routes"], ["list"], ["show", "a" * 64], ["stats"], ["wallet"],
     ["revoke", "a" * 64, "--token"], ["credit", "a" * 64, *BY_HAND],
     ["debit", "a" * 64, *BY_HAND], ["audit"], ["reconcile"], ["export", "usage"], ["purge"],
     ["price", "list"], ["price", "unset", "quote"], ["price", "set", "quote", "--sats", "1"]],
)  # fmt: skip
def test_an_app_without_l402(arguments: list[str]) -> None:
    """An app that was never set up fails in one line that says what to write."""
    done = FlaskCliRunner(Flask("shop")).invoke(cli, arguments)
    assert done.exit_code == 1
    assert done.stdout == ""
    assert done.stderr == (
        "Error: this app has no L402; write L402(app), or l402.init_app(app), in it\n"
    )


def test_a_wrong_configuration_fails_in_one_line(tmp_path: Path) -> None:
    """An app that cannot start for a setting of ours ends a command with 1, without traceback."""
    (tmp_path / "app.py").write_text(
        "from flask import Flask\nfrom l402 import L402\nL402(Flask('a'))"
    )
    done = flask("l402", "routes", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: L402_NODE is not set")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [["list"], ["show", "a" * 64], ["revoke", "a" * 64, "--token"], ["stats"], ["audit"],
     ["credit", "a" * 64, *BY_HAND], ["export", "payments"]],
)  # fmt: skip
def test_a_database_without_tables(
    make_app: Callable[..., Flask], tmp_path: Path, arguments: list[str]
) -> None:
    """Before the first upgrade a command fails in one line that names the command to run."""
    app = make_app(L402_DATABASE_URL=f"sqlite:///{tmp_path / 'empty.db'}")
    done = app.test_cli_runner().invoke(cli, arguments)
    assert (done.exit_code, done.stdout) == (1, "")
    assert "l402 upgrade" in done.stderr
    assert done.stderr.count("\n") == 1
