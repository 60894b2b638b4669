"""Uses: reserved, then resolved exactly once, whoever races, dies or comes back."""

import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import select, text, update
from support import redemptions
from support.books import damage
from support.postgres import PostgresServer
from support.redemptions import PRICE, totals
from support.sales import ISSUED, NOW, credit, order, token_id
from support.wires import Wire

from l402.errors import StoreUnavailable
from l402.store import Store, leases, migrate
from l402.store.audit import Audit, Difference
from l402.store.orders import Reserved, Short
from l402.store.replies import Answer, Call
from l402.store.tables import lease
from l402.store.tables import use as use_table

pytest_plugins = ["support.databases"]

SPAWN = redemptions.SPAWN
ROUNDS = int(os.environ.get("L402_TEST_RACES", "30"))
REDEMPTIONS = int(os.environ.get("L402_TEST_REDEMPTIONS", "2000"))
CHAINED = min(REDEMPTIONS, 1000)  # a broken chain shows after two or three
SERIALIZABLE = "?options=-c%20default_transaction_isolation%3Dserializable"
ALONE = b"SET LOCAL"  # begins what is a transaction of its own
END = datetime.fromtimestamp(ISSUED + 4200, UTC)


@pytest.fixture
def funded(store: Store) -> Store:
    """A store whose account 1 has 10,000 msat."""
    store.payments.admit(credit(store), NOW)
    return store


def url_of(store: Store) -> str:
    return store.db.url.render_as_string(hide_password=False)


def balance(store: Store, number: int = 1) -> tuple[int, int]:
    (found,) = store.credits.of(token_id(number))
    return found.balance, found.reserved


def kinds(store: Store) -> list[str]:
    return [entry.kind for entry in store.ledger.entries()]


def silence(store: Store) -> None:
    """Have every lease lapse, as if its process had not been heard of for long."""
    with store.db.write() as connection:
        connection.execute(update(lease).values(expires_at=datetime(2020, 1, 1, tzinfo=UTC)))


# --- one use


def test_take(funded: Store) -> None:
    """A call's price is set aside, and spent when it is taken; taking twice takes once."""
    asked = order()
    assert funded.uses.reserve(asked, NOW) == Reserved(asked.use_id, 8_000, END)
    assert balance(funded) == (8_000, 2_000)
    assert funded.uses.holds()
    assert funded.uses.take(asked.use_id) == 8_000
    assert funded.uses.take(asked.use_id) == 8_000
    assert not funded.uses.holds()
    assert balance(funded) == (8_000, 0)
    _, entry = funded.ledger.entries()
    assert (entry.operation, entry.kind) == (f"use:{asked.use_id.hex()}", "use")
    assert (entry.endpoint, entry.method, entry.msat) == ("quote", "GET", 2_000)
    assert (entry.balance_before, entry.balance_after) == (10_000, 8_000)


def test_release(funded: Store) -> None:
    """A use that is given back leaves the balance as it was, and an entry without effect."""
    asked = order()
    funded.uses.reserve(asked, NOW)
    assert funded.uses.release(asked.use_id) == 10_000
    assert funded.uses.release(asked.use_id) is None
    assert balance(funded) == (10_000, 0)
    _, entry = funded.ledger.entries()
    assert (entry.kind, entry.msat) == ("release", 2_000)
    assert entry.balance_before == entry.balance_after == 10_000


def test_short(funded: Store) -> None:
    """What the balance does not have, or has no longer, is refused and changes nothing."""
    assert funded.uses.reserve(order(msat=10_001), NOW) == Short(10_000, False)
    assert funded.uses.reserve(order(), END) == Short(10_000, True)
    assert funded.uses.reserve(order(2), NOW) == Short(None, False)
    assert funded.uses.reserve(order(service="facts"), NOW) == Short(None, False)
    assert isinstance(funded.uses.reserve(order(msat=10_000), NOW), Reserved)
    assert funded.uses.reserve(order(msat=1), NOW) == Short(0, False)
    assert balance(funded) == (0, 10_000)


