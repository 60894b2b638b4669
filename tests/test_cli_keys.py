"""``flask l402 keygen``."""

import json
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from flask import Flask

from l402 import L402
from l402.cli import cli


def run(*arguments: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(cli, ["keygen", *arguments])
    return done.exit_code, done.stdout, done.stderr


def test_prints_a_new_secret() -> None:
    """Each run prints other 32 bytes, as 64 hex digits."""
    secrets = [run()[1] for _ in range(2)]
    assert all(re.fullmatch(r"[0-9a-f]{64}\n", secret) for secret in secrets)
    assert secrets[0] != secrets[1]


@pytest.mark.parametrize("app", [None, "raise SystemError", "import nothing_of_this_name"])
def test_needs_no_app(tmp_path: Path, app: str | None) -> None:
    """It works in an empty directory, and beside an app that cannot be loaded."""
    if app is not None:
        (tmp_path / "app.py").write_text(app)
    done = subprocess.run(
        [sys.executable, "-m", "flask", "l402", "keygen"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"[0-9a-f]{64}\n", done.stdout)


def test_writes_a_file_for_its_owner_alone(tmp_path: Path) -> None:
    """--out keeps the secret off the screen, in a file of mode 0600 that an app can start with."""
    path = tmp_path / "key"
    code, out, _ = run("--out", str(path))
    assert code == 0
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text().strip() not in out
    app = Flask("shop")
    app.config.update(TESTING=True, L402_NODE="simulated:", L402_SECRET_KEY_PATH=str(path))
    L402(app)


def test_never_overwrites(tmp_path: Path) -> None:
    """A key that exists signs tokens that were paid for: it stays as it is."""
    path = tmp_path / "key"
    path.write_text("precious")
    code, out, err = run("--out", str(path))
    assert (code, out) == (1, "")
    assert err == f"Error: {path} exists, and a key is never overwritten\n"
    assert path.read_text() == "precious"


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    """A missing folder is told in one line."""
    code, out, err = run("--out", str(tmp_path / "none" / "key"))
    assert (code, out) == (1, "")
    assert err.endswith("No such file or directory\n")
    assert err.count("\n") == 1


def test_json(tmp_path: Path) -> None:
    """The document holds the secret, or the path of the file that does."""
    assert set(json.loads(run("--json")[1])) == {"secret_key"}
    path = str(tmp_path / "key")
    assert json.loads(run("--json", "--out", path)[1]) == {"path": path}
