"""Prices that are set while a server of several processes sells.

``PRICE_PURCHASES`` sets how many purchases are made, with a change of the price for every tenth.
"""

import itertools
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from support.fleets import Fleet
from test_fleet import make_fleet  # noqa: F401 - a fixture

from l402.store import Store

pytest_plugins = ["support.databases"]

PURCHASES = int(os.environ.get("PRICE_PURCHASES", "60"))
_BUYERS = 6
_WITHIN = 1.0  # seconds, in which every process knows a price
_DEADLINE = 60


class Change(NamedTuple):
    """A price in msat, and the moments around its writing, by the monotonic clock."""

    msat: int
    begun_at: float
    done_at: float


class Changes:
    """The price of one endpoint, as another process than the server's changes it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.all = [Change(10_000, float("-inf"), float("-inf"))]  # the price in the code

    def change(self) -> None:
        """Set a price that was not there yet, higher or lower; now and then it is unset.

        Seldom: what is in force again every second would excuse a process that is behind.
        """
        number = len(self.all)
        unset = number % 50 == 5
        msat = 10_000 if unset else 5_000 + 137 * (number * 37 % 101) + number
        begun_at = time.monotonic()
        if unset:
            self._store.prices.unset("fleet", "call", "GET")
        else:
            self._store.prices.set("fleet", "call", "GET", msat)
        self.all.append(Change(msat, begun_at, time.monotonic()))

    def in_force(self, since: float, until: float) -> set[int]:
        """The prices that may have been in force at some moment between the two."""
        ends = [*(each.done_at for each in self.all[1:]), float("inf")]
        return {
            each.msat
            for each, end in zip(self.all, ends, strict=True)
            if each.begun_at <= until and end >= since
        }


def test_each_purchase_at_a_price_that_was_in_force(
    make_fleet: Callable[..., Fleet],  # noqa: F811
    store: Store,
) -> None:
    """Whatever moves between challenge and retry, nobody who paid is refused or charged more."""
    fleet, number = make_fleet(), max(1, PURCHASES // 10)
    changes, count, changing = Changes(store), itertools.count(1), threading.Lock()

    def buy(_: int) -> None:
        challenge = fleet.ask(path="/call")
        allowed = (challenge.asked_at - _WITHIN, time.monotonic())
        authorization, _hash = fleet.pay(challenge)
        if next(count) % 10 == 0:
            with changing:
                changes.change()
        answer = fleet.ask(authorization, "/call")
        assert answer.status == 200, answer.text
        with changing:  # what was being written is known now
            assert int(answer.text) in changes.in_force(*allowed)

    with ThreadPoolExecutor(_BUYERS) as pool:
        list(pool.map(buy, range(number * 10)))
    assert len(changes.all) == number + 1
    assert sum(1 for _ in store.ledger.entries(kinds=["use"])) == number * 10


def test_a_price_is_in_force_in_every_worker(
    make_fleet: Callable[..., Fleet],  # noqa: F811
    store: Store,
) -> None:
    """Freed and priced by another process: who asks a second later meets it at any worker."""
    fleet = make_fleet()
    store.prices.set("fleet", "quote", "GET", 0)
    free = [answer for answer in fleet.ask_all("") if answer.status == 200]
    assert len({answer.text for answer in free}) == 2
    for msat, sats in ((3_000, 3), (7_000, 7), (None, 10)):
        if msat is None:
            store.prices.unset("fleet", "quote", "GET")
        else:
            store.prices.set("fleet", "quote", "GET", msat)
        known_at = time.monotonic() + _WITHIN
        late = 0
        while late < 16:
            answer = fleet.ask()
            if answer.asked_at >= known_at:
                late += 1
                assert answer.status == 402
                assert f'"amountSats":{sats},' in answer.text
