"""What must hold of a shop on many hosts, whoever races; each raises AssertionError if not."""

import os
import secrets
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from sqlalchemy import func, select, text

from l402.store.audit import Audit, Difference
from l402.store.tables import revocation
from support.fleets import Answer, statuses
from support.redemptions import totals
from support.sites import CHALLENGES, Shop

#: Each check is made so many times.
ROUNDS = int(os.environ.get("HOSTS_ROUNDS", "2"))
_TOGETHER = 48  # threads that ask at once
_ASKING = 4  # threads that ask again and again
_REVOKED_WITHIN = 1.0  # seconds
_REVOKED_AT = select(func.max(revocation.c.revoked_at))


def limits(shop: Shop) -> None:
    """A token is let in ten times, over all workers, and an address gets its challenges."""
    strangers = (f"10.77.255.{number}" for number in range(1, 250))
    for _ in range(ROUNDS):
        token, _ = shop.fleet.buy("/limited")
        answers = shop.fleet.ask_at_once(token, 60, "/limited", threads=_TOGETHER)
        assert statuses(answers) == {200: 10, 429: 50}
        caller = next(strangers)
        answers = shop.fleet.ask_at_once(None, 3 * CHALLENGES, threads=_TOGETHER, caller=caller)
        assert statuses(answers) == {402: CHALLENGES, 429: 2 * CHALLENGES}


def first_presentations(shop: Shop) -> None:
    """A token that all see at once for the first time is one payment, signalled once."""
    before = len(shop.first_paid())
    for count in range(1, ROUNDS + 1):
        for path in ("/quote", "/draw"):
            token, payment_hash = shop.fleet.buy(path)
            answers = shop.fleet.ask_at_once(token, _TOGETHER, path, threads=_TOGETHER)
            assert statuses(answers) == {200: _TOGETHER}
            named = {"name": payment_hash.hex()}
            query = text("SELECT token_id FROM l402_payment WHERE payment_hash = :name")
            ((token_id,),) = shop.store.db.fetch(query, named)
            assert len(shop.store.credentials.state(token_id).payments) == 1
            assert shop.first_paid().count(payment_hash.hex()) == 1
        assert len(shop.first_paid()) == before + 2 * count
    books(shop)


def last_units(shop: Shop) -> None:
    """Of 200 requests for what is left of an account, one call's worth, one is served."""
    before = shop.uses()
    for count in range(1, ROUNDS + 1):
        token, _ = shop.fleet.buy("/call")
        answers = shop.fleet.ask_at_once(token, 200, "/call", threads=_TOGETHER)
        assert statuses(answers) == {200: 1, 402: 199}
        assert shop.uses() == before + count
    books(shop)


def repeats(shop: Shop) -> None:
    """A call that is repeated by all at once under one key is charged once, with one answer."""
    token, _ = shop.fleet.buy("/draw")
    for number in range(1, ROUNDS + 1):
        key = secrets.token_hex(8)
        answers = shop.fleet.ask_at_once(token, _TOGETHER, "/draw", threads=_TOGETHER, key=key)
        assert set(statuses(answers)) <= {200, 409}
        assert len({each.text for each in answers if each.status == 200}) == 1
        last = shop.fleet.ask(token, "/draw", key=key)
        assert last.headers["L402-Balance-Msat"] == str(5_000_000 - number * 1_000)
    books(shop)


def revocations(shop: Shop) -> list[float]:
    """What an operator revokes is refused everywhere a second later, and nothing else is.

    Gives by how many seconds each revocation's last answer came after it.
    """
    kept, _ = shop.fleet.buy()
    lags = []
    for _ in range(ROUNDS):
        doomed, payment_hash = shop.fleet.buy()
        shop.fleet.ask_all(doomed)
        with asking(shop, doomed) as refused, asking(shop, kept) as served:
            shop.command("revoke", payment_hash.hex())
            ((revoked_at,),) = shop.store.db.fetch(_REVOKED_AT)
            wall = revoked_at.timestamp() - time.time() + time.monotonic()
            await_asked(refused, wall + 2 * _REVOKED_WITHIN)
        assert statuses(served) == {200: len(served)}
        assert set(statuses(refused)) == {200, 402}
        last = max(each.asked_at for each in refused if each.status == 200)
        lags.append(last - wall)
        # The record's moment is a transaction older than its commit.
        assert lags[-1] < _REVOKED_WITHIN + max(each.took for each in refused)
    return lags


@contextmanager
def asking(shop: Shop, token: str, path: str = "/quote") -> Iterator[list[Answer]]:
    """Ask with a token without a pause for the length of a block; the answers as they come."""
    answers: list[Answer] = []
    ending = threading.Event()

    def ask() -> None:
        while not ending.is_set():
            answers.append(shop.fleet.ask(token, path))

    with ThreadPoolExecutor(_ASKING) as pool:
        jobs = [pool.submit(ask) for _ in range(_ASKING)]
        try:
            yield answers
        finally:
            ending.set()
        for job in jobs:
            job.result()


def await_asked(answers: list[Answer], moment: float) -> None:
    """Wait until one was asked after a moment of the monotonic clock."""
    end = time.monotonic() + 60
    while not answers or answers[-1].asked_at < moment:
        assert time.monotonic() < end, "nobody is asking any more"
        time.sleep(0.01)


def books(shop: Shop) -> None:
    """The sums agree, and the audit finds nothing."""
    owned, booked = totals(shop.store)
    assert owned == booked
    differences: list[Difference] = []
    Audit(shop.store.db).run(differences.append, lambda step: None)
    assert differences == []