def test_unknown_use(funded: Store) -> None:
    """A use that the record never saw cannot be taken, and giving it back changes nothing."""
    with pytest.raises(StoreUnavailable, match="not in the record"):
        funded.uses.take(b"?" * 16)
    assert funded.uses.release(b"?" * 16) is None


# --- coming late


def test_late_take(funded: Store) -> None:
    """A use that was given back before its call ended is debited again, once."""
    asked = order()
    funded.uses.reserve(asked, NOW)
    silence(funded)
    assert funded.uses.recover() == 1
    assert balance(funded) == (10_000, 0)
    for _ in range(2):
        assert funded.uses.take(asked.use_id) == 8_000
    assert kinds(funded) == ["purchase", "release", "use"]


def test_write_off(funded: Store) -> None:
    """What the balance no longer has when a late call ends is the house's loss, and in the book."""
    asked, other = order(), order(msat=9_500)
    funded.uses.reserve(asked, NOW)
    silence(funded)
    funded.uses.recover()
    funded.uses.reserve(other, NOW)
    for _ in range(2):
        assert funded.uses.take(asked.use_id) == 0
    funded.uses.take(other.use_id)
    entries = list(funded.ledger.entries())
    assert [(e.kind, e.msat, e.balance_after) for e in entries] == [
        ("purchase", 10_000, 10_000),
        ("release", 2_000, 10_000),
        ("write_off", 1_500, 11_500),
        ("use", 2_000, 9_500),
        ("use", 9_500, 0),
    ]
    assert totals(funded) == (0, 0)


# --- leases


def test_renewed(funded: Store) -> None:
    """A process that renews its lease keeps its uses, however long they last."""
    asked = order()
    funded.uses.reserve(asked, NOW)
    silence(funded)
    funded.uses.renew()
    with closing(Store(url_of(funded))) as other:
        assert other.uses.recover() == 0
        assert other.uses.reserve(order(msat=9_000), NOW) == Short(8_000, False)
    assert funded.uses.take(asked.use_id) == 8_000
    assert kinds(funded) == ["purchase", "use"]


def test_lapsed_lease_never_blocks(funded: Store) -> None:
    """What a silent process holds is given back when its account needs it, before any sweep."""
    with closing(Store(url_of(funded))) as dead:
        dead.uses.reserve(order(msat=10_000), NOW)
        assert funded.uses.reserve(order(), NOW) == Short(0, False)
        silence(funded)
        assert isinstance(funded.uses.reserve(order(), NOW), Reserved)
    assert balance(funded) == (8_000, 2_000)


def test_back_in_time(funded: Store) -> None:
    """A process that is heard of again after a sweep began to look keeps its uses."""
    funded.uses.reserve(asked := order(), NOW)
    silence(funded)
    (found,) = funded.db.fetch(leases.LAPSED, {"most": 10})
    funded.uses.renew()
    assert funded.uses._sweep([found], lapsed=True) == (0, None)
    assert balance(funded) == (8_000, 2_000)
    assert funded.uses.take(asked.use_id) == 8_000


def test_recover(funded: Store) -> None:
    """A sweep gives back what silent processes held, and forgets them."""
    with closing(Store(url_of(funded))) as dead:
        for _ in range(3):
            dead.uses.reserve(order(), NOW)
    assert funded.uses.recover() == 0
    silence(funded)
    assert funded.uses.recover(limit=2) == 2
    assert balance(funded) == (8_000, 2_000)
    assert funded.uses.recover() == 1
    assert balance(funded) == (10_000, 0)
    assert funded.db.fetch(select(lease)) == []
    assert funded.uses.recover() == 0


def test_use_without_a_lease(funded: Store) -> None:
    """A use whose process left no lease is a dead one's."""
    funded.uses.reserve(asked := order(), NOW)
    with funded.db.write() as connection:
        connection.execute(text("DELETE FROM l402_lease"))
    with closing(Store(url_of(funded))) as other:
        assert other.uses.recover() == 1
    assert funded.uses.take(asked.use_id) == 8_000


