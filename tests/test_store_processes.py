"""Many processes on one record: races, and deaths in mid-booking."""

import multiprocessing
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
from support.sales import NOW, admit_all, admit_and_tell, meet, payment_hash, sale

from l402.store import Store, migrate

pytest_plugins = ["support.databases"]

SPAWN = multiprocessing.get_context("spawn")
PROCESSES = 4
SERIALIZABLE = "?options=-c%20default_transaction_isolation%3Dserializable"


def race(url: str, sales: int) -> None:
    """Let processes present the same sales at once; each must be first in exactly one of them."""
    numbers = list(range(sales))
    with SPAWN.Pool(PROCESSES, meet, (SPAWN.Barrier(PROCESSES),)) as pool:
        jobs = [pool.apply_async(admit_all, (url, numbers)) for _ in range(PROCESSES)]
        first = [number for job in jobs for number in job.get(timeout=60)]
    assert sorted(first) == numbers
    with closing(Store(url)) as store:
        page = store.credentials.page(now=NOW, limit=sales + 1)
        assert len(page) == sales
        assert all(len(state.payments) == 1 for state in page)


def test_same_sales(database_url: str) -> None:
    """Processes that present the same sales at once make one row each, and one is the first."""
    migrate.upgrade(database_url)
    race(database_url, 60)


@pytest.mark.postgres
def test_same_sales_serializable(postgres_url: str) -> None:
    """The same holds where the server runs each transaction at SERIALIZABLE."""
    migrate.upgrade(postgres_url)
    race(postgres_url + SERIALIZABLE, 60)


def test_same_sales_in_threads(store: Store) -> None:
    """Threads of one process that present the same sales at once make one row each."""
    barrier = threading.Barrier(8)

    def present() -> list[int]:
        barrier.wait()
        return [number for number in range(40) if store.payments.admit(sale(number), NOW).first]

    with ThreadPoolExecutor(8) as pool:
        first = [n for job in [pool.submit(present) for _ in range(8)] for n in job.result(60)]
    assert sorted(first) == list(range(40))


def test_flushes_that_cross(store: Store) -> None:
    """Counts that many threads flush in different orders all arrive."""
    tokens = [sale(number).token_id for number in range(12)]
    for number in range(12):
        store.payments.admit(sale(number), NOW)
    day = NOW.date()

    def flush(turn: int) -> None:
        order = tokens[turn:] + tokens[:turn]
        store.counts.count_uses(dict.fromkeys(order, (1, NOW)))
        store.counts.count_challenges({(day, "quotes", token.hex()): 1 for token in order})

    with ThreadPoolExecutor(6) as pool:
        for job in [pool.submit(flush, turn) for turn in range(12)]:
            job.result(60)
    assert {store.credentials.state(token).uses for token in tokens} == {12}
    assert store.days.stats(day, day)[0].challenges == 144


def test_revocation_race(store: Store) -> None:
    """Whichever comes first, after a revocation was acknowledged no look finds the sale good."""
    numbers = range(30)

    def present(number: int) -> bool:
        standing = store.payments.admit(sale(number), NOW)
        return standing.first and standing.revoked

    with ThreadPoolExecutor(4) as pool:
        booking = [pool.submit(present, number) for number in numbers]
        for number in numbers:
            store.revocations.revoke("payment", payment_hash(number).hex())
            assert store.payments.admit(sale(number), NOW).revoked
    assert not any(job.result(60) for job in booking)


def killed(url: str, numbers: range, die: str = "", after: int = 0) -> list[int]:
    """Let a process book sales until it dies, by itself or after so many; give what it told."""
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)
    process = SPAWN.Process(target=_inherit, args=(url, SPAWN.reducer.DupFd(writer), numbers, die))
    process.start()
    os.close(writer)
    told: list[int] = []
    with os.fdopen(reader) as lines:
        for line in lines:
            if not line.endswith("\n"):
                break
            told.append(int(line))
            if after and len(told) == after:
                process.kill()
    process.join(60)
    assert process.exitcode == -9
    process.close()
    return told


def _inherit(url: str, pipe, numbers: range, die: str) -> None:
    admit_and_tell(url, pipe.detach(), numbers, die)


def check(store: Store, told: list[int], numbers: range) -> set[int]:
    """See that all that was acknowledged is booked; give the numbers of what is booked."""
    booked = {number for number in numbers if store.payments.recorded(payment_hash(number))}
    assert booked >= set(told)
    page = store.credentials.page(now=NOW, limit=10_000)
    assert len(page) == sum(len(state.payments) for state in page) >= len(booked)
    if store.db.url.get_backend_name() == "sqlite":
        with store.db.read() as connection:
            assert connection.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"
            assert connection.exec_driver_sql("PRAGMA foreign_key_check").all() == []
    return booked


def test_killed_at_any_time(store: Store) -> None:
    """A process killed in mid-booking loses nothing of what it acknowledged, and books no half."""
    url = store.db.url.render_as_string(hide_password=False)
    for turn, after in enumerate((1, 17, 60)):
        numbers = range(turn * 100_000, (turn + 1) * 100_000)
        told = killed(url, numbers, after=after)
        booked = check(store, told, range(numbers.start, numbers.start + len(told) + 2))
        assert len(booked) - len(told) in (0, 1)


@pytest.mark.parametrize(("die", "stands"), [("before commit", False), ("after commit", True)])
def test_killed_at_a_point(store: Store, die: str, stands: bool) -> None:
    """Killed before its commit a sale is not booked, after it it is; either way it can go on."""
    url = store.db.url.render_as_string(hide_password=False)
    told = killed(url, range(3), die)
    assert told == [0, 1]
    assert check(store, told, range(3)) == ({0, 1, 2} if stands else {0, 1})
    assert store.payments.admit(sale(2), NOW).first is not stands
