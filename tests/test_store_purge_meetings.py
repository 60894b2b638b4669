"""A purge that meets others in the middle of what they do, and rows that it did not expect."""

import threading
from contextlib import closing
from typing import Any
from urllib.parse import quote

import pytest
from sqlalchemy import text, update
from support.books import damage, reserve, use
from support.killing import await_
from support.purges import LATER, START, at, credit, ended, expire_all, figures, left, purge
from support.sales import sale, token_id

from l402.errors import StoreUnavailable
from l402.store import Store, migrate, payments, removal, settlements
from l402.store.comparison import Comparison
from l402.store.payments import Payments, Standing
from l402.store.purge import Purge
from l402.store.replies import Answer, Call
from l402.store.settlements import Settled, Settlements
from l402.store.tables import ledger

pytest_plugins = ["support.databases"]

WAITS = text("SELECT 1 FROM pg_locks WHERE NOT granted")


def isolated(level: str) -> str:
    """The options of a session at a level of isolation, as a URL has them."""
    escaped = level.replace(" ", "\\ ")
    return quote(f"-c default_transaction_isolation={escaped}")


@pytest.mark.parametrize("kind", ["pass", "credit"])
def test_booked_and_purged_meanwhile(
    database_url: str, store: Store, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Who found a payment unbooked, and was stopped for long, does not book it a second time."""
    bought = ended(1, START, kind=kind, ledger=store.ledger.id())
    booked = Payments._booked
    with closing(Store(database_url)) as slow:

        def stopped(self: Payments, row: dict[str, Any]) -> Standing | None:
            found = booked(self, row)
            monkeypatch.setattr(Payments, "_booked", booked)
            assert store.payments.admit(bought, at(0)).first
            expire_all(store)
            assert purge(store, LATER).tokens == 1
            return found

        monkeypatch.setattr(Payments, "_booked", stopped)
        standing = slow.payments.admit(bought, at(0.5))  # its clock is a year behind as well
    assert (standing.first, standing.late) == (False, True)
    assert set(left(store).values()) == {0}
    figures(store)


def test_closed_before_anything_goes(store: Store) -> None:
    """What ended is closed though no account went: a revocation of it may go next."""
    purge(store, LATER)
    assert store.payments.admit(ended(1, START), at(0)).late


def test_answers_go_first(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """No answer is left of a use whose line is gone, also while its account goes bit by bit."""
    monkeypatch.setattr(removal, "MOST", 2)
    credit(store, 1)
    for number in range(3):
        held = reserve(store, 1, call=Call(bytes([number]) * 32, b"f" * 32), now=at(0))
        store.uses.take(held, Answer(200, "[]", b"fine"))
    expire_all(store)
    before = figures(store)

    def told(done: removal.Purged) -> None:
        assert figures(store) == before

    assert Purge(store.db, LATER).run(told).replies == 3


def test_a_use_that_nobody_reserved(store: Store) -> None:
    """A use in flight that its balance does not know keeps its account, and not the others."""
    for number in (1, 2):
        credit(store, number)
        use(store, number, now=at(0))
    expire_all(store)
    damage(
        store,
        "INSERT INTO l402_use (use_id, token_id, service, endpoint, method, msat, process,"
        " reserved_at) SELECT 'lost', token_id, service, '', '', 1, 'gone', ends_at"
        f" FROM l402_credit WHERE token_id = '{token_id(1).hex()}'",
    )
    work = Purge(store.db, LATER)
    assert work.run(lambda _: None).tokens == 1
    assert list(work.unfit) == [token_id(1).hex()]


@pytest.mark.postgres
@pytest.mark.parametrize("isolation", ["read committed", "repeatable read", "serializable"])
@pytest.mark.parametrize("received", [10_000, 9_999], ids=["all of it", "less"])
def test_read_at_the_node_meanwhile(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch, isolation: str, received: int
) -> None:
    """What is read at the node while its payment is purged makes no stranger of it."""
    migrate.upgrade(postgres_url)
    url = f"{postgres_url}?options={isolated(isolation)}"
    with closing(Store(url)) as store, closing(Store(url)) as other:
        store.payments.admit(ended(1, START), at(0))
        with store.db.write() as connection:  # as the same run's transactions before
            connection.execute(update(ledger).values(closed_until=LATER))
        purging = threading.Thread(target=lambda: purge(store, LATER))
        told = settlements._told

        def meanwhile(*given: Any) -> Any:
            rows = told(*given)
            purging.start()
            await_(lambda: not purging.is_alive() or store.db.fetch(WAITS), "the purge", 0.01, 10)
            return rows

        monkeypatch.setattr(settlements, "_told", meanwhile)
        paid = Settled(sale(1).payment_hash.hex(), "regtest", "l402:1", 10_000, received, at(0))
        Settlements(other.db).add("regtest", [paid], None)
        purging.join(30)
        unused: list[Settled] = []
        sums = Comparison(store.db, "regtest").run(unused.append, lambda _: None)
        assert (unused, sums.presented.count, sums.unread.count) == ([], 1, 0)
        assert left(store)["payment"] == (received < 10_000)


@pytest.mark.postgres
@pytest.mark.parametrize("isolation", ["read committed", "repeatable read", "serializable"])
def test_purged_while_it_is_read(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch, isolation: str
) -> None:
    """What is purged while the node is read is passed over as if it had been purged before."""
    migrate.upgrade(postgres_url)
    url = f"{postgres_url}?options={isolated(isolation)}"
    with closing(Store(url)) as store, closing(Store(url)) as other:
        store.payments.admit(ended(1, START), at(0))
        paid = Settled(sale(1).payment_hash.hex(), "regtest", "l402:1", 10_000, 10_000, at(0))
        reading = threading.Thread(target=Settlements(other.db).add, args=("regtest", [paid], None))
        run = removal.Removal.run

        def meanwhile(self: removal.Removal, credits: Any) -> Any:
            reading.start()
            await_(lambda: not reading.is_alive() or store.db.fetch(WAITS), "the reader", 0.01, 10)
            return run(self, credits)

        monkeypatch.setattr(removal.Removal, "run", meanwhile)
        assert purge(store, LATER).tokens == 1
        reading.join(30)
        assert set(left(store).values()) == {0}


@pytest.mark.postgres
def test_a_reference_that_stays_broken(postgres_url: str) -> None:
    """A row that refers to nothing is believed to have lost a race a few times, and no longer."""
    migrate.upgrade(postgres_url)
    tries = []
    with closing(Store(postgres_url)) as store:

        def refer() -> None:
            tries.append(1)
            with store.db.write() as connection:
                row = payments._row(sale(1)) | {"presented_at": at(0), "settled_at": None}
                connection.execute(payments._ADD_PAYMENT, row | {"status": "granted"})

        with pytest.raises(StoreUnavailable, match="foreign key"):
            store.db.run(refer)
    assert len(tries) < 10
