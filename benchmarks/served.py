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
from l402.protocol.token import CREDIT

_ROUNDS, _SECONDS, _CONNECTIONS, _THREADS = 5, 3, 8, 4
_MS = {"us": 0.001, "ms": 1.0, "s": 1000.0}


def rows() -> Iterator[tuple[str, float, str, str]]:
    """Yield measurements: name, value, unit, target; ratios are the medians of the rounds'."""
    app = create_app(LND)
    holders = {"/bare": None, "/paid": paid_token(app), "/call": paid_token(app, CREDIT, 10**12)}
    found: dict[str, list[tuple[float, float]]] = {path: [] for path in holders}
    with gunicorn(f"create_app({LND!r})", _THREADS) as address:
        for _ in range(_ROUNDS):  # in turn, so that the machine's moods meet all of them
            for path, authorization in holders.items():
                found[path].append(ask(f"{address}{path}", _SECONDS, authorization))
    names = {"/bare": "bare view", "/paid": "paid repeat", "/call": "credit call"}
    for path, name in names.items():
        rate = statistics.median(rate for rate, _ in found[path])
        yield f"gunicorn gthread 1x4, {name}", rate, "/s", ""
    yield from _ratio("paid repeat / bare", found["/paid"], found["/bare"], 0, ">= 0.85")
    yield from _ratio("credit call / bare", found["/call"], found["/bare"], 0, ">= 0.4")
    yield from _ratio("credit call / bare, p99", found["/call"], found["/bare"], 1, "<= 5")


def _ratio(
    name: str,
    ours: list[tuple[float, float]],
    bare: list[tuple[float, float]],
    figure: int,
    target: str,
) -> Iterator[tuple[str, float, str, str]]:
    ratio = statistics.median(o[figure] / b[figure] for o, b in zip(ours, bare, strict=True))
    yield f"gunicorn gthread 1x4, {name}", ratio, "", target


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
