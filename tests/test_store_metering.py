"""Metered uses: what is charged of them, and set aside for them, while they are in flight."""

import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select, text, update
from support.books import damage
from support.redemptions import totals
from support.sales import ISSUED, NOW, credit, order, token_id

from l402.errors import StoreUnavailable
from l402.store import Store, meters, migrate
from l402.store.audit import Audit, Difference
from l402.store.faults import Interrupted
from l402.store.meters import Extended
from l402.store.orders import Order, Reserved, Short
from l402.store.replies import Answer, Call, Conflict
from l402.store.tables import lease, use

pytest_plugins = ["support.databases"]

END = datetime.fromtimestamp(ISSUED + 4200, UTC)


@pytest.fixture
def funded(store: Store) -> Store:
    """A store whose account 1 has 10,000 msat."""
    store.payments.admit(credit(store), NOW)
    return store


def reserved(store: Store, msat: int = 2_000, call: Call | None = None) -> Order:
    """Set aside what a metered call begins with."""
    asked = order(msat=msat)
    assert isinstance(store.uses.reserve(asked, NOW, call), Reserved)
    return asked


def balance(store: Store) -> tuple[int, int]:
    (found,) = store.credits.of(token_id(1))
    return found.balance, found.reserved


def lines(store: Store) -> list[tuple[str, str, int, int]]:
    """Give what the book says after the purchase."""
    entries = list(store.ledger.entries())[1:]
    return [(e.operation.partition(":")[0], e.kind, e.msat, e.balance_after) for e in entries]


def silence(store: Store) -> None:
    """Have every lease lapse, as if its process had not been heard of for long."""
    with store.db.write() as connection:
        connection.execute(update(lease).values(expires_at=datetime(2020, 1, 1, tzinfo=UTC)))


def differences(store: Store) -> list[Difference]:
    found: list[Difference] = []
    Audit(store.db).run(found.append, lambda _: None)
    return found


@pytest.fixture(autouse=True)
def audited(store: Store) -> object:
    """Whatever a test did, the books agree."""
    yield
    assert differences(store) == []


@pytest.mark.parametrize("msat", [0, 1, 1_999, 2_000])
def test_taken_in_part(funded: Store, msat: int) -> None:
    """What a call cost is spent, and the rest of what was set aside goes back, in one line."""
    asked = reserved(funded)
    for _ in range(2):
        assert funded.uses.take(asked.use_id, msat=msat) == 10_000 - msat
    assert balance(funded) == (10_000 - msat, 0)
    assert lines(funded) == [("use", "use", msat, 10_000 - msat)]


def test_charged_while_in_flight(funded: Store) -> None:
    """What is noted on the way is not taken yet, and does not add up: it is the sum so far."""
    asked = reserved(funded)
    for msat in (300, 700, 700):
        funded.uses.charge(asked.use_id, msat)
    assert balance(funded) == (8_000, 2_000)
    assert funded.uses.take(asked.use_id, msat=900) == 9_100
    with pytest.raises(StoreUnavailable, match="is resolved"):
        funded.uses.charge(asked.use_id, 1_000)


def test_given_back_but_for_what_was_charged(funded: Store) -> None:
    """A call that breaks off has cost what was noted; that is a use, and there is no release."""
    asked = reserved(funded)
    funded.uses.charge(asked.use_id, 700)
    assert funded.uses.release(asked.use_id) == 9_300
    assert funded.uses.release(asked.use_id) is None
    assert lines(funded) == [("use", "use", 700, 9_300)]


def test_lapsed(funded: Store) -> None:
    """A process that died has charged what it noted, and the rest is given back."""
    with closing(Store(funded.db.url.render_as_string(hide_password=False))) as dead:
        asked = reserved(dead)
        dead.uses.charge(asked.use_id, 700)
        silence(funded)
        assert funded.uses.recover() == 1
        assert balance(funded) == (9_300, 0)
        with pytest.raises(StoreUnavailable, match="silent for too long"):
            dead.uses.charge(asked.use_id, 800)
        with pytest.raises(StoreUnavailable, match="silent for too long"):
            dead.uses.extend(asked, 2_000, 1, 1, NOW)
        assert dead.uses.release(asked.use_id) is None
    assert lines(funded) == [("use", "use", 700, 9_300)]


