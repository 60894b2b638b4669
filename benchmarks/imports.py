"""What ``import l402`` adds to the start of an app that has Flask and SQLAlchemy anyway.

It is processor time, which the rest of the machine disturbs less.
"""

import subprocess
import sys
from collections.abc import Iterator

from benchmarks.results import Effort, Row

_IMPORT = """
import flask, sqlalchemy, time
begun = time.process_time()
import l402
print(time.process_time() - begun)
"""


def rows(effort: Effort) -> Iterator[Row]:
    """Yield the best of a few new processes."""
    seconds = min(_measure() for _ in range(effort.rounds))
    name = "import l402, beyond Flask and SQLAlchemy"
    yield Row("start", name, seconds * 1000, "ms", "<= 60")


def _measure() -> float:
    command = [sys.executable, "-c", _IMPORT]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
