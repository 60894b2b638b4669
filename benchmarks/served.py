"""Requests per second behind gunicorn (gthread, 1 worker of 4 threads), asked by wrk."""

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

_ROUNDS, _SECONDS, _CONNECTIONS = 5, 3, 8


def rows() -> Iterator[tuple[str, float, str, str]]:
    """Yield measurements: name, value, unit, target; the ratio is the median of the rounds'."""
    wrk = shutil.which("wrk")
    if wrk is None:
        raise SystemExit("make bench needs wrk: apt-get install wrk")
    authorization = paid_token(create_app(LND))
    with _gunicorn() as address:
        bare, paid = [], []
        for _ in range(_ROUNDS):
            bare.append(_ask(wrk, f"{address}/bare"))
            paid.append(_ask(wrk, f"{address}/paid", authorization))
    yield "gunicorn gthread 1x4, bare view", statistics.median(bare), "/s", ""
    yield "gunicorn gthread 1x4, paid repeat", statistics.median(paid), "/s", ""
    ratio = statistics.median(p / b for p, b in zip(paid, bare, strict=True))
    yield "gunicorn gthread 1x4, paid repeat / bare", ratio, "", ">= 0.85"


def _ask(wrk: str, url: str, authorization: str | None = None) -> float:
    header = ["-H", f"Authorization: {authorization}"] if authorization else []
    command = [wrk, "-t1", f"-c{_CONNECTIONS}", f"-d{_SECONDS}s", *header, url]
    out = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    if "Non-2xx" in out:
        raise SystemExit(f"{url} was refused:\n{out}")
    found = re.search(r"Requests/sec:\s+([\d.]+)", out)
    assert found, out
    return float(found[1])


@contextmanager
def _gunicorn() -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = [
        sys.executable, "-m", "gunicorn", "--bind", address, "--worker-class", "gthread",
        "--workers", "1", "--threads", "4", "--log-level", "error",
        f"benchmarks.shop:create_app({LND!r})",
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
