"""The tables and plots of the docs and the README, and the baseline, from the latest runs."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from benchmarks.plots import bars
from benchmarks.results import BASELINE, HERE, LATEST, Row, Run

DOCS = HERE.parent / "docs"
README = HERE.parent / "README.md"
#: The runs that there are, by the names of their files.
_RUNS = ("latest", "lightning", "growth", "memory", "ablation")
_BEGIN, _END = "<!-- measured: begin -->\n", "<!-- measured: end -->\n"
_SOLD = ("bare", "pass", "credit", "first presentation", "challenge")


def publish() -> None:
    """Write the baseline, the pages' tables and the plots; a run that was not made is left out."""
    runs = [Run.read(path) for name in _RUNS if (path := LATEST / f"{name}.json").exists()]
    whole = Run(runs[0].machine, [load for run in runs for load in run.load])
    whole.rows = [row for run in runs for row in run.rows]
    whole.write(BASELINE)
    plots = (f"![{title}]({name})\n" for name, title, _ in _plots(whole))
    _write(DOCS / "performance.md", whole, [*_tables(whole), *plots])
    _write(README, whole, [_goals(whole)])
    for name, _, plot in _plots(whole):
        (DOCS / name).write_text(plot)


def _write(page: Path, run: Run, parts: Iterable[str]) -> None:
    before, _, rest = page.read_text().partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not end:
        raise SystemExit(f"{page.name} has no place for the tables: {_BEGIN}{_END}")
    load = f"{min(run.load):.1f} to {max(run.load):.1f}"
    head = f"Measured on {run.machine}; load average {load}.\n"
    content = "\n".join((head, *parts))
    page.write_text(f"{before}{_BEGIN}{content}{_END}{after}")


def _tables(run: Run) -> Iterator[str]:
    """Yield each kind of setting as a table of its own, and last what was to be reached."""
    sales = [setting for setting in run.settings if run.value(setting, "pass / bare") is not None]
    for unit in ("µs", "/s"):
        group = [s for s in sales if any(r.unit == unit for r in run.of(s) if r.name == "bare")]
        if group:
            yield _table(f"{unit}, and times the bare view's", _SOLD, _sales(run, group))
    for setting in run.settings:
        if setting.startswith("growth"):
            yield _growth(run, setting)
        elif setting not in sales and len(run.of(setting)) > 3:
            yield _table(setting, ("",), ([r.name, _figure(r)] for r in run.of(setting)))
    yield _goals(run)


def _growth(run: Run, setting: str) -> str:
    """Return what each work took in each record, and how many times what it took in the first."""
    timed = [row.name.rpartition(", ") for row in run.of(setting) if row.unit == "ms"]
    sizes = list(dict.fromkeys(rows for _, _, rows in timed))
    first = sizes[0]

    def cell(work: str, rows: str) -> str:
        taken = f"{run.value(setting, f'{work}, {rows}'):.2f}"
        times = run.value(setting, f"{work}, {rows.removesuffix(' rows')} / {first}")
        return taken if times is None else f"{taken} ({times:.2f})"

    works = dict.fromkeys(work for work, _, _ in timed)
    cells = ([work, *(cell(work, rows) for rows in sizes)] for work in works)
    return _table(f"{setting}, ms, and times that of {first}", sizes, cells)


def _goals(run: Run) -> str:
    """Return what was to be reached, and what was."""
    bound = (row for row in run.rows if row.target)
    return _table("what", ("measured", "to be reached"), map(_reached, bound))


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
    if not row.unit:
        return f"{row.value:.2f}"
    digits = 1 if row.unit == "µs" and row.value < 20 else 0
    return f"{row.value:,.{digits}f} {row.unit}"


def _plots(run: Run) -> Iterator[tuple[str, str, str]]:
    """Yield each plot's name and title, and the plot."""
    sales = [s for s in run.settings if run.value(s, "pass / bare") is not None]
    others = [s for s in run.settings if s not in sales and " words" not in s]
    for name, title, unit, settings in (
        ("calls", "Time of a request within the process (times the bare view's)", "µs", sales),
        ("served", "Requests per second, 8 connections (part of the bare view's)", "/s", sales),
        ("lightning", "Requests per second beside Aperture (part of the first bar)", "/s", others),
    ):
        groups = {s: group for s in settings if (group := _group(run, s, unit))}
        if groups:
            yield f"performance-{name}.svg", title, bars(title, unit, groups)


def _group(run: Run, setting: str, unit: str) -> dict[str, tuple[float, float | None]]:
    """Return what a setting measured in this unit, each as a part of the first."""
    rows = [row for row in run.of(setting) if row.unit == unit and ", added" not in row.name]
    return {r.name: (r.value, run.value(setting, f"{r.name} / {rows[0].name}")) for r in rows}
