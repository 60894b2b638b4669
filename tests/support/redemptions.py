"""Loads on credit: many processes that redeem it, for the tests and for the benchmark."""

import multiprocessing
import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from hashlib import sha256
from multiprocessing.pool import AsyncResult
from multiprocessing.synchronize import Barrier
from typing import Any

from sqlalchemy import event, func, select

from l402.store import Store
from l402.store.orders import Reserved
from l402.store.tables import credit, entry
from support import sales

PROCESSES = 8
SPAWN = multiprocessing.get_context("spawn")
PRICE = 1_000  # msat

_OWNED = select(func.sum(credit.c.balance + credit.c.reserved)).scalar_subquery()
_BOOKED = select(func.sum(entry.c.balance_after - entry.c.balance_before)).scalar_subquery()
_TOTALS = select(_OWNED, _BOOKED)
_together: Barrier


@dataclass
class Tally:
    """What one process did: uses taken and released, calls that were short, seconds of each."""

    taken: int = 0
    released: int = 0
    short: int = 0
    seconds: list[float] = field(default_factory=list)
    begun: float = 0.0
    ended: float = 0.0


def meet(barrier: Barrier) -> None:
    """In each process of a pool, keep what it waits at."""
    global _together
    _together = barrier


def sell(url: str, accounts: int, msat: int) -> None:
    """Book one purchase of credit for each account."""
    with closing(Store(url)) as store:
        for number in range(accounts):
            store.payments.admit(sales.credit(store, number, msat=msat), sales.NOW)


def totals(store: Store) -> tuple[int, int]:
    """Give what accounts own, and what the ledger says they own, of one moment."""
    ((owned, booked),) = store.db.fetch(_TOTALS)
    return int(owned), int(booked)


def redeem(url: str, redemptions: int, accounts: int, seed: int) -> Tally:
    """Redeem at random accounts; one call in ten fails, and is given back."""
    chance, tally = random.Random(seed), Tally()
    with closing(Store(url)) as store:
        store.ping()
        _together.wait(60)
        tally.begun = time.time()
        for _ in range(redemptions):
            begun = time.perf_counter()
            order = sales.order(chance.randrange(accounts), PRICE)
            if not isinstance(store.uses.reserve(order, sales.NOW), Reserved):
                tally.short += 1
            elif chance.random() < 0.1:
                tally.released += store.uses.release(order.use_id) is not None
            else:
                store.uses.take(order.use_id)
                tally.taken += 1
            tally.seconds.append(time.perf_counter() - begun)
        tally.ended = time.time()
    return tally


def redeem_together(url: str, redemptions: int, accounts: int) -> Iterator["AsyncResult[Tally]"]:
    """Run `redeem` in all processes; give their results to wait for, while they run."""
    with SPAWN.Pool(PROCESSES, meet, (SPAWN.Barrier(PROCESSES),)) as pool:
        share = redemptions // PROCESSES
        jobs = [pool.apply_async(redeem, (url, share, accounts, seed)) for seed in range(PROCESSES)]
        yield from jobs


def use_id(number: int) -> bytes:
    """Give a use's id by number, to be looked for after a process died."""
    return sha256(b"use %d" % number).digest()[:16]


def redeem_and_tell(url: str, pipe: int, numbers: range, die: str = "") -> None:
    """Redeem from account 1, and write each use's number to `pipe` once it is taken.

    With `die`, the process is killed in the last one: "reserving" or "taking" (before the
    commit), "reserved" or "taken" (after it).
    """
    store = Store(url)
    for number in numbers:
        last = number == numbers[-1]
        _die_at_commit(store, last and die == "reserving")
        store.uses.reserve(sales.order(msat=PRICE, use_id=use_id(number)), sales.NOW)
        if last and die == "reserved":
            _die()
        _die_at_commit(store, last and die == "taking")
        store.uses.take(use_id(number))
        if last and die == "taken":
            _die()
        os.write(pipe, b"%d\n" % number)


def _die_at_commit(store: Store, really: bool) -> None:
    if really:
        engines: Any = store.db._engines
        event.listen(engines._writer, "commit", _die)
        if store.db.url.get_backend_name() == "postgresql":  # what is alone commits by itself
            engines.alone = _die


def _die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def race(url: str, rounds: int, attempts: int) -> list[int]:
    """In each round, attempt to reserve that account's last unit; give the rounds that were won."""
    won = []
    with closing(Store(url)) as store:
        store.ping()
        for number in range(rounds):
            _together.wait(120)
            for _ in range(attempts):
                order = sales.order(number, PRICE)
                if isinstance(store.uses.reserve(order, sales.NOW), Reserved):
                    won.append(number)
                    store.uses.take(order.use_id)
    return won


def race_together(url: str, rounds: int, attempts: int, seconds: float) -> list[int]:
    """Run `race` in all processes, which share the attempts; give all rounds that were won."""
    with SPAWN.Pool(PROCESSES, meet, (SPAWN.Barrier(PROCESSES),)) as pool:
        share = attempts // PROCESSES
        jobs = [pool.apply_async(race, (url, rounds, share)) for _ in range(PROCESSES)]
        return [number for job in jobs for number in job.get(timeout=seconds)]
