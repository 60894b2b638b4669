"""Load on a server, by wrk over eight connections."""

import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

CONNECTIONS = 8
_MS = {"us": 0.001, "ms": 1.0, "s": 1000.0}
_TOKENS = Path(__file__).with_name("tokens.lua")


class Load(NamedTuple):
    """What came of it: answers per second, and the 99th percentile of their times in ms."""

    rate: float
    slowest: float


def ask(url: str, seconds: int, authorization: str | None = None, *, refused: bool = False) -> Load:
    """Ask again and again; with `refused`, no request may be served, else all must be."""
    return _wrk(url, seconds, _header(authorization), refused)


def present(url: str, seconds: int, tokens: Sequence[str]) -> Load:
    """Show a new Authorization with each request; all must be served."""
    with tempfile.NamedTemporaryFile("w") as file:
        file.write("\n".join(tokens))
        file.flush()
        return _wrk(url, seconds, ["-s", str(_TOKENS)], False, [file.name])


def in_turn(rounds: int, slices: dict[str, Callable[[], Load]]) -> dict[str, list[Load]]:
    """Measure each slice once a round, so that the machine's moods meet all of them.

    Each round goes the other way round: none always comes behind the same one.
    """
    found: dict[str, list[Load]] = {name: [] for name in slices}
    order = list(slices)
    for _ in range(rounds):
        for name in order:
            found[name].append(slices[name]())
        order.reverse()
    return found


def _header(authorization: str | None) -> list[str]:
    return ["-H", f"Authorization: {authorization}"] if authorization else []


def _wrk(
    url: str, seconds: int, options: list[str], refused: bool, arguments: Sequence[str] = ()
) -> Load:
    wrk = shutil.which("wrk")
    if wrk is None:
        raise SystemExit("the benchmarks need wrk: apt-get install wrk")
    command = [wrk, "--latency", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", *options, url]
    run = subprocess.run(
        [*command, "--", *arguments], capture_output=True, text=True, check=True, timeout=60
    )
    out = run.stdout
    answered, rate = int(_found(r"(\d+) requests in", out)), float(_found(r"/sec:\s+([\d.]+)", out))
    others = int(_found(r"Non-2xx.*: (\d+)", out)) if "Non-2xx" in out else 0
    if not answered or others != (answered if refused else 0):
        raise SystemExit(f"{url} was not answered as expected:\n{out}")
    slowest = float(_found(r"99%\s+([\d.]+)", out)) * _MS[_found(r"99%\s+[\d.]+(us|ms|s)", out)]
    return Load(rate, slowest)


def _found(pattern: str, said: str) -> str:
    found = re.search(pattern, said)
    if found is None:
        raise SystemExit(f"wrk did not say {pattern}:\n{said}")
    return found[1]
