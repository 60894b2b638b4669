"""Servers of the app, each in processes of its own: gunicorn's gthread, and granian."""

import importlib.util
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from support.daemons import free_port

from benchmarks.backends import Backend

_READY = 60  # seconds
_END = 30


class Server(NamedTuple):
    """A kind of server: its workers, and each worker's threads."""

    kind: str
    workers: int
    threads: int

    @property
    def name(self) -> str:
        """What to call it."""
        return f"{self.kind} {self.workers}x{self.threads}"

    @property
    def installed(self) -> bool:
        """Whether this environment has it."""
        return importlib.util.find_spec(self._package) is not None

    @contextmanager
    def serve(self, backend: Backend, **told: object) -> Iterator[str]:
        """Serve ``benchmarks.shop`` and yield the address; `told` are its ``BENCH_…``."""
        port = free_port()
        given = {f"BENCH_{name.upper()}": str(value) for name, value in told.items()}
        process = subprocess.Popen(
            [sys.executable, "-m", self._package, *self._options(port)],
            env=os.environ | backend.environment | given,
        )
        try:
            address = f"http://127.0.0.1:{port}"
            _await(f"{address}/bare", process)
            yield address
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(_END)

    @property
    def _package(self) -> str:
        return "gunicorn" if self.kind == "gthread" else self.kind

    def _options(self, port: int) -> list[str]:
        workers, threads = str(self.workers), str(self.threads)
        if self.kind == "gthread":
            return [
                "--bind", f"127.0.0.1:{port}", "--worker-class", "gthread", "--workers", workers,
                "--threads", threads, "--log-level", "error", "--no-control-socket",
                "benchmarks.shop:served_app()",
            ]  # fmt: skip
        return [
            "--host", "127.0.0.1", "--port", str(port), "--interface", "wsgi", "--http", "1",
            "--no-ws", "--workers", workers, "--blocking-threads", threads,
            "--log-level", "error", "--factory", "benchmarks.shop:served_app",
        ]  # fmt: skip


def _await(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _READY
    while time.monotonic() < deadline and process.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=5).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise SystemExit(f"{process.args!r} did not start")
