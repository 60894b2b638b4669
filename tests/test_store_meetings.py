"""A step of a use that finds its row or its balance being changed, and goes on with what it became.

On Postgres a step is one statement, which saw all of it before it began to wait.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Connection, text, update
from support.books import damage
from support.postgres import PostgresServer
from support.sales import ISSUED, NOW, credit, order, token_id
from support.wires import Wire

from l402.errors import StoreUnavailable
from l402.store import Store, balances, ledger, meters, migrate, steps
from l402.store.audit import Audit, Difference
from l402.store.ledger import Account
from l402.store.orders import Order, Reserved
from l402.store.replies import Call
from l402.store.tables import lease

pytest_plugins = ["support.databases"]
pytestmark = pytest.mark.postgres

END = datetime.fromtimestamp(ISSUED + 4200, UTC)
SERIALIZABLE = "?options=-c%20default_transaction_isolation%3Dserializable"
_WAITING = text(
    "SELECT pid FROM pg_stat_activity"
    " WHERE datname = current_database() AND wait_event_type = 'Lock'"
)


def by_hand(msat: int) -> Callable[[Connection, Order], None]:
    def adjust(connection: Connection, held: Order) -> None:
        account = Account(held.token_id.hex(), held.service)
        _, owned = balances.move(connection, account, free=msat)
        kind, name = ledger.BY_HAND[msat < 0], f"hand:{held.use_id.hex()}"
        ledger.append(connection, kind, name, account, msat=abs(msat), after=owned)

    return adjust


def top_up_of_what_ended(connection: Connection, held: Order) -> None:
    """Expire what is left, and begin anew, as a payment does after the end."""
    token, ends_at = held.token_id.hex(), NOW + timedelta(days=2)
    row = {"token_id": token, "service": held.service, "msat": 3_000, "ends_at": ends_at}
    balances.purchase(connection, row | {"payment_hash": token, "presented_at": ends_at})


def expire(connection: Connection, held: Order) -> None:
    account = Account(held.token_id.hex(), held.service)
    balances.expire(connection, account, balances.lock(connection, account).balance)


def reserve_another(connection: Connection, held: Order) -> None:
    asked = steps.asked(order(number_of(held), 6_500), "f" * 32, NOW)
    assert steps.RESERVE.run(connection, asked)


def extend(connection: Connection, held: Order) -> None:
    meters.extend(connection, held, held.msat, 1, 5_000, NOW)


def charge(connection: Connection, held: Order) -> None:
    meters._CHARGE.run(connection, {"own": held.use_id.hex(), "so_far": 700})


def take(connection: Connection, held: Order) -> None:
    steps.TAKE.run(connection, {"own": held.use_id.hex(), "cost": None})


def give_back(connection: Connection, held: Order) -> None:
    steps.GIVE_BACK.run(connection, {"own": held.use_id.hex()})


def number_of(held: Order) -> int:
    return next(number for number in range(100) if token_id(number) == held.token_id)


FIRST = {
    "credit by hand": by_hand(4_000),
    "debit by hand": by_hand(-7_000),
    "top up of what ended": top_up_of_what_ended,
    "expire": expire,
    "reserve another": reserve_another,
    "extend": extend,
    "charge": charge,
    "take": take,
    "give back": give_back,
}
THEN: dict[str, Callable[[Store, Order], Any]] = {
    "reserve": lambda store, held: getattr(
        store.uses.reserve(order(number_of(held)), NOW), "balance", None
    ),
    "take": lambda store, held: store.uses.take(held.use_id),
    "take a part": lambda store, held: store.uses.take(held.use_id, msat=1_500),
    "give back": lambda store, held: store.uses.release(held.use_id),
    "give back of the dead": lambda store, held: store.db.run(
        partial(store.uses._give_back, held.use_id.hex(), lapsed=True)
    ),
}


@pytest.fixture(params=["", SERIALIZABLE], ids=["read committed", "serializable"])
def shop(request: pytest.FixtureRequest, postgres_url: str) -> Iterator[Store]:
    migrate.upgrade(postgres_url)
    with closing(Store(postgres_url + request.param)) as store:
        yield store


def silence(store: Store) -> None:
    with store.db.write() as connection:
        connection.execute(update(lease).values(expires_at=datetime(2020, 1, 1, tzinfo=UTC)))


def became(store: Store, number: int) -> list[tuple[object, ...]]:
    entries = store.ledger.entries(token_id=token_id(number).hex())
    lines = [(e.kind, e.msat, e.balance_before, e.balance_after) for e in entries]
    return [*lines, *((c.balance, c.reserved) for c in store.credits.of(token_id(number)))]


@pytest.mark.parametrize("then", THEN)
def test_as_one_after_the_other(shop: Store, then: str) -> None:
    """Whoever waits does what he would have done, had he come when the other was done."""
    for number, first in enumerate(FIRST):
        met = outcome(shop, 2 * number, first, then, meets=True)
        assert met == outcome(shop, 2 * number + 1, first, then, meets=False), first
    found: list[Difference] = []
    Audit(shop.db).run(found.append, lambda step: None)
    assert [each for each in found if "payment" not in each.what] == []  # the top-up has none


def await_waiting(store: Store, job: Future[Any], number: int = 1) -> None:
    """Return once so many statements wait for others' locks, or the job is done without."""
    while not job.done() and len(store.db.fetch(_WAITING)) < number:
        pass


