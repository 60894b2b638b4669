"""Requests per second behind gunicorn (gthread, 1 worker), asked by wrk."""

import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.shop import LND, create_app, paid_token

_ROUNDS, _SECONDS, _CONNECTIONS, _THREADS = 5, 3, 8, 4
_MS = {"us": 0.001, "ms": 1.0, "s": 1000.0}


def rows() -> Iterator[tuple[str, float, str, str]]:
    """Yield measurements: name, value, unit, target; the ratio is the median of the rounds'."""
    authorization = paid_token(create_app(LND))
    with gunicorn(f"create_app({LND!r})", _THREADS) as address:
        bare, paid = [], []
        for _ in range(_ROUNDS):
            bare.append(ask(f"{address}/bare", _SECONDS)[0])
            paid.append(ask(f"{address}/paid", _SECONDS, authorization)[0])
    yield "gunicorn gthread 1x4, bare view", statistics.median(bare), "/s", ""
    yield "gunicorn gthread 1x4, paid repeat", statistics.median(paid), "/s", ""
    ratio = statistics.median(p / b for p, b in zip(paid, bare, strict=True))
    yield "gunicorn gthread 1x4, paid repeat / bare", ratio, "", ">= 0.85"


def ask(
    url: str, seconds: int, authorization: str | None = None, *, refused: bool = False
) -> tuple[float, float]:
    """Ask over eight connections; return the rate per second and the 99th percentile in ms.

    With `refused`, no request may be served; else all must be.
    """
    header = ["-H", f"Authorization: {authorization}"] if authorization else []
    command = [_wrk(), "--latency", "-t1", f"-c{_CONNECTIONS}", f"-d{seconds}s", *header, url]
    out = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    answered, rate = int(_found(r"(\d+) requests in", out)), float(_found(r"/sec:\s+([\d.]+)", out))
    others = int(_found(r"Non-2xx.*: (\d+)", out)) if "Non-2xx" in out else 0
    if others != (answered if refused else 0):
        raise SystemExit(f"{url} was not answered as expected:\n{out}")
    slowest = float(_found(r"99%\s+([\d.]+)", out)) * _MS[_found(r"99%\s+[\d.]+(us|ms|s)", out)]
    return rate, slowest


def _found(pattern: str, said: str) -> str:
    found = re.search(pattern, said)
    if found is None:
        raise SystemExit(f"wrk did not say {pattern}:\n{said}")
    return found[1]


def _wrk() -> str:
    wrk = shutil.which("wrk")
    if wrk is None:
        raise SystemExit("make bench needs wrk: apt-get install wrk")
    return wrk


@contextmanager
def gunicorn(app: str, threads: int) -> Iterator[str]:
    """Serve what the call `app` of ``benchmarks.shop`` returns; yield the address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = [
        sys.executable, "-m", "gunicorn", "--bind", address, "--worker-class", "gthread",
        "--workers", "1", "--threads", str(threads), "--log-level", "error",
        "--no-control-socket", f"benchmarks.shop:{app}",
    ]  # fmt: skip
    server = subprocess.Popen(command)
    try:
        _await(f"http://{address}/bare", server)
        yield f"http://{address}"
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(30)


def _await(url: str, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and server.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=5).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise SystemExit("gunicorn did not start")
