"""What a process keeps of the tokens that pass: ``python -m benchmarks memory``.

A million distinct tokens (``TOKENS`` for fewer) are paid, verified, booked and counted against
their limits, one request each, in this process; that takes twenty minutes.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from benchmarks.backends import Backend
from benchmarks.in_process import call, environ
from benchmarks.results import Row
from benchmarks.shop import create_app, paid_token
from l402.protocol.token import CREDIT

_TOKENS = 10**6
#: Every so many tokens are told of on the way.
_STAGE = 100_000
_BOUND = "<= 64"


def rows(backend: Backend) -> Iterator[Row]:
    """Yield how much more memory the process takes, at each stage and at its peak."""
    tokens = int(os.environ.get("TOKENS", _TOKENS))
    setting, app = f"memory, {backend.name}", create_app(backend)
    gate = app.extensions["l402"]

    def serve(number: int) -> None:
        sort, path = (CREDIT, "/call") if number % 10 == 0 else ("pass", "/paid")
        call(app, environ(path, paid_token(app, sort)))

    serve(0)
    serve(1)
    base = _status("VmRSS")
    for number in range(tokens):
        serve(number)
        if (number + 1) % _STAGE == 0:
            grown = _status("VmRSS") - base
            yield Row(setting, f"after {number + 1:,} tokens", grown, "MB")
    yield Row(setting, f"at its peak, of {tokens:,} tokens", _status("VmHWM") - base, "MB", _BOUND)
    gate.sync.flush()
    yield Row(setting, "verified tokens kept", len(gate.holders.verified), "tokens")
    gate.sync.close()
    gate.store.close()


def _status(field: str) -> float:
    """Return a line of this process's status, in MB: what is resident, or ever was at most."""
    found = re.search(rf"^{field}:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.M)
    return int(found[1]) / 1e3 if found else 0.0