def outcome(store: Store, number: int, first: str, then: str, *, meets: bool) -> object:
    """Do one thing while the other is not committed yet, or when it is; say what there is then."""
    store.payments.admit(credit(store, number), NOW)
    store.uses.reserve(held := order(number), NOW)
    silence(store)
    act = partial(THEN[then], store, held)
    with (
        closing(Store(store.db.url.render_as_string(hide_password=False))) as other,
        ThreadPoolExecutor(1) as pool,
    ):
        with other.db.write() as connection:
            FIRST[first](connection, held)
            job = pool.submit(act) if meets else None
            if job:
                await_waiting(store, job)
        result = job.result(20) if job else act()
    return result, became(store, number)


@pytest.fixture(params=["", SERIALIZABLE], ids=["read committed", "serializable"])
def wired(
    request: pytest.FixtureRequest, postgres_server: PostgresServer, postgres_url: str
) -> Iterator[tuple[Store, Wire]]:
    """A store whose account 1 has 10,000 msat left and a use in flight, and the wire to it."""
    migrate.upgrade(postgres_url)
    with Wire(postgres_server.port) as wire:
        url = postgres_url.replace(f":{postgres_server.port}/", f":{wire.port}/")
        with closing(Store(url + request.param)) as store:
            store.payments.admit(credit(store, msat=11_000), NOW)
            store.uses.reserve(order(msat=1_000), NOW)
            yield store, wire


@pytest.mark.parametrize("msat", [2_000, 10_000])
def test_two_tries_of_one_reservation(
    wired: tuple[Store, Wire], postgres_url: str, msat: int
) -> None:
    """A call whose connection broke is told what its first try, still waiting then, set aside."""
    store, wire = wired
    asked = order(msat=msat)
    with closing(Store(postgres_url)) as other, ThreadPoolExecutor(1) as pool:
        with other.db.write() as connection:
            balances.lock(connection, Account(asked.token_id.hex(), asked.service))
            wire.cut(b"SET LOCAL", after=True)
            job = pool.submit(store.uses.reserve, asked, NOW)
            await_waiting(other, job, 2)
        assert job.result(20) == Reserved(asked.use_id, 10_000 - msat, END)
    assert store.uses.take(asked.use_id) == 10_000 - msat


@pytest.mark.parametrize("msat", [2_000, 10_000])
def test_two_tries_of_a_reservation_with_a_key(
    wired: tuple[Store, Wire], postgres_url: str, msat: int
) -> None:
    """The same holds under an Idempotency-Key, which the first try made the call's own."""
    store, wire = wired
    asked = order(msat=msat)
    with closing(Store(postgres_url)) as other, ThreadPoolExecutor(1) as pool:
        wire.delay(b"COMMIT\0")
        job = pool.submit(store.uses.reserve, asked, NOW, Call(b"k" * 32, b"f" * 32))
        await_waiting(other, job)
        wire.deliver()
        assert job.result(20) == Reserved(asked.use_id, 10_000 - msat, END)
    assert store.uses.take(asked.use_id) == 10_000 - msat


def test_damaged_books(shop: Store) -> None:
    """What the books really do not have is told after a few tries: others wait for their turn."""
    shop.payments.admit(credit(shop), NOW)
    shop.uses.reserve(held := order(), NOW)
    damage(shop, "UPDATE l402_credit SET reserved = 0")
    tries: list[int] = []

    def give_back() -> None:
        tries.append(1)
        shop.uses._give_back(held.use_id.hex())

    with pytest.raises(StoreUnavailable, match="l402_credit_reserved"):
        shop.db.run(give_back)
    assert 2 <= len(tries) <= 10
