"""What one process keeps of the tokens that pass it: a bounded number, however many come.

``MEMORY_TOKENS`` sets how many; a million are sent by ``python -m benchmarks memory``.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

TOKENS = int(os.environ.get("MEMORY_TOKENS", "6000"))
ROOT = Path(__file__).parents[1]
#: MB above what the process took when it had served two tokens.
BOUND = 64


def test_memory_is_bounded(tmp_path: Path) -> None:
    """Thousands of distinct tokens, each verified and booked, leave a bounded number behind."""
    script = f"""
import gc, json
from pathlib import Path
from benchmarks.backends import sqlite
from benchmarks import memory
rows = list(memory.rows(sqlite(Path({str(tmp_path)!r}))))
from l402.protocol.token import Token
gc.collect()
tokens = sum(isinstance(each, Token) for each in gc.get_objects())
print(json.dumps([[row.name, row.value] for row in rows] + [["alive", tokens]]))
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env=os.environ | {"TOKENS": str(TOKENS)},
        capture_output=True,
        text=True,
        check=True,
        timeout=600,
    )
    found = dict(json.loads(done.stdout.splitlines()[-1]))
    assert found["verified tokens kept"] == min(4096, TOKENS + 2)
    assert found["alive"] <= 4096
    assert found[f"at its peak, of {TOKENS:,} tokens"] < BOUND
