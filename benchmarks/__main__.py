"""Print a table of measurements, and write it as JSON."""

import json
import os
import platform
import tempfile
from pathlib import Path

from benchmarks import in_process, served, shop

_RESULTS = Path("benchmarks/results/latest.json")


def main() -> None:
    """Measure everything in one run."""
    machine = f"{_processor()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    print(machine)
    results = []
    with tempfile.TemporaryDirectory() as directory:
        shop.prepare(directory)
        for module in (in_process, served):
            for name, value, unit, target in module.rows():
                print(f"  {name:46} {value:10.2f} {unit:3} {_verdict(value, target)}", flush=True)
                results.append({"name": name, "value": value, "unit": unit, "target": target})
    _RESULTS.parent.mkdir(exist_ok=True)
    _RESULTS.write_text(json.dumps({"machine": machine, "results": results}, indent=1))


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
    main()
