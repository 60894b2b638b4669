"""Sales to be booked, numbered; and what a process of its own does with them."""

import os
import secrets
import signal
from datetime import UTC, datetime
from hashlib import sha256
from multiprocessing.synchronize import Barrier
from typing import Any

from sqlalchemy import event

from l402.store import Store
from l402.store.orders import Order
from l402.store.payments import Sale

ISSUED = 1_900_000_000
NOW = datetime.fromtimestamp(ISSUED + 60, UTC)


def token_id(number: int) -> bytes:
    return sha256(b"token %d" % number).digest()


def payment_hash(number: int) -> bytes:
    return sha256(b"payment %d" % number).digest()


def sale(number: int = 1, **changes: Any) -> Sale:
    """A pass of 10 sat for an hour; each number has a token of its own."""
    usual = Sale(
        payment_hash=payment_hash(number),
        token_id=token_id(number),
        service="quotes",
        kind="pass",
        msat=10_000,
        network="regtest",
        endpoint="quote",
        method="GET",
        issued_at=ISSUED,
        starts_at=ISSUED + 600,
        ends_at=ISSUED + 4200,
        valid_until=ISSUED + 4200,
    )
    return usual._replace(**changes)


def credit(store: Store, number: int = 1, **changes: Any) -> Sale:
    """Credit of 10 sat for an hour, signed for this store's ledger."""
    return sale(number, kind="credit", ledger=store.ledger.id(), **changes)


def order(number: int = 1, msat: int = 2_000, **changes: Any) -> Order:
    """A call of 2 sat on the account of that number, under a new id."""
    usual = Order(secrets.token_bytes(16), token_id(number), "quotes", "quote", "GET", msat)
    return usual._replace(**changes)


_together: Barrier


def meet(barrier: Barrier) -> None:
    """In each process of a pool, keep what `admit_all` waits at."""
    global _together
    _together = barrier


def admit_all(url: str, numbers: list[int]) -> list[int]:
    """Present these sales, all processes beginning at once; give those that were first here."""
    store = Store(url)
    store.ping()
    _together.wait(30)
    first = [number for number in numbers if store.payments.admit(sale(number), NOW).first]
    store.close()
    return first


def admit_and_tell(url: str, pipe: int, numbers: range, die: str = "") -> None:
    """Present these sales, and write each one's number to `pipe` once it is acknowledged.

    With `die`, the process is killed in mid-booking of the last one: "before commit" or
    "after commit".
    """
    store = Store(url)
    for number in numbers:
        if number == numbers[-1] and die == "before commit":
            event.listen(store.db._engines._writer, "commit", _die)  # type: ignore[attr-defined]
        store.payments.admit(sale(number), NOW)
        if number == numbers[-1] and die == "after commit":
            _die()
        os.write(pipe, b"%d\n" % number)


def _die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)
