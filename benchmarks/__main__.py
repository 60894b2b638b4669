"""Print a table of measurements, and write it as JSON.

``python -m benchmarks lightning`` measures on a real lnd alone, which Go builds at first.
"""

import json
import os
import platform
import sys
import tempfile
from pathlib import Path

from benchmarks import in_process, lightning, served, shop, streams

_RESULTS = Path("benchmarks/results")
_PARTS = {"latest": (in_process, served, streams), "lightning": (lightning,)}


def main(part: str = "latest") -> None:
    """Measure one part in one run."""
    machine = f"{_processor()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    print(machine)
    results = []
    with tempfile.TemporaryDirectory() as directory:
        shop.prepare(directory)
        for module in _PARTS[part]:
            for name, value, unit, target in module.rows():
                print(f"  {name:54} {value:10.2f} {unit:3} {_verdict(value, target)}", flush=True)
                results.append({"name": name, "value": value, "unit": unit, "target": target})
    _RESULTS.mkdir(exist_ok=True)
    found = json.dumps({"machine": machine, "results": results}, indent=1)
    (_RESULTS / f"{part}.json").write_text(found)


def _verdict(value: float, target: str) -> str:
    if not target:
        return ""
    sign, number = target.split()
    met = value <= float(number) if sign == "<=" else value >= float(number)
    return f"{target}: {'met' if met else 'MISSED'}"


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


if __name__ == "__main__":
    main(*sys.argv[1:])
