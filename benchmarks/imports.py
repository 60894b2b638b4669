"""What ``import l402`` adds to the start of an app that has Flask and SQLAlchemy anyway.

It is processor time, which the rest of the machine disturbs less.
"""

import os
import subprocess
import sys
from collections.abc import Iterator

from benchmarks.results import Effort, Row

_IMPORT = """
import flask, sqlalchemy, time
app = flask.Flask("shop")
begun = time.process_time()
import l402
{then}
print(time.process_time() - begun)
"""
_SET_UP = """
app.config.from_mapping(
    L402_NODE="simulated:", L402_SIMULATED=True, L402_DATABASE_URL="sqlite:///shop.db",
    L402_SECRET_KEY="0123456789abcdefghijklmnopqrstuv",
)
l402.L402(app)  # it opens nothing
"""
#: Modules are compiled once and for all, as where they are installed.
_ENVIRONMENT = os.environ | {"PYTHONDONTWRITEBYTECODE": ""}


def rows(effort: Effort) -> Iterator[Row]:
    """Yield the best of a few new processes."""
    imported = "import l402, beyond Flask and SQLAlchemy"
    yield Row("start", imported, _best(effort.rounds, ""), "ms", "<= 60")
    yield Row("start", "the same, and L402(app) on SQLite", _best(effort.rounds, _SET_UP), "ms")


def _best(rounds: int, then: str) -> float:
    return min(_measure(_IMPORT.format(then=then)) for _ in range(rounds)) * 1000


def _measure(code: str) -> float:
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, capture_output=True, text=True, check=True, env=_ENVIRONMENT)
    return float(run.stdout)
