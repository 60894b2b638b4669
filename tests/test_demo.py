"""``make demo``: the steps that it shows, and how it ends."""

import os
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support.daemons import free_port

_ROOT = Path(__file__).parents[1]
_WITHIN = 60  # seconds


@pytest.fixture
def demo(tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """Starts the demonstration, with a database and a secret of the test's own."""

    def start(**environment: str) -> subprocess.Popen[str]:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("FLASK_")}
        ours = {
            "APP_CONFIG": "development",
            "PORT": str(free_port()),
            "FLASK_L402_DATABASE_URL": f"sqlite:///{tmp_path / 'l402.db'}",
            "FLASK_L402_SECRET_KEY": secrets.token_hex(32),
        }
        return subprocess.Popen(
            [sys.executable, "tools/demo.py"],
            cwd=_ROOT,
            env=inherited | ours | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


def test_once(demo):
    """With ONCE=1 it ends after the last step, with success."""
    with demo(ONCE="1") as shown:
        said, complaints = shown.communicate(timeout=_WITHIN)
    assert shown.returncode == 0, complaints
    assert "the client pays the invoice (10 sat)" in said
    assert said.count("the client pays the invoice (200 sat)") == 2
    assert "0.02 USD are 20 sat" in said
    assert "the client pays the invoice (20 sat)" in said
    assert said.count("the client pays the invoice (500 sat)") == 1
    assert "A day on Venus is longer than its year." in said
    assert "24 words cost 2.4 sat; 497.5 sat are left" in said
    assert "the books agree" in said
    assert said.endswith("Every step went as it should.\n")


def test_a_step_that_differs(demo):
    """A step that goes otherwise is named, and the code is not zero."""
    with demo(ONCE="1", FLASK_L402_CHALLENGE_LIMIT="1/hour") as shown:
        _, complaints = shown.communicate(timeout=_WITHIN)
    assert shown.returncode == 1
    assert "This step went wrong: expected that http://127.0.0.1:" in complaints


def test_port_taken(demo):
    """A port that is taken is named, with what to do."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with demo(PORT=str(port)) as shown:
            _, complaints = shown.communicate(timeout=_WITHIN)
    assert shown.returncode == 1
    assert complaints == f"demo: port {port} is taken; name another: PORT=…\n"


def test_interrupted(demo):
    """It serves until Ctrl-C, and leaves no server behind."""
    port = free_port()
    with demo(PORT=str(port)) as shown:
        assert any(line.startswith("Serving on") for line in shown.stdout)
        socket.create_connection(("127.0.0.1", port)).close()
        shown.send_signal(signal.SIGINT)
        _, complaints = shown.communicate(timeout=_WITHIN)
    assert shown.returncode == 0, complaints
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
