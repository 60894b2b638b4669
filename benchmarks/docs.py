"""The tables and plots of ``docs/performance.md``, and the baseline, from the latest runs."""

from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path

from benchmarks.plots import Groups, bars
from benchmarks.results import BASELINE, HERE, LATEST, Row, Run

_DOCS = HERE.parent / "docs"
_BEGIN, _END = "<!-- measured: begin -->\n", "<!-- measured: end -->\n"
_SOLD = ("bare", "pass", "credit", "first presentation", "challenge")


def publish() -> None:
    """Write the baseline, the page's tables and the plots; a run that was not made is left out."""
    runs = [Run.read(path) for name in ("latest", "lightning") if (path := _path(name)).exists()]
    whole = Run(runs[0].machine, [load for run in runs for load in run.load])
    whole.rows = [row for run in runs for row in run.rows]
    whole.write(BASELINE)
    _write_tables(_DOCS / "performance.md", whole)
    for name, plot in _plots(whole):
        (_DOCS / name).write_text(plot)


def _path(name: str) -> Path:
    return LATEST / f"{name}.json"


def _write_tables(page: Path, run: Run) -> None:
    before, _, rest = page.read_text().partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not end:
        raise SystemExit(f"{page.name} has no place for the tables: {_BEGIN}{_END}")
    load = f"{min(run.load):.1f} to {max(run.load):.1f}"
    head = f"Measured on {run.machine}; load average {load}.\n"
    tables = "\n".join(_table(setting, rows) for setting, rows in _settings(run.rows))
    page.write_text(f"{before}{_BEGIN}{head}\n{tables}{_END}{after}")


def _settings(rows: Iterable[Row]) -> Iterator[tuple[str, list[Row]]]:
    for setting, group in groupby(rows, key=lambda row: row.setting):
        yield setting, list(group)


def _table(setting: str, rows: Iterable[Row]) -> str:
    lines = [f"| {setting} | | target |", "|---|---|---|"]
    for row in rows:
        figure = f"{row.value:,.2f}" if not row.unit else f"{row.value:,.0f} {row.unit}"
        bound = row.target.replace("<=", "≤").replace(">=", "≥")
        lines.append(f"| {row.name} | {figure} | {bound}{'' if row.met else ', missed'} |")
    return "\n".join(lines) + "\n"


def _plots(run: Run) -> Iterator[tuple[str, str]]:
    settings = dict.fromkeys(row.setting for row in run.rows)
    calls = _groups(run, [s for s in settings if s.startswith("in process")], "µs")
    served = _groups(run, [s for s in settings if " stream " not in s], "/s")
    if calls:
        title = "One request within the process, times the bare view's in brackets"
        yield "performance-calls.svg", bars(title, "µs", calls)
    if served:
        title = "Requests per second over 8 connections, part of the bare view's in brackets"
        yield "performance-served.svg", bars(title, "/s", served)


def _groups(run: Run, settings: Iterable[str], unit: str) -> Groups:
    """Return what each setting measured in this unit, in the order of its rows."""
    groups = {
        setting: {r.name: r.value for r in run.rows if (r.setting, r.unit) == (setting, unit)}
        for setting in settings
    }
    return {
        setting: {name: value for name, value in group.items() if name in _SOLD or unit == "/s"}
        for setting, group in groups.items()
        if group
    }
