"""Measure and print a table: ``python -m benchmarks [COMMAND]``.

Without a command it measures everything but Lightning and writes ``benchmarks/results``::

    quick       in less than a minute: a few rounds on SQLite
    lightning   on a real lnd, beside Aperture, which Go builds at first
    growth      as the tables grow to ten million rows (ROWS=… for fewer)
    memory      of a process that a million tokens pass (TOKENS=… for fewer)
    ablation    where the time of a paid repeat goes
    compare     set the ratios of the latest run against the baseline; never fails
    publish     make the latest runs the baseline, and write the tables and plots of the docs
"""

import os
import sys
import tempfile
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path

from benchmarks import (
    ablation,
    docs,
    growth,
    imports,
    in_process,
    lightning,
    memory,
    served,
    streams,
)
from benchmarks.backends import Backend, postgres_and_redis, sqlite
from benchmarks.results import BASELINE, LATEST, Effort, Row, Run, machine
from benchmarks.servers import Server

#: A round behind a server differs from the next by a tenth: many rounds bring out the ratio.
_LONG, _FULL, _QUICK = (Effort(rounds, seconds=1) for rounds in (20, 10, 3))
_SMALL = (Server("gthread", 1, 4), Server("granian", 1, 4))
_LARGE = (Server("gthread", 2, 4), Server("granian", 1, 4))


def measure(folder: Path) -> Iterator[Row]:
    """Measure all that needs no Lightning network."""
    backend = sqlite(folder)
    yield from imports.rows(_LONG)
    yield from in_process.rows(backend, _FULL)
    yield from in_process.flood(backend)
    yield from _served(_SMALL, backend, _LONG)
    yield from streams.rows(_SMALL[0], backend, _QUICK)
    with postgres_and_redis(folder) as large:
        if large is None:
            print("left out: PostgreSQL or Redis is not installed")
            return
        yield from in_process.rows(large, _FULL)
        yield from _served(_LARGE, large, _FULL)


def measure_quickly(folder: Path) -> Iterator[Row]:
    """Measure what tells soonest whether something got slower."""
    backend = sqlite(folder)
    yield from imports.rows(_QUICK)
    yield from in_process.rows(backend, _QUICK)
    yield from _served(_SMALL, backend, _QUICK)


def _served(servers: Iterable[Server], backend: Backend, effort: Effort) -> Iterator[Row]:
    for server in servers:
        if server.installed:
            yield from served.rows(server, backend, effort)
        else:
            print(f"left out: {server.kind} is not installed")


def run(measured: Iterable[Row], name: str) -> None:
    """Print rows as they come, and write them as JSON."""
    found = Run(machine(), load=[os.getloadavg()[0]])
    print(f"{found.machine}, load {found.load[0]:.1f}")
    for setting, rows in groupby(measured, key=lambda row: row.setting):
        print(setting, flush=True)
        for row in rows:
            print(row.line, flush=True)
            found.rows.append(row)
    found.load.append(os.getloadavg()[0])
    found.write(LATEST / f"{name}.json")
    print(f"load at the end {found.load[1]:.1f}")


def compare() -> None:
    """Print how the ratios of the latest run differ from the baseline's."""
    if not BASELINE.exists():
        print("there is no baseline yet: python -m benchmarks publish")
        return
    latest, baseline = Run.read(LATEST / "latest.json"), Run.read(BASELINE)
    print(f"baseline: {baseline.machine}\nlatest:   {latest.machine}, load {latest.load}")
    for row, before in latest.changes(baseline):
        change = f"{row.value / before - 1:+.0%}" if before else ""
        print(f"  {row.setting + ': ' + row.name:66} {before:7.2f} {row.value:7.2f} {change:>6}")


def main(command: str = "all") -> None:
    """Carry out one command."""
    if command == "compare":
        return compare()
    if command == "publish":
        return docs.publish()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if command == "ablation":
            run(ablation.rows(sqlite(folder)), "ablation")
        elif command == "growth":
            run(growth.rows(folder), "growth")
        elif command == "memory":
            run(memory.rows(sqlite(folder)), "memory")
        elif command == "lightning":
            run(lightning.rows(folder), "lightning")
        elif command in ("all", "quick"):
            run((measure if command == "all" else measure_quickly)(folder), "latest")
        else:
            raise SystemExit(__doc__)
    return None


if __name__ == "__main__":
    main(*sys.argv[1:])
