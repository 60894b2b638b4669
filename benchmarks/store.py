"""Redemptions per second of the store alone, by eight processes: ``python -m benchmarks.store``.

On a new SQLite file, or on the empty database whose URL is given.
"""

import sys
import tempfile
from collections.abc import Iterator

from support import redemptions

from benchmarks.results import Row
from l402.store import migrate

_ACCOUNTS, _REDEMPTIONS = 1_000, 20_000


def rows(url: str) -> Iterator[Row]:
    """Yield how many a second, and how long they take."""
    migrate.upgrade(url)
    redemptions.sell(url, _ACCOUNTS, 1_000_000)
    jobs = redemptions.redeem_together(url, _REDEMPTIONS, _ACCOUNTS)
    tallies = [job.get(timeout=600) for job in jobs]
    elapsed = max(each.ended for each in tallies) - min(each.begun for each in tallies)
    seconds = sorted(second for each in tallies for second in each.seconds)
    kind = url.partition(":")[0]
    setting = f"{kind}, {redemptions.PROCESSES} processes"
    target = ">= 1000" * (kind == "sqlite")
    yield Row(setting, "redemptions", len(seconds) / elapsed, "/s", target)
    for part in (50, 99, 99.9):
        at = min(len(seconds) - 1, int(len(seconds) * part / 100))
        yield Row(setting, f"{part:g}th percentile", seconds[at] * 1e3, "ms")
    yield Row(setting, "longest", seconds[-1] * 1e3, "ms")


def main() -> None:
    """Print the measurements."""
    with tempfile.TemporaryDirectory() as directory:
        url = sys.argv[1] if len(sys.argv) > 1 else f"sqlite:///{directory}/l402.db"
        for row in rows(url):
            print(row.line, flush=True)


if __name__ == "__main__":
    main()