@pytest.mark.parametrize(
    ("noted", "cost", "left"), [(0, 0, 10_000), (700, 700, 9_300), (700, 1_500, 8_500)]
)
def test_late(funded: Store, noted: int, cost: int, left: int) -> None:
    """Who settles after a lapse is debited only what was not charged by then, once."""
    asked = reserved(funded)
    if noted:
        funded.uses.charge(asked.use_id, noted)
    silence(funded)
    funded.uses.recover()
    for _ in range(2):
        assert funded.uses.take(asked.use_id, msat=cost) == left
    first = ("use", "use", noted, 10_000 - noted) if noted else ("use", "release", 2_000, 10_000)
    late = [("late", "use", cost - noted, left)] if cost > noted else []
    assert lines(funded) == [first, *late]


def test_late_and_spent(funded: Store) -> None:
    """What the balance no longer has when a metered call ends late is the house's loss."""
    asked = reserved(funded)
    funded.uses.charge(asked.use_id, 700)
    silence(funded)
    funded.uses.recover()
    funded.uses.take(reserved(funded, 9_000).use_id)
    for _ in range(2):
        assert funded.uses.take(asked.use_id, msat=1_800) == 0
    (lent,) = funded.ledger.entries(kinds=["write_off"])
    assert lent.msat == 800
    assert totals(funded) == (0, 0)


def test_extended(funded: Store) -> None:
    """More is set aside while the balance has it, then what is left, if that is enough."""
    asked = reserved(funded)
    assert funded.uses.extend(asked, 2_000, 100, 2_000, NOW) == Extended(4_000, 6_000)
    assert funded.uses.extend(asked, 4_000, 100, 5_000, NOW) == Extended(9_000, 1_000)
    assert funded.uses.extend(asked, 9_000, 1_001, 2_000, NOW) == Short(1_000, False)
    assert funded.uses.extend(asked, 9_000, 1, 2_000, END) == Short(1_000, True)
    assert funded.uses.extend(asked, 9_000, 1_000, 2_000, NOW) == Extended(10_000, 0)
    assert balance(funded) == (0, 10_000)
    assert differences(funded) == []
    assert funded.uses.take(asked.use_id, msat=9_500) == 500
    assert lines(funded) == [("use", "use", 9_500, 500)]


