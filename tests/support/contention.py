"""Many processes that do all that is done to accounts, on a few accounts at once."""

import random
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta
from multiprocessing.synchronize import Barrier
from typing import TypeVar

from l402.errors import StoreError
from l402.store import Store
from l402.store.engine import Database
from l402.store.faults import Interrupted
from l402.store.orders import Reserved
from l402.store.replies import Answer, Call, Reply
from support import sales
from support.fleet_sabotage import SABOTAGES
from support.redemptions import SPAWN

ACCOUNTS = 2
PRICE = 1_000  # msat
_THREADS = 6
_LONG = 500_000_000  # seconds
_together: Barrier

_T = TypeVar("_T")


def meet(barrier: Barrier) -> None:
    """In each process of a pool, keep what it waits at."""
    global _together
    _together = barrier


def contend(url: str, calls: int, seed: int, sabotage: str) -> Counter[str]:
    """Do `calls` things in each of several threads; give how often each was done or not.

    ``retried`` counts transactions that ran again, ``failed`` what would have been a 503.
    """
    if sabotage:
        SABOTAGES[sabotage]()
    done: Counter[str] = Counter()
    counting = threading.Lock()
    _count_retries(done, counting)

    def work(thread: int) -> None:
        chance = random.Random(f"{seed} {thread}")
        for _ in range(calls):
            try:
                outcome = chance.choice(_ACTS)(store, chance)
            except StoreError:
                outcome = "failed"
            with counting:
                done[outcome] += 1

    with closing(Store(url)) as store, ThreadPoolExecutor(_THREADS) as pool:
        store.ping()
        _together.wait(60)
        for job in [pool.submit(work, thread) for thread in range(_THREADS)]:
            job.result()
    return done


def contend_together(url: str, processes: int, calls: int, sabotage: str = "") -> Counter[str]:
    """Run `contend` in so many processes at once; give the sum of what they did."""
    with SPAWN.Pool(processes, meet, (SPAWN.Barrier(processes),)) as pool:
        given = [(url, calls, seed, sabotage) for seed in range(processes)]
        jobs = [pool.apply_async(contend, each) for each in given]
        return sum((job.get(timeout=300) for job in jobs), Counter())


def _count_retries(done: Counter[str], counting: threading.Lock) -> None:
    run = Database.run

    def counted(self: Database, operation: Callable[[], _T], *, changes: bool = True) -> _T:
        def once() -> _T:
            try:
                return operation()
            except Interrupted:
                with counting:
                    done["retried"] += 1
                raise

        return run(self, once, changes=changes)

    Database.run = counted  # type: ignore[method-assign]


def _use(store: Store, chance: random.Random) -> str:
    order = sales.order(chance.randrange(ACCOUNTS), PRICE)
    if not isinstance(store.uses.reserve(order, sales.NOW), Reserved):
        return "short"
    if chance.random() < 0.2:
        store.uses.release(order.use_id)
        return "released"
    store.uses.take(order.use_id)
    return "used"


def _repeat(store: Store, chance: random.Random) -> str:
    """Call under one of a few keys, which others use as well."""
    key = chance.randrange(8)
    account = key % ACCOUNTS
    order = sales.order(account, PRICE)
    call = Call(b"%032d" % key, b"f" * 32)
    outcome = store.uses.reserve(order, sales.NOW, call)
    if isinstance(outcome, Reserved):
        store.uses.take(order.use_id, Answer(200, "[]", b"fine"))
        return f"key {key}"
    return "replayed" if isinstance(outcome, Reply) else "in progress"


def _top_up(store: Store, chance: random.Random) -> str:
    """Present one of a few payments, which others present as well."""
    number = chance.randrange(100, 140)
    token = sales.token_id(number % ACCOUNTS)
    sale = sales.credit(store, number, token_id=token, msat=10 * PRICE)
    return f"payment {number}" if store.payments.admit(sale, sales.NOW).first else "seen"


def _adjust(store: Store, chance: random.Random) -> str:
    """Give by hand under one of a few ids."""
    number = chance.randrange(20)
    token = sales.token_id(number % ACCOUNTS).hex()
    done = store.credits.adjust(
        token, "quotes", 5 * PRICE, why="", operation=f"id{number}", now=sales.NOW
    )
    return f"gift {number}" if done.first else "given"


def _expire(store: Store, chance: random.Random) -> str:
    """Present one of a few payments of long ago, whose credit has ended, and sweep."""
    number = chance.randrange(500, 520)
    past = sales.ISSUED - _LONG
    ended = sales.credit(
        store, number, issued_at=past, starts_at=past, ends_at=past + 99, valid_until=past + 99
    )
    store.payments.admit(ended, sales.NOW - timedelta(seconds=_LONG))
    store.credits.expire()
    return "swept"


def _revoke(store: Store, chance: random.Random) -> str:
    number = chance.randrange(1000, 1010)
    first = store.revocations.revoke("payment", sales.payment_hash(number).hex())
    assert store.payments.admit(sales.sale(number), sales.NOW).revoked
    return f"revocation {number}" if first else "revoked"


def _price(store: Store, chance: random.Random) -> str:
    store.prices.set("quotes", "quote", "GET", 1 + chance.randrange(10**6))
    store.prices.all()
    return "priced"


def _count(store: Store, chance: random.Random) -> str:
    tokens = map(sales.token_id, range(ACCOUNTS))
    store.counts.count_uses(dict.fromkeys(tokens, (1, sales.NOW)))
    return "counted"


_ACTS = [_use] * 6 + [_repeat, _top_up, _adjust, _expire, _revoke, _price, _count]
