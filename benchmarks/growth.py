"""What the store's work costs as its tables grow: ``python -m benchmarks growth``.

Three records, of a thousand, a hundred thousand and ten million payments, are asked in turn. The
environment may say that the largest has fewer (``ROWS``); ten million take 20 GB of the folder for
temporary files, on each database, and a quarter of an hour. What is measured is a file in memory: a
machine with less of it measures its disk.
"""

import os
import random
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from statistics import median
from threading import Event, Thread

from support.postgres import PostgresServer

from benchmarks import filling
from benchmarks.results import Row, ratio
from l402.store import Store
from l402.store.orders import Order, Reserved, new_use_id
from l402.store.payments import Sale
from l402.sync import _CHORES_EVERY

#: Payments of the three records.
SIZES = (10**3, 10**5, 10**7)
_ROUNDS, _CALLS, _FEW = 40, 40, 4
_ACTIVE = 300  # accounts that draw on their credit, in a record of any size
#: How many times what it costs among a thousand rows, where that is promised.
_TARGETS = {"first presentation": "<= 1.3", "credit use": "<= 1.3"}

Work = Callable[[], object]


def rows(folder: Path) -> Iterator[Row]:
    """Yield the times of each work in each record, on SQLite and, if it is installed, Postgres."""
    sizes = [size for size in SIZES if size <= int(os.environ.get("ROWS", SIZES[-1]))]
    (folder / "growth").mkdir()
    urls = {size: f"sqlite:///{folder / 'growth' / str(size)}.db" for size in sizes}
    yield from _measured("SQLite", urls)
    for file in (folder / "growth").iterdir():
        file.unlink()
    if not any(Path("/usr/lib/postgresql").glob("*/bin/postgres")):
        print("left out: PostgreSQL is not installed")
        return
    with PostgresServer.running(durable=True) as server:
        yield from _measured("Postgres", {size: server.fresh() for size in sizes})


def _measured(name: str, urls: Mapping[int, str]) -> Iterator[Row]:
    for size, url in urls.items():
        begun = time.monotonic()
        filling.fill(url, size)
        yield Row(f"growth, {name}", f"filling {size:,} rows", time.monotonic() - begun, "s")
    with ExitStack() as stack:
        stores = {size: stack.enter_context(closing(Store(url))) for size, url in urls.items()}
        stack.enter_context(_chores(list(stores.values())))
        works = {size: _works(store, size) for size, store in stores.items()}
        yield from _compared(f"growth, {name}", works)


@contextmanager
def _chores(stores: Sequence[Store]) -> Iterator[None]:
    """Do beside the work what each process's thread does: take up what was written."""
    over = Event()

    def run() -> None:
        while not over.wait(_CHORES_EVERY):
            for store in stores:
                store.db.checkpoint()

    thread = Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _compared(setting: str, works: Mapping[int, Mapping[str, Work]]) -> Iterator[Row]:
    """Have the records take turns, so that the machine's moods meet all."""
    sizes = list(works)
    names = list(works[sizes[0]])
    found: dict[tuple[str, int], list[float]] = {(n, size): [] for n in names for size in sizes}
    for turn in range(-1, _ROUNDS):
        for name in names:
            for size in sizes:
                calls = _CALLS if name in _TARGETS or "revo" in name else _FEW
                taken = _time(works[size][name], calls)
                if turn >= 0:  # the first one only warms up
                    found[name, size].append(taken)
        sizes.reverse()
    yield from _rows(setting, found, names, sorted(sizes))


def _rows(
    setting: str,
    found: Mapping[tuple[str, int], Sequence[float]],
    names: Sequence[str],
    sizes: Sequence[int],
) -> Iterator[Row]:
    for name in names:
        for size in sizes:
            yield Row(setting, f"{name}, {size:,} rows", median(found[name, size]) * 1e3, "ms")
    smallest, largest = sizes[0], sizes[-1]
    for name in names:
        for size in sizes[1:]:
            grown = ratio(found[name, size], found[name, smallest])
            bound = _TARGETS.get(name, "") if size == largest else ""
            yield Row(setting, f"{name}, {size:,} / {smallest:,} rows", grown, "", bound)


def _time(work: Work, calls: int) -> float:
    begun = time.perf_counter()
    for _ in range(calls):
        work()
    return (time.perf_counter() - begun) / calls


def _works(store: Store, size: int) -> dict[str, Work]:
    newest = (number for number in range(size - 3 * _ACTIVE, size) if number % 3 == 0)
    active = [bytes.fromhex(filling.key(number, size)) for number in newest]
    chance, now = random.Random(size), datetime.now(UTC)
    return {
        "first presentation": lambda: store.payments.admit(_sale(), datetime.now(UTC)),
        "credit use": lambda: _use(store, chance.choice(active)),
        "revocation check": lambda: store.payments.revoked(_sale(chance.choice(active))),
        "revocation feed": lambda: store.revocations.changes(datetime.now(UTC)),
        "page of list": lambda: store.credentials.page(now=now, limit=51),
        "page of list --active": lambda: store.credentials.page(now=now, limit=51, active=True),
        "stats of a day": partial(store.days.stats, filling.YESTERDAY, filling.YESTERDAY),
        "sweeping the books": lambda: _sweep(store),
    }


def _sale(token_id: bytes | None = None) -> Sale:
    now = int(time.time())
    return Sale(
        payment_hash=secrets.token_bytes(32), token_id=token_id or secrets.token_bytes(32),
        service="shop", kind="pass", msat=10_000, network="regtest", endpoint="paid", method="GET",
        issued_at=now, starts_at=now + 600, ends_at=now + 4200, valid_until=now + 4200,
    )  # fmt: skip


def _use(store: Store, token_id: bytes) -> None:
    order = Order(new_use_id(), token_id, "shop", "call", "GET", 1)
    held = store.uses.reserve(order, datetime.now(UTC))
    if not isinstance(held, Reserved):
        raise SystemExit(f"a call on credit was refused: {held}")
    store.uses.take(order.use_id)


def _sweep(store: Store) -> None:
    """Do what each process does every five seconds."""
    store.uses.renew()
    store.uses.recover()
    store.credits.expire()
    store.replies.purge()