def test_extended_once(funded: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit that counted although it seemed lost sets aside no second time."""
    asked = reserved(funded)
    write, lost = funded.db.write, [True]

    class Losing:
        def __init__(self) -> None:
            self._within = write()

        def __enter__(self) -> object:
            return self._within.__enter__()

        def __exit__(self, *error: object) -> None:
            self._within.__exit__(*error)
            if lost and not any(error):
                lost.pop()
                raise Interrupted("the connection broke after the commit")

    with monkeypatch.context() as patch:
        patch.setattr(funded.db, "write", Losing)
        assert funded.uses.extend(asked, 2_000, 1, 3_000, NOW) == Extended(5_000, 5_000)
    assert balance(funded) == (5_000, 5_000)


def test_the_dead_do_not_stand_in_the_way(funded: Store) -> None:
    """What a silent process of the account holds is given back when a call needs more."""
    with closing(Store(funded.db.url.render_as_string(hide_password=False))) as dead:
        reserved(dead, 7_000)
        silence(funded)
        asked = reserved(funded)
        assert funded.uses.extend(asked, 2_000, 5_000, 5_000, NOW) == Extended(7_000, 3_000)


def test_the_key_of_a_broken_call_is_spent(funded: Store) -> None:
    """Under an Idempotency-Key a call that was charged in part never runs again."""
    call = Call(secrets.token_bytes(32), b"f" * 32)
    asked = reserved(funded, call=call)
    funded.uses.charge(asked.use_id, 100)
    funded.uses.release(asked.use_id)
    assert funded.uses.reserve(order(), NOW, call) is Conflict.NOT_REPLAYABLE
    other = Call(secrets.token_bytes(32), b"f" * 32)
    funded.uses.release(reserved(funded, call=other).use_id)
    funded.uses.take(reserved(funded, call=other).use_id, Answer(200, "[]", None), 0)
    assert funded.uses.reserve(order(), NOW, other) is Conflict.NOT_REPLAYABLE


def test_abandoned(funded: Store) -> None:
    """A use that nobody will resolve is, at the next renewal."""
    asked = reserved(funded)
    funded.uses.charge(asked.use_id, 700)
    funded.uses.abandon(asked.use_id)
    assert funded.uses.holds()
    funded.uses.renew()
    assert not funded.uses.holds()
    assert balance(funded) == (9_300, 0)


def race(acts: list[Callable[[], object]]) -> None:
    """Run all of them at the same time, whatever they raise for coming too late."""

    def act(each: Callable[[], object]) -> None:
        with suppress(StoreUnavailable):  # resolved by another
            each()

    with ThreadPoolExecutor(len(acts)) as pool:
        for job in [pool.submit(act, each) for each in acts]:
            job.result(60)


def test_all_at_once(store: Store) -> None:
    """Whoever extends, charges, takes, gives back and sweeps one use at once: the sums agree."""
    url = store.db.url.render_as_string(hide_password=False)
    with closing(Store(url)) as second, closing(Store(url)) as third:
        for number in range(10):
            store.payments.admit(credit(store, number), NOW)
            asked = order(number)
            store.uses.reserve(asked, NOW + timedelta(seconds=number))
            if number % 2:
                silence(store)
            race(
                [
                    lambda a=asked: store.uses.extend(a, 2_000, 1_000, 3_000, NOW),
                    lambda a=asked: second.uses.charge(a.use_id, 1_500),
                    lambda a=asked: store.uses.take(a.use_id, msat=1_900),
                    lambda a=asked: second.uses.release(a.use_id),
                    third.uses.recover,
                ]
            )
        owned, booked = totals(store)
        assert owned == booked
        assert store.db.fetch(select(use)) == []


@pytest.mark.postgres
@pytest.mark.parametrize(("end", "left"), [("take", 8_100), ("release", 10_000)])
def test_ended_while_it_grows(postgres_url: str, end: str, left: int) -> None:
    """Whoever ends a use that is just being extended waits for that, and ends all of it."""
    migrate.upgrade(postgres_url)
    with closing(Store(postgres_url)) as store, ThreadPoolExecutor(1) as pool:
        store.payments.admit(credit(store), NOW)
        asked = reserved(store)
        options = {"msat": 1_900} if end == "take" else {}
        with store.db.write() as connection:
            meters.extend(connection, asked, 2_000, 1_000, 3_000, NOW)
            job = pool.submit(getattr(store.uses, end), asked.use_id, **options)
            while not store.db.fetch(_WAITING):
                assert not job.done()
        assert job.result(20) == left
        assert balance(store) == (left, 0)


_WAITING = text(
    "SELECT pid FROM pg_stat_activity"
    " WHERE datname = current_database() AND wait_event_type = 'Lock'"
)


def test_more_charged_than_held_is_found(funded: Store) -> None:
    """The audit names a use that was charged more than is set aside for it."""
    asked = reserved(funded)
    funded.uses.charge(asked.use_id, 2_001)
    (found,) = differences(funded)
    assert (found.expected, found.found) == (2_000, 2_001)
    assert asked.use_id.hex() in found.what
    damage(funded, "UPDATE l402_use SET charged = 0")
