"""The example API under gunicorn, as a demonstration runs it."""
# ruff: noqa: S603, T201

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from narration import DemoFailed, expect
from sqlalchemy import create_engine, text

ROOT = Path(__file__).resolve().parents[1]
PORT = int(os.environ.get("PORT") or 5402)
_DEADLINE = 30.0  # seconds for the server to answer at all
_GUNICORN = (
    f"--bind 127.0.0.1:{PORT} --worker-class gthread --threads 4"
    " --graceful-timeout 5 --log-level warning"
)
_ROW = text(
    "SELECT token_id, payment_hash, service, endpoint, msat, rate, presented_at, ends_at, status"
    " FROM l402_payment WHERE payment_hash = :payment_hash"
)


def check_port() -> None:
    """Raise if somebody listens already where the example will."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", PORT))
        except OSError as error:
            raise DemoFailed(f"port {PORT} is taken; name another: PORT=…") from error


class Example:
    """The example with an environment of its own; ``PORT`` is where it listens (5402)."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.url = f"http://127.0.0.1:{PORT}"
        self._environment = {**environment, "PORT": str(PORT)}  # for `flask l402 wallet`

    def flask(self, *arguments: str) -> str:
        """Run the flask command on the example; return what it printed."""
        done = subprocess.run(
            [sys.executable, "-m", "flask", "--app", "app", *arguments],
            cwd=ROOT,
            env=self._environment,
            capture_output=True,
            text=True,
        )
        expect(done.returncode == 0, f"flask {' '.join(arguments)} succeeds:\n{done.stderr}")
        return done.stdout

    def get(self, path: str, **headers: str) -> httpx.Response:
        """Send a GET, past any proxy that the environment names."""
        return httpx.get(f"{self.url}{path}", headers=headers, trust_env=False)

    def events(self, path: str, **headers: str) -> Iterator[str]:
        """Yield the data of server-sent events as they come in."""
        with httpx.stream("GET", f"{self.url}{path}", headers=headers, trust_env=False) as answer:
            expect(answer.status_code == 200, f"{path} streams: {answer.status_code}")
            for line in answer.iter_lines():
                if line.startswith("data: "):
                    yield line.removeprefix("data: ")

    def sales(self, payment_hash: str) -> list[dict[str, Any]]:
        """Return the rows that its database has of a payment."""
        default = f"sqlite:///{ROOT}/instance/l402.db"
        engine = create_engine(self._environment.get("FLASK_L402_DATABASE_URL") or default)
        with engine.connect() as connection:
            rows = connection.execute(_ROW, {"payment_hash": payment_hash}).mappings().all()
        engine.dispose()
        return [dict(row) for row in rows]

    @contextmanager
    def serving(self) -> Iterator[subprocess.Popen[bytes]]:
        """Migrate, start the server, and stop it at the end."""
        check_port()
        self.flask("l402", "upgrade")
        server = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", *_GUNICORN.split(), "app:create_app()"],
            cwd=ROOT,
            env=self._environment,
            start_new_session=True,  # Ctrl-C is for us; the server is told once, in the end
        )
        try:
            self._await_answer(server)
            print(f"The example API answers on {self.url}.")
            yield server
        finally:
            server.terminate()
            server.wait(timeout=_DEADLINE)

    def _await_answer(self, server: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + _DEADLINE
        while server.poll() is None and time.monotonic() < deadline:
            try:
                self.get("/")
            except httpx.TransportError:
                time.sleep(0.1)
            else:
                return
        raise DemoFailed("the server did not start")