def test_lease_is_written_rarely(funded: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process writes its lease with its first use, then when it is due or when told to renew."""

    def ends() -> datetime:
        ((found,),) = funded.db.fetch(select(lease.c.expires_at))
        return found

    funded.uses.renew()
    assert funded.db.fetch(select(lease)) == []
    funded.uses.reserve(order(), NOW)
    silence(funded)
    funded.uses.reserve(asked := order(), NOW)
    assert ends().year == 2020
    monkeypatch.setattr(leases, "RENEW", -1.0)
    funded.uses.reserve(order(), NOW)
    assert ends() > datetime.now(UTC) + timedelta(seconds=20)
    silence(funded)
    funded.uses.release(asked.use_id)
    funded.uses.renew()
    assert ends() > datetime.now(UTC) + timedelta(seconds=20)


def test_failed_resolution(funded: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A use that could not be taken is given back as soon as the store answers again."""
    funded.uses.reserve(asked := order(), NOW)

    def fail(*_: object, **__: object) -> None:
        raise StoreUnavailable("down")

    with monkeypatch.context() as patch:
        patch.setattr(funded.db, "alone", fail)
        with pytest.raises(StoreUnavailable, match="down"):
            funded.uses.take(asked.use_id)
        assert funded.uses.holds()
    funded.uses.renew()
    assert not funded.uses.holds()
    assert balance(funded) == (10_000, 0)


def test_a_use_that_cannot_be_given_back(funded: Store) -> None:
    """One account's damaged books are told of, and keep no other's use from going back."""
    for number in range(1, 6):
        funded.payments.admit(credit(funded, number), NOW)
        funded.uses.reserve(asked := order(number), NOW)
        funded.uses.abandon(asked.use_id)
    of_the_third = f"WHERE token_id = '{token_id(3).hex()}'"
    damage(funded, f"UPDATE l402_credit SET reserved = 0 {of_the_third}")
    silence(funded)
    with pytest.raises(StoreUnavailable, match="l402_credit_reserved"):
        funded.uses.renew()
    assert [balance(funded, number) for number in (1, 2, 4, 5)] == [(10_000, 0)] * 4
    assert balance(funded, 3) == (8_000, 0)
    assert funded.uses.holds()
    damage(funded, f"UPDATE l402_credit SET reserved = 2000 {of_the_third}")
    funded.uses.renew()
    assert balance(funded, 3) == (10_000, 0)
    assert not funded.uses.holds()


def test_a_store_that_fails_for_long(funded: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sweep that gives back nothing for as long as a lease waits to be renewed leaves off."""
    for _ in range(5):
        funded.uses.reserve(asked := order(), NOW)
        funded.uses.abandon(asked.use_id)
    tries: list[int] = []

    def fail(*_: object, **__: object) -> None:
        tries.append(1)
        raise StoreUnavailable("down")

    with monkeypatch.context() as patch:
        patch.setattr(leases, "RENEW", 0.0)
        patch.setattr(funded.db, "alone", fail)
        with pytest.raises(StoreUnavailable, match="down"):
            funded.uses.renew()
    assert len(tries) == 1
    funded.uses.renew()
    assert balance(funded) == (10_000, 0)


# --- races


def race(*acts: Callable[[], object]) -> list[object]:
    """Run all of them at the same time; give what they returned."""
    barrier = threading.Barrier(len(acts))

    def act(each: Callable[[], object]) -> object:
        barrier.wait(20)
        return each()

    with ThreadPoolExecutor(len(acts)) as pool:
        return [job.result(60) for job in [pool.submit(act, each) for each in acts]]


@pytest.mark.parametrize("isolation", ["", SERIALIZABLE])
def test_three_ways_to_end(store: Store, isolation: str) -> None:
    """Taking, giving back and sweeping one use at once resolve it once, and the sums agree."""
    url = url_of(store)
    if isolation and url.startswith("sqlite"):
        pytest.skip("SQLite has one level")
    stores = [Store(url + isolation) for _ in range(3)]
    for number in range(12):
        store.payments.admit(credit(store, number), NOW)
        stores[0].uses.reserve(asked := order(number), NOW)
        silence(store)
        race(
            lambda use_id=asked.use_id: stores[0].uses.take(use_id),
            lambda use_id=asked.use_id: stores[1].uses.release(use_id),
            stores[2].uses.recover,
        )
        mine = list(store.ledger.entries(token_id=token_id(number).hex()))
        assert [entry.kind for entry in mine] in (
            ["purchase", "use"],
            ["purchase", "release", "use"],
        )
        assert balance(store, number) == (8_000, 0)
    for each in stores:
        each.close()
    owned, booked = totals(store)
    assert owned == booked


def test_release_races_take(funded: Store) -> None:
    """Two threads that give the same use back at once give it back once."""
    for _ in range(10):
        funded.uses.reserve(asked := order(), NOW)
        outcomes = race(*[lambda use_id=asked.use_id: funded.uses.release(use_id)] * 3)
        assert sorted(map(str, outcomes)) == ["10000", "None", "None"]


def test_threads(store: Store) -> None:
    """Threads that call more often than was bought succeed exactly as often as was bought."""
    store.payments.admit(credit(store, msat=50 * PRICE), NOW)

    def call() -> Counter[str]:
        done: Counter[str] = Counter()
        for _ in range(20):
            asked = order(msat=PRICE)
            outcome = store.uses.reserve(asked, NOW)
            if isinstance(outcome, Reserved):
                store.uses.take(asked.use_id)
            done[type(outcome).__name__] += 1
        return done

    done = sum(race(*[call] * 8), Counter())
    assert done == {"Reserved": 50, "Short": 110}
    assert balance(store) == (0, 0)


def last_units(url: str) -> None:
    migrate.upgrade(url.partition("?")[0])
    redemptions.sell(url, ROUNDS, PRICE)
    won = redemptions.race_together(url, ROUNDS, attempts=200, seconds=60 + ROUNDS)
    assert sorted(won) == list(range(ROUNDS))
    with closing(Store(url)) as store:
        assert totals(store) == (0, 0)
        assert Counter(kinds(store)) == {"purchase": ROUNDS, "use": ROUNDS}


def test_last_unit(database_url: str) -> None:
    """Of 200 calls of eight processes that race for the last unit, one succeeds, every time."""
    last_units(database_url)


@pytest.mark.postgres
def test_last_unit_serializable(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same holds where the server runs each transaction at SERIALIZABLE."""
    monkeypatch.setattr(sys.modules[__name__], "ROUNDS", min(ROUNDS, 5))
    last_units(postgres_url + SERIALIZABLE)


def test_conservation(database_url: str) -> None:
    """While eight processes redeem, and when they are done, nothing is lost and nothing made."""
    migrate.upgrade(database_url)
    accounts = max(10, REDEMPTIONS // 100)
    redemptions.sell(database_url, accounts, 95 * PRICE)
    with closing(Store(database_url)) as store:
        tallies, before = [], accounts * 95 * PRICE
        for job in redemptions.redeem_together(database_url, REDEMPTIONS, accounts):
            while not job.ready():
                owned, booked = totals(store)
                assert before >= owned == booked
                before = owned
                job.wait(0.05)
            tallies.append(job.get(timeout=60))
        taken = sum(tally.taken for tally in tallies)
        released = sum(tally.released for tally in tallies)
        short = sum(tally.short for tally in tallies)
        assert taken + released + short == REDEMPTIONS // 8 * 8
        assert totals(store) == ((accounts * 95 - taken) * PRICE,) * 2
        done = Counter(kinds(store))
        assert (done["use"], done["release"]) == (taken, released)
        assert store.db.fetch(select(use_table)) == []
        differences: list[Difference] = []
        audited = Audit(store.db).run(differences.append, lambda step: None)
        assert differences == []
        assert audited.used == taken * PRICE
        assert audited.written_off == 0


def chained(url: str, accounts: int) -> None:
    migrate.upgrade(url.partition("?")[0])
    redemptions.sell(url, accounts, CHAINED * PRICE)
    for job in redemptions.redeem_together(url, CHAINED, accounts):
        job.get(timeout=120)
    with closing(Store(url)) as store:
        owned: Counter[str] = Counter()
        for each in store.ledger.entries():
            assert each.balance_before == owned[each.token_id]
            owned[each.token_id] = each.balance_after
        assert owned.total() == totals(store)[0]


def test_chain(database_url: str) -> None:
    """However many processes draw on one account, its entries follow from each other."""
    chained(database_url, 1)


@pytest.mark.postgres
def test_chain_serializable(postgres_url: str) -> None:
    """The same holds at SERIALIZABLE, where what had to wait for another runs again."""
    chained(postgres_url + SERIALIZABLE, 16)


# --- processes that die


def killed(url: str, numbers: range, die: str = "", after: int = 0) -> list[int]:
    """Let a process redeem until it dies, by itself or after so many; give what it told."""
    reader, writer = os.pipe()
    pipe = SPAWN.reducer.DupFd(writer)
    process = SPAWN.Process(target=_redeem, args=(url, pipe, numbers, die))
    process.start()
    os.close(writer)
    told: list[int] = []
    with os.fdopen(reader) as lines:
        for line in lines:
            told += [int(line)] if line.endswith("\n") else []
            if after and len(told) == after:
                process.kill()
    process.join(60)
    assert process.exitcode == -9
    process.close()
    return told


def _redeem(url: str, pipe, numbers: range, die: str) -> None:
    redemptions.redeem_and_tell(url, pipe.detach(), numbers, die)


def check_recovered(store: Store, told: list[int], bought: int) -> int:
    """See that what was told is spent, that nothing hangs, and that the sums agree; count uses."""
    silence(store)
    store.uses.recover()
    entries = list(store.ledger.entries(kinds=["use"]))
    operations = {entry.operation for entry in entries}
    assert operations >= {f"use:{redemptions.use_id(number).hex()}" for number in told}
    assert balance(store) == (bought - PRICE * len(entries), 0)
    owned, booked = totals(store)
    assert owned == booked
    if store.db.url.get_backend_name() == "sqlite":
        with store.db.read() as connection:
            assert connection.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"
    return len(entries)


def test_killed_at_any_time(store: Store) -> None:
    """A process killed under load has spent what it told, and at most the one in its hands."""
    store.payments.admit(credit(store, msat=10**9), NOW)
    before = 0
    for turn, after in enumerate((1, 23, 80)):
        told = killed(url_of(store), range(turn * 10**6, (turn + 1) * 10**6), after=after)
        spent = check_recovered(store, told, 10**9)
        assert spent - before - len(told) in (0, 1)
        before = spent


@pytest.mark.parametrize(
    ("die", "stands"), [("reserving", 2), ("reserved", 2), ("taking", 2), ("taken", 3)]
)
def test_killed_at_a_point(funded: Store, die: str, stands: int) -> None:
    """Killed before the taking's commit a use comes back to its buyer; after it, it is spent."""
    told = killed(url_of(funded), range(3), die)
    assert told == [0, 1]
    assert check_recovered(funded, told, 10_000) == stands


# --- connections that break, and forks


@pytest.fixture
def wired(postgres_server: PostgresServer, postgres_url: str):
    """A store whose account 1 has 10,000 msat, and the wire to its server."""
    migrate.upgrade(postgres_url)
    with Wire(postgres_server.port) as wire:
        url = postgres_url.replace(f":{postgres_server.port}/", f":{wire.port}/")
        with closing(Store(url)) as store:
            store.payments.admit(credit(store), NOW)
            yield store, wire


@pytest.mark.postgres
@pytest.mark.parametrize("after", [False, True])
def test_cut_in_mid_commit(wired: tuple[Store, Wire], after: bool) -> None:
    """Each step whose connection is lost in its commit is done once, whether or not it counted."""
    store, wire = wired
    wire.cut(b"COMMIT\0", after=after)
    assert store.payments.admit(credit(store, 2, token_id=token_id(1)), NOW).first is not after
    assert balance(store) == (20_000, 0)
    wire.cut(b"COMMIT\0", after=after)  # the first use comes with a lease
    assert store.uses.reserve(asked := order(), NOW) == Reserved(asked.use_id, 18_000, END)
    wire.cut(ALONE, after=after)
    assert store.uses.take(asked.use_id) == 18_000
    wire.cut(ALONE, after=after)
    assert store.uses.reserve(asked := order(), NOW) == Reserved(asked.use_id, 16_000, END)
    wire.cut(ALONE, after=after)
    assert store.uses.release(asked.use_id) == (None if after else 18_000)
    assert balance(store) == (18_000, 0)
    store.uses.reserve(asked := order(msat=17_000), NOW)
    store.uses.release(asked.use_id)
    store.uses.reserve(order(msat=17_000), NOW)
    wire.cut(b"COMMIT\0", after=after)
    assert store.uses.take(asked.use_id) == 0
    (lent,) = store.ledger.entries(kinds=["write_off"])
    assert lent.msat == 16_000
    hand = {"why": "test", "operation": "a", "now": NOW}
    wire.cut(b"COMMIT\0", after=after)
    made = store.credits.adjust(token_id(1).hex(), "quotes", 500, **hand)
    assert (made.first, made.balance) == (not after, 500)
    owned, booked = totals(store)
    assert owned == booked == 17_500
    assert not store.uses._unsure


@pytest.fixture
def late(wired: tuple[Store, Wire]) -> Callable[[Callable[[], object]], Callable[[], None]]:
    """Do something whose connection breaks; it is done again, and arrives once more when told."""
    store, wire = wired

    def late(act: Callable[[], object]) -> Callable[[], None]:
        ((session,),) = store.db.fetch(_SESSION)
        wire.delay(ALONE)
        act()

        def arrive() -> None:
            wire.deliver()
            while store.db.fetch(_SERVED, {"pid": session}):
                pass

        return arrive

    return late


_SESSION = text("SELECT pg_backend_pid()")
_SERVED = text("SELECT pid FROM pg_stat_activity WHERE pid = :pid")


@pytest.mark.postgres
@pytest.mark.parametrize("end", ["take", "release"])
@pytest.mark.parametrize("charged", [0, 500])
def test_late_reservation(wired: tuple[Store, Wire], late, end: str, charged: int) -> None:
    """A reservation that arrives when its use is over already is given back as any other.

    All of it is, also when a charge arrives after it.
    """
    store, _ = wired
    store.uses.reserve(first := order(msat=1), NOW)
    asked = order()
    arrive = late(lambda: store.uses.reserve(asked, NOW))
    left = getattr(store.uses, end)(asked.use_id)
    assert balance(store) == (left, 1)
    arrive()
    assert balance(store) == (left - 2_000, 2_001)
    store.uses.charge(asked.use_id, charged)
    store.uses.renew()
    assert balance(store) == (left, 1)
    store.uses.take(first.use_id)
    differences: list[Difference] = []
    Audit(store.db).run(differences.append, lambda step: None)
    assert differences == []


@pytest.mark.postgres
def test_late_charge(wired: tuple[Store, Wire], late) -> None:
    """A charge that arrives after a higher one changes nothing."""
    store, _ = wired
    store.uses.reserve(metered := order(), NOW)
    arrive = late(lambda: store.uses.charge(metered.use_id, 500))
    store.uses.charge(metered.use_id, 700)
    arrive()
    assert store.uses.release(metered.use_id) == 9_300


@pytest.mark.postgres
def test_alone_is_one_exchange(wired: tuple[Store, Wire]) -> None:
    """What a call changes is sent at once, and done with by the time that the server answers."""
    store, wire = wired
    store.uses.reserve(order(), NOW)
    asked = wire.asked
    store.uses.reserve(taken := order(), NOW)
    store.uses.take(taken.use_id)
    store.uses.reserve(given_back := order(), NOW)
    store.uses.release(given_back.use_id)
    assert wire.asked - asked == 4


@pytest.mark.postgres
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("statement", [b"UPDATE l402_credit", b"INSERT INTO l402_use", b"BEGIN"])
def test_cut_in_mid_transaction(wired: tuple[Store, Wire], statement: bytes, after: bool) -> None:
    """A connection lost before the commit is replaced, and the call goes on as if nothing was."""
    store, wire = wired
    wire.cut(statement, after=after)
    assert store.uses.reserve(asked := order(), NOW) == Reserved(asked.use_id, 8_000, END)
    assert store.uses.take(asked.use_id) == 8_000
    assert totals(store) == (8_000, 8_000)


@pytest.mark.postgres
def test_lost_reservation(wired: tuple[Store, Wire], monkeypatch: pytest.MonkeyPatch) -> None:
    """A reservation that may have counted when its last try failed is given back later."""
    store, wire = wired
    wire.cut(b"COMMIT\0", after=True)
    with monkeypatch.context() as impatient:
        impatient.setattr("l402.store.engine.PATIENCE", -1.0)
        with pytest.raises(StoreUnavailable):
            store.uses.reserve(order(), NOW)
    while balance(store) != (8_000, 2_000):  # the server may still be at it
        threading.Event().wait(0.01)
    store.uses.renew()
    assert balance(store) == (10_000, 0)


FORK = """
import os, sys
from l402.store import Store
from support.sales import NOW, order

store = Store(sys.argv[1])
parents = order()
store.uses.reserve(parents, NOW)
process = store.uses._lease.process
child = os.fork()
if child:
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert store.uses._lease.process == process
    store.uses.take(parents.use_id)
    store.close()
else:
    assert not store.uses.holds()
    assert store.uses._lease.process != process
    asked = order()
    store.uses.reserve(asked, NOW)
    store.uses.take(asked.use_id)
    store.close()
    os._exit(0)
"""


def test_fork(funded: Store) -> None:
    """A forked child holds none of its parent's uses, and has a lease of its own."""
    root = Path(__file__).parents[1]
    subprocess.run(
        [sys.executable, "-c", FORK, url_of(funded)],
        check=True,
        timeout=60,
        env={"PYTHONPATH": f"{root}:{root / 'tests'}"},
    )
    assert balance(funded) == (6_000, 0)
    assert len(funded.db.fetch(select(lease))) == 2


def test_a_repeat_that_came_first_is_the_one_that_is_charged(funded: Store) -> None:
    """A silent process's call was made again under its key and taken: it is not charged late."""
    call = Call(b"k" * 32, b"f" * 32)
    silent, again = order(), order()
    assert isinstance(funded.uses.reserve(silent, NOW, call), Reserved)
    silence(funded)
    assert funded.uses.recover() == 1
    assert isinstance(funded.uses.reserve(again, NOW, call), Reserved)
    assert funded.uses.take(again.use_id, Answer(200, "[]", b"again")) == 8_000
    assert funded.uses.take(silent.use_id, Answer(200, "[]", b"late")) == 8_000
    assert kinds(funded) == ["purchase", "release", "use"]


def test_what_no_request_holds_is_given_back(funded: Store) -> None:
    """A reservation that was committed although its request was told otherwise comes back."""
    asked = order()
    funded.uses.reserve(asked, NOW)
    funded.uses._held.clear()  # as when the answer to the commit was lost, and the next try too
    assert balance(funded) == (8_000, 2_000)
    funded.uses.renew()
    assert balance(funded) == (10_000, 0)
    assert not funded.uses.holds()
