"""``flask l402 export``."""

import csv
import io
import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from flask import Flask
from support.books import buy, fill, use
from support.sales import NOW, sale, token_id

from l402.cli import cli
from l402.errors import StoreUnavailable
from l402.store import Store
from l402.store.export import Export, columns


@pytest.fixture
def store(app: Flask) -> Store:
    """The app's store, with an account for everything that can happen."""
    store: Store = app.extensions["l402"].store
    fill(store)
    return store


@pytest.fixture
def run(app: Flask) -> Callable[..., Result]:
    return lambda *arguments: app.test_cli_runner().invoke(cli, ["export", *arguments])


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_payments(store: Store, run: Callable[..., Result]) -> None:
    """Each payment is a line: RFC 4180, msat, moments in UTC, nothing for what is not there."""
    done = run("payments")
    assert (done.exit_code, done.stderr) == (0, "")
    lines = done.stdout_bytes.decode().split("\r\n")
    assert lines[0] == ",".join(columns("payments"))
    assert lines[-1] == ""
    assert "\n" not in "".join(lines)
    found = {row["token_id"]: row for row in rows(done.stdout_bytes.decode())}
    assert len(found) == 4
    one = found[token_id(1).hex()]
    assert one["presented_at"] == "2030-03-17T17:47:40.000000Z"
    assert (one["msat"], one["kind"], one["settled_at"]) == ("10000", "credit", "")


def test_usage(store: Store, run: Callable[..., Result]) -> None:
    """Each charged call is a line, with what was left after it."""
    found = rows(run("usage").stdout_bytes.decode())
    assert [list(row) for row in found] == [columns("usage")] * 3
    assert [(row["msat"], row["balance_after"], row["endpoint"]) for row in found] == [
        ("2000", "8000", "quote"), ("9500", "500", "quote"), ("2000", "0", "quote"),
    ]  # fmt: skip


def test_in_json(store: Store, run: Callable[..., Result]) -> None:
    """With --json each row is a document on a line of its own, with the columns for keys."""
    done = run("payments", "--json")
    assert done.exit_code == 0
    documents = [json.loads(line) for line in done.stdout.splitlines()]
    assert [list(document) for document in documents] == [columns("payments")] * 5
    plain = rows(run("payments").stdout_bytes.decode())
    assert [{name: "" if value is None else str(value) for name, value in each.items()}
            for each in documents] == plain  # fmt: skip
    assert documents[0]["msat"] == 10_000
    assert documents[0]["settled_at"] is None
    assert run("usage", "--json", "--service", "other").stdout == ""


def test_narrowed(store: Store, run: Callable[..., Result]) -> None:
    """A period and a service narrow what is written; nothing left is a heading alone."""
    store.payments.admit(sale(7, service="other"), NOW)
    assert len(rows(run("payments", "--since", str(int(NOW.timestamp()))).stdout)) == 5
    assert len(rows(run("payments", "--until", str(int(NOW.timestamp()))).stdout)) == 1
    assert len(rows(run("payments", "--service", "other").stdout)) == 1
    assert run("usage", "--service", "other").stdout_bytes.decode() == (
        ",".join(columns("usage")) + "\r\n"
    )
    assert run("usage", "--since", "yesterday").exit_code == 2
    assert run("challenges").exit_code == 2


@pytest.mark.parametrize("endpoint", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_formulas(store: Store, run: Callable[..., Result], endpoint: str) -> None:
    """What a spreadsheet would compute is text in it; what has commas and quotes survives."""
    buy(store, 5)
    use(store, 5, endpoint=endpoint)
    use(store, 5, endpoint='a,"b"\nc')
    found = rows(run("usage").stdout_bytes.decode())
    assert [row["endpoint"] for row in found[-2:]] == [f"'{endpoint}", 'a,"b"\nc']


def test_to_a_file(store: Store, run: Callable[..., Result], tmp_path: Path) -> None:
    """A file gets what the screen would, replaces an older one, and is its owner's alone."""
    path = tmp_path / "payments.csv"
    for _ in range(2):
        done = run("payments", "--output", str(path))
        assert (done.exit_code, done.output) == (0, "")
        assert path.read_bytes() == run("payments").stdout_bytes
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.write_text("older")
    (tmp_path / "link.csv").symlink_to(path)
    assert run("usage", "--output", str(tmp_path / "link.csv")).exit_code == 0
    assert (tmp_path / "link.csv").is_symlink()
    assert path.read_bytes() == run("usage").stdout_bytes


@pytest.mark.parametrize("fault", [StoreUnavailable("it is gone"), OSError(28, "disk full")])
def test_whole_or_not_at_all(
    store: Store, run: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    fault: Exception,
) -> None:  # fmt: skip
    """What fails half-way leaves the file as it was, and nothing beside it."""

    def broken(self: Export, *_: Any, **__: Any) -> Any:
        yield from real(self, "payments")
        raise fault

    real = Export.rows
    monkeypatch.setattr(Export, "rows", broken)
    (tmp_path / "out").mkdir()
    path = tmp_path / "out" / "payments.csv"
    path.write_text("older")
    done = run("payments", "--output", str(path))
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert path.read_text() == "older"
    assert list(path.parent.iterdir()) == [path]


def test_where_nothing_can_be_written(
    store: Store, run: Callable[..., Result], tmp_path: Path
) -> None:
    """A path that cannot be a file fails in one line, and what is there stays."""
    os.mkfifo(tmp_path / "pipe")
    missing = run("payments", "--output", str(tmp_path / "missing" / "payments.csv"))
    pipe = run("payments", "--output", str(tmp_path / "pipe"))
    for done in (missing, pipe):
        assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    assert run("payments", "--output", str(tmp_path)).exit_code == 2


def test_progress(store: Store, run: Callable[..., Result], tmp_path: Path) -> None:
    """Progress is told when it is asked for, on stderr alone."""
    done = run("payments", "--progress")
    assert done.stderr.startswith("payments: 5 rows, ")
    assert done.stdout_bytes == run("payments", "--no-progress").stdout_bytes
    assert run("payments").stderr == run("payments", "--no-progress").stderr == ""


def test_a_reader_that_goes_away(store: Store, database: str, tmp_path: Path) -> None:
    """When who reads the output closes it, the command ends and says nothing."""
    for number in range(100, 1100):
        store.payments.admit(sale(number), NOW)
    (tmp_path / "app.py").write_text(
        "from flask import Flask\n"
        "from l402 import L402\n"
        "app = Flask('shop')\n"
        "app.config.from_prefixed_env()\n"
        "L402(app)\n"
    )
    environment = {name: value for name, value in os.environ.items() if "FLASK" not in name} | {
        "FLASK_L402_NODE": "simulated:", "FLASK_L402_SIMULATED": "true",
        "FLASK_L402_SECRET_KEY": "0123456789abcdef" * 4, "FLASK_L402_DATABASE_URL": database,
    }  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "flask", "l402", "export", "payments"],
        cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline().startswith(b"presented_at,")
    process.stdout.close()
    assert process.stderr is not None
    said = process.stderr.read().decode()
    process.stderr.close()
    assert process.wait(60) in (0, 1)
    assert [line for line in said.splitlines() if "simulated" not in line] == []
