"""``make demo-lightning``: a sale over a real channel, and nothing left of it."""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from support.daemons import await_that, free_port

pytestmark = pytest.mark.lightning

ROOT = Path(__file__).parents[2]
WITHIN = 180  # seconds


def demo(folder, **environment):
    """Start it; what it writes to disk is in `folder`."""
    inherited = {k: v for k, v in os.environ.items() if k not in ("ONCE", "PYTHONPATH")}
    ours = {"PORT": str(free_port()), "PYTHONPATH": "tests", "TMPDIR": str(folder)}
    return subprocess.Popen(
        [sys.executable, "tools/demo_lightning.py"],
        cwd=ROOT,
        env=inherited | ours | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def running_in(folder):
    """Return the command lines that name `folder`."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it may have ended
            found.append(path.read_text(errors="replace"))
    return [line for line in found if str(folder) in line]


def test_until_interrupted(tmp_path):
    """The lnd of the seller confirms the sale; after Ctrl-C nothing runs and nothing is left."""
    with demo(tmp_path) as shown:
        said = ""
        while "Serving on" not in said:
            line = shown.stdout.readline()
            assert line, said + shown.stderr.read()
            said += line
        assert len(running_in(tmp_path)) == 3, "btcd and two lnd"
        shown.send_signal(signal.SIGINT)
        _, complaints = shown.communicate(timeout=WITHIN)
    assert shown.returncode == 0, complaints
    assert "the client pays the invoice (10 sat)" in said
    assert "payments that alice's lnd made: 1; received by bob's: 10 sat" in said
    assert running_in(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_interrupted_at_the_start(tmp_path):
    """Ended while its nodes start, it leaves nothing either."""
    with demo(tmp_path) as shown:
        await_that("the first node", lambda: running_in(tmp_path))
        shown.send_signal(signal.SIGTERM)
        _, complaints = shown.communicate(timeout=WITHIN)
    assert shown.returncode == 130, complaints
    assert running_in(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_go_is_missing(tmp_path):
    """Without Go it says what to install, in one line."""
    nowhere = {"PATH": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    with demo(tmp_path, **nowhere) as shown:
        _, complaints = shown.communicate(timeout=WITHIN)
    assert shown.returncode == 1
    assert complaints == ("demo: Go is missing: install Go 1.25.10 or newer and put it on PATH\n")
