"""What was measured: rows of a table, kept as JSON, and set against an earlier run."""

import json
import os
import platform
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import NamedTuple

HERE = Path(__file__).parent
#: Where a run leaves its results.
LATEST = HERE / "results"
#: The run that others are compared with; it is part of the repository.
BASELINE = HERE / "baseline.json"


class Row(NamedTuple):
    """One measurement: in which setting, of what, in which unit (none for a ratio).

    `target` is empty, or such as ``<= 1.4``.
    """

    setting: str
    name: str
    value: float
    unit: str = ""
    target: str = ""

    @property
    def met(self) -> bool:
        """Whether the target is met; true if there is none."""
        if not self.target:
            return True
        sign, bound = self.target.split()
        return self.value <= float(bound) if sign == "<=" else self.value >= float(bound)

    @property
    def line(self) -> str:
        """How it is printed under its setting."""
        verdict = f"{self.target}: {'met' if self.met else 'MISSED'}" if self.target else ""
        return f"  {self.name:48} {self.value:10.2f} {self.unit:5} {verdict}".rstrip()


class Effort(NamedTuple):
    """How long to measure: rounds, and seconds of each slice of a server's time."""

    rounds: int
    seconds: int


@dataclass
class Run:
    """All rows of one run, the machine, and how busy it was (load average over a minute)."""

    machine: str
    load: list[float] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)

    def write(self, path: Path) -> None:
        """Write it as JSON."""
        path.parent.mkdir(exist_ok=True)
        found = asdict(self) | {"rows": [row._asdict() for row in self.rows]}
        path.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")

    @classmethod
    def read(cls, path: Path) -> "Run":
        """Read what `write` wrote."""
        found = json.loads(path.read_text())
        return cls(found["machine"], found["load"], [Row(**row) for row in found["rows"]])

    @property
    def settings(self) -> list[str]:
        """All settings, in their order."""
        return list(dict.fromkeys(row.setting for row in self.rows))

    def of(self, setting: str) -> list[Row]:
        """Return the rows of a setting."""
        return [row for row in self.rows if row.setting == setting]

    def value(self, setting: str, name: str) -> float | None:
        """Return what a row says, or None if it was not measured."""
        return next((row.value for row in self.of(setting) if row.name == name), None)

    def changes(self, earlier: "Run") -> Iterator[tuple[Row, float]]:
        """Yield the ratios that both runs have, each with what it was in the earlier one.

        Those of percentiles are left out: in a short run they are chance.
        """
        for row in self.rows:
            before = earlier.value(row.setting, row.name)
            if not row.unit and before is not None and "percentile" not in row.name:
                yield row, before


def machine() -> str:
    """Name the machine."""
    cores = os.cpu_count()
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return f"{_processor()}, {cores} cores, {python}"


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    for line in cpuinfo.read_text().splitlines() if cpuinfo.exists() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Return the median of the rounds' ratios: what befell a round befell both sides of it."""
    return median(our / their for our, their in zip(ours, theirs, strict=True))
