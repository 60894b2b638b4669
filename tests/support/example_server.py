"""The example under gunicorn, as it would be deployed, with a database and a secret of its own."""

import json
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

from l402.store import migrate

_ROOT = Path(__file__).parents[2]
_SERVER = ["app:create_app()", "-k", "gthread", "-w", "1", "--threads", "4"]
#: Browsers hold connections open that would delay the end; the control socket is the user's.
_SERVER += ["--graceful-timeout", "1", "--no-control-socket"]
_START = 60  # seconds
_COMMAND = 60  # seconds


class ExampleServer:
    """One server on one port; the port stays open while the process behind it is replaced."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._database = f"sqlite:///{folder / 'l402.db'}"
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._process: subprocess.Popen[bytes] | None = None
        migrate.upgrade(self._database)
        self.start()

    def start(self) -> None:
        """Start with a fresh secret and wait for the first answer."""
        self._secret = secrets.token_hex(32)
        self._wallet: tuple[str, str] | None = None
        listener = self._listener.fileno()
        with (self._folder / "gunicorn.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "gunicorn", *_SERVER, "-b", f"fd://{listener}"],
                cwd=_ROOT,
                env=self._environment(),
                pass_fds=[listener],
                stdout=log,
                stderr=log,
            )
        self._await_answer()

    def stop(self) -> None:
        """End the process; the port stays ours."""
        if self._process:
            self._process.terminate()
            self._process.wait(_COMMAND)

    def close(self) -> None:
        """End the process and give up the port."""
        self.stop()
        self._listener.close()

    def remove_key(self) -> None:
        """Start anew with another secret, and without the one before."""
        self.stop()
        self.start()

    def revoke(self, payment_hash: bytes) -> None:
        """Revoke what was bought by a payment, as an operator would."""
        self.command("revoke", payment_hash.hex())

    def wallet(self) -> tuple[str, str]:
        """Return the address and the macaroon, in hex, of the stand-in wallet, an lnd to clients.

        The macaroon changes with the key.
        """
        if self._wallet is None:
            port = str(self._listener.getsockname()[1])
            told = json.loads(self.command("wallet", "--port", port, "--json"))
            self._wallet = told["rest"], told["macaroon_hex"]
        return self._wallet

    def command(self, *arguments: str) -> str:
        """Run ``flask l402`` on the server's database and return what it printed."""
        done = subprocess.run(
            [sys.executable, "-m", "flask", "--app", "app", "l402", *arguments],
            cwd=_ROOT,
            env=self._environment(),
            capture_output=True,
            text=True,
            timeout=_COMMAND,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def _environment(self) -> dict[str, str]:
        ours: dict[str, Any] = {
            "APP_CONFIG": "development",
            "FLASK_L402_DATABASE_URL": self._database,
            "FLASK_L402_SECRET_KEY": self._secret,
            # Nothing here is about limits, and the tests ask often while they wait.
            "FLASK_L402_RATE_LIMIT": "100000/minute",
            "FLASK_L402_CHALLENGE_LIMIT": "1000000/minute",
            "FLASK_L402_CHALLENGE_LIMIT_TOTAL": "1000000/minute",
        }
        return {k: v for k, v in os.environ.items() if not k.startswith("FLASK_")} | ours

    def _await_answer(self) -> None:
        # The open port queues whoever comes early, so each try waits by itself.
        end = time.monotonic() + _START
        while time.monotonic() < end:
            assert self._process is not None
            assert self._process.poll() is None, (self._folder / "gunicorn.log").read_text()
            try:
                urlopen(self.url, timeout=1).close()
            except (TimeoutError, URLError):
                continue
            return
        raise AssertionError(f"no answer:\n{(self._folder / 'gunicorn.log').read_text()}")


@contextmanager
def example_server(folder: Path) -> Iterator[ExampleServer]:
    """Run an `ExampleServer` for the length of a block."""
    server = ExampleServer(folder)
    try:
        yield server
    finally:
        server.close()
