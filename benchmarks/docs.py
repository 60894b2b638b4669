"""The tables and plots of ``docs/performance.md``, and the baseline, from the latest runs."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from benchmarks.plots import Groups, bars
from benchmarks.results import BASELINE, HERE, LATEST, Row, Run

DOCS = HERE.parent / "docs"
_BEGIN, _END = "<!-- measured: begin -->\n", "<!-- measured: end -->\n"
_SOLD = ("bare", "pass", "credit", "first presentation", "challenge")


def publish() -> None:
    """Write the baseline, the page's tables and the plots; a run that was not made is left out."""
    runs = [Run.read(path) for name in ("latest", "lightning") if (path := _path(name)).exists()]
    whole = Run(runs[0].machine, [load for run in runs for load in run.load])
    whole.rows = [row for run in runs for row in run.rows]
    whole.write(BASELINE)
    _write_tables(DOCS / "performance.md", whole)
    for name, plot in _plots(whole):
        (DOCS / name).write_text(plot)


def _path(name: str) -> Path:
    return LATEST / f"{name}.json"


def _write_tables(page: Path, run: Run) -> None:
    before, _, rest = page.read_text().partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not end:
        raise SystemExit(f"{page.name} has no place for the tables: {_BEGIN}{_END}")
    load = f"{min(run.load):.1f} to {max(run.load):.1f}"
    head = f"Measured on {run.machine}; load average {load}.\n"
    content = "\n".join((head, *_tables(run)))
    page.write_text(f"{before}{_BEGIN}{content}{_END}{after}")


def _tables(run: Run) -> Iterator[str]:
    """Yield each kind of setting as a table of its own, and last what was to be reached."""
    settings = dict.fromkeys(row.setting for row in run.rows)
    sales = [setting for setting in settings if run.value(setting, "pass / bare") is not None]
    for unit in ("µs", "/s"):
        group = [s for s in sales if any(r.unit == unit for r in run.of(s) if r.name == "bare")]
        if group:
            yield _table(f"{unit}, and times the bare view's", _SOLD, _sales(run, group))
    for setting in settings:
        if setting not in sales and len(run.of(setting)) > 3:
            yield _table(setting, ("",), ([r.name, _figure(r)] for r in run.of(setting)))
    bound = (row for row in run.rows if row.target)
    yield _table("what", ("measured", "to be reached"), map(_reached, bound))


def _table(head: str, columns: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    names = [head, *columns]
    lines = [names, ["---"] * len(names), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _sales(run: Run, settings: Iterable[str]) -> Iterator[list[str]]:
    for setting in settings:
        cells = [f"{run.value(setting, name):,.0f}" for name in _SOLD]
        parts = [f" ({run.value(setting, f'{name} / bare'):.2f})" for name in _SOLD[1:]]
        yield [setting, *map(str.__add__, cells, ["", *parts])]


def _reached(row: Row) -> list[str]:
    bound = row.target.replace("<=", "≤").replace(">=", "≥")
    return [f"{row.setting}: {row.name}", _figure(row), bound if row.met else f"{bound}, missed"]


def _figure(row: Row) -> str:
    return f"{row.value:,.0f} {row.unit}" if row.unit else f"{row.value:.2f}"


def _plots(run: Run) -> Iterator[tuple[str, str]]:
    titles = {
        "µs": "Time of one request within the process (times the bare view's)",
        "/s": "Requests per second over 8 connections (part of the first bar)",
    }
    for unit, name in (("µs", "calls"), ("/s", "served")):
        groups = _groups(run, unit)
        if groups:
            yield f"performance-{name}.svg", bars(titles[unit], unit, groups)


def _groups(run: Run, unit: str) -> Groups:
    """Return what was measured in this unit, by its setting; streams are counted in words."""
    groups: dict[str, dict[str, float]] = {}
    for row in run.rows:
        if row.unit == unit and (unit == "/s" or row.name in _SOLD) and " words" not in row.setting:
            groups.setdefault(row.setting, {})[row.name] = row.value
    return groups
