"""Purging: what nobody can use goes, the sums stay, and nothing that was purged counts again."""

import os
import secrets
import threading
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.exc import DatabaseError
from support import redemptions, sales
from support.books import buy, damage, fill, use
from support.killing import await_
from support.purges import (
    HOUR,
    LATER,
    START,
    at,
    credit,
    ended,
    expire_all,
    figures,
    left,
    purge,
    purge_again_and_again,
    purge_all,
    purge_and_die,
)
from support.sales import NOW, payment_hash, sale, token_id

from l402.store import Store, closings, migrate, removal
from l402.store import purge as purge_module
from l402.store.audit import Audit, Difference
from l402.store.payments import Sale
from l402.store.purge import Purge
from l402.store.settlements import Settled, Settlements

pytest_plugins = ["support.databases"]

EXAMPLES = int(os.environ.get("PURGE_EXAMPLES", "30"))


def history(store: Store) -> None:
    """Sell, serve, lend and help: accounts 1 to 9, of which nothing is left but the books."""
    for number in (1, 2, 3):
        credit(store, number, hours=number)
    use(store, 1, now=at(1), endpoint="call")
    held = redemptions.sales.order(2)
    store.uses.reserve(held, at(2))
    store.uses.release(held.use_id)
    token = token_id(3).hex()
    store.credits.adjust(token, "quotes", 5_000, why="sorry", operation="ticket", now=at(3))
    for number, service in ((4, "quotes"), (5, "other")):
        store.payments.admit(ended(number, START, service=service), at(30))  # too late
        store.payments.admit(ended(number + 2, START, service=service), at(0.5))
    store.revocations.revoke("token", token_id(8).hex())
    store.payments.admit(ended(8, START), at(0.5))
    credit(store, 9, hours=1, token_id=token_id(7))
    arrive(store, 1, 6, 7)
    expire_all(store)


def arrive(store: Store, *numbers: int) -> None:
    found = [
        Settled(payment_hash(n).hex(), "regtest", f"l402:{n}", 10_000, 10_000, at(0))
        for n in numbers
    ]
    Settlements(store.db).add("regtest", found, None)


def test_nothing_ended(store: Store) -> None:
    """What has not ended, or not for long enough, stays untouched."""
    fill(store)
    before, rows = figures(store), left(store)
    assert purge(store, NOW) == removal.Purged()
    assert (figures(store), left(store)) == (before, rows)


def test_sums_stay(store: Store) -> None:
    """Everything of ended accounts goes; no sum changes, of no day, service, endpoint or kind."""
    history(store)
    before = figures(store)
    done = purge(store, LATER)
    assert done == removal.Purged(
        tokens=8, payments=9, entries=11, balances=4, settlements=3, replies=0
    )
    assert set(left(store).values()) == {0}
    assert figures(store) == before
    assert purge(store, LATER) == removal.Purged()


def test_preview(store: Store) -> None:
    """What would go is what goes, and nothing went before."""
    history(store)
    rows = left(store)
    promised = Purge(store.db, LATER).preview()
    assert left(store) == rows
    assert purge(store, LATER) == promised


def test_only_when_all_has_ended(store: Store) -> None:
    """An account stays as long as one of its keys, rights, balances or answers is good."""
    store.payments.admit(ended(1, START), at(0))
    store.payments.admit(ended(2, START, token_id=token_id(1), valid_until=START + 9 * HOUR), at(0))
    credit(store, 3)
    credit(store, 4, token_id=token_id(3), ends_at=START + 9 * HOUR)
    expire_all(store)
    assert purge(store, at(9.9)).tokens == 0
    assert purge(store, at(10)).tokens == 2


def test_money_is_never_purged(store: Store) -> None:
    """A balance that nobody has booked as expired yet keeps its account."""
    credit(store, 1)
    assert purge(store, LATER).tokens == 0
    expire_all(store)
    assert purge(store, LATER).tokens == 1


def test_presented_again(store: Store) -> None:
    """What was purged is refused, whatever the caller's clock shows, and is not booked again."""
    history(store)
    purge(store, LATER)
    before = figures(store)
    for kind in ("pass", "credit"):
        again = ended(1, START + HOUR, kind=kind, ledger=store.ledger.id())
        standing = store.payments.admit(again, at(1.5))  # a clock that is a year behind
        assert (standing.first, standing.late) == (False, True)
    assert set(left(store).values()) == {0}
    assert figures(store) == before
    assert store.payments.admit(sale(50), NOW).first


def test_sold_again(store: Store) -> None:
    """A purged account that was offered more begins anew, with nothing of what it had."""
    history(store)
    purge(store, LATER)
    buy(store, 60, 4_000, token_id=token_id(1))
    use(store, 1, 1_000)
    assert [c.balance for c in store.credits.of(token_id(1))] == [3_000]
    figures(store)


def test_listed_again(store: Store) -> None:
    """A node that lists a purged payment again makes no stranger of it."""
    history(store)
    before = figures(store)
    purge(store, LATER)
    arrive(store, 1, 2, 6, 7, 70)
    assert figures(store) == before
    newer = Settled(payment_hash(71).hex(), "regtest", "l402:71", 1, 1, LATER + timedelta(hours=1))
    assert Settlements(store.db).add("regtest", [newer], None) == 1


def test_what_was_never_presented_stays(store: Store) -> None:
    """Who paid and never came is still listed, and what arrived short keeps its account."""
    store.payments.admit(ended(2, START), at(0))
    short = Settled(payment_hash(2).hex(), "regtest", "l402:2", 10_000, 9_999, at(0))
    Settlements(store.db).add("regtest", [short], None)
    arrive(store, 1)
    before = figures(store)
    assert purge(store, LATER).tokens == 0
    assert figures(store) == before


@pytest.mark.parametrize(
    "harm",
    [
        "UPDATE l402_entry SET msat = msat + 1 WHERE kind = 'use'",
        "UPDATE l402_entry SET kind = 'gift' WHERE kind = 'use'",
        "DELETE FROM l402_entry WHERE kind = 'use'",
        "DELETE FROM l402_entry WHERE kind = 'expiry'",
        "UPDATE l402_payment SET msat = msat + 1",
        "DELETE FROM l402_entry WHERE kind = 'purchase'",
        "DELETE FROM l402_payment",
        "UPDATE l402_credit SET carried = 1",
        "DELETE FROM l402_credit",
    ],
)
def test_damaged(store: Store, harm: str) -> None:
    """An account that does not add up stays, to be looked at; the others go."""
    credit(store, 1)
    use(store, 1, now=at(0))
    expire_all(store)
    damage(store, harm)
    store.payments.admit(ended(2, START), at(0))
    work = Purge(store.db, LATER)
    assert work.run(lambda _: None).tokens == 1
    assert list(work.unfit) == [token_id(1).hex()]
    assert left(store)["credential"] == 1
    differences: list[Difference] = []
    Audit(store.db).run(differences.append, lambda _: None)
    assert {each.token_id for each in differences} - {None} == {token_id(1).hex()}


def test_long_chains(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A chain goes bit by bit; the books agree after each, and at its end."""
    monkeypatch.setattr(removal, "MOST", 4)
    for number in range(3):
        credit(store, number, token_id=token_id(0), msat=100_000)
    for _ in range(5):
        use(store, 0, now=at(0))
    for number in range(10, 19):
        store.payments.admit(ended(number, START, token_id=token_id(0)), at(0))
    expire_all(store)
    before, steps = figures(store), []

    def told(done: removal.Purged) -> None:
        steps.append(done)
        assert figures(store) == before

    assert Purge(store.db, LATER).run(told).tokens == 1
    assert len(steps) == 5
    assert max(step.entries for step in steps) == 4


def test_alive_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who buys in the middle of the purge of his account keeps what he bought."""
    monkeypatch.setattr(removal, "MOST", 4)
    credit(store, 1, msat=100_000)
    for _ in range(9):
        use(store, 1, now=at(0))
    expire_all(store)

    def told(done: removal.Purged) -> None:
        if not store.credits.of(token_id(1))[0].balance:
            buy(store, 70, 7_000, token_id=token_id(1))

    assert Purge(store.db, LATER).run(told).entries == 4
    use(store, 1, 1_000)
    assert store.credits.of(token_id(1))[0].balance == 6_000
    assert figures(store)["audit"].entries == 13


def test_nobody_else(store: Store) -> None:
    """Nobody but a purge deletes an entry, and nobody but it writes a closing."""
    history(store)
    purge(store, LATER)
    buy(store, 80)
    line = "'2020-01-01', 'entry', 'use', 'quotes', '', '', 1, 1"
    for statement in (
        "DELETE FROM l402_entry",
        "UPDATE l402_entry SET msat = 1",
        "DELETE FROM l402_closing",
        "UPDATE l402_closing SET msat = 1",
        f"INSERT INTO l402_closing VALUES ({line})",
        f"INSERT INTO l402_purge VALUES ('{token_id(81).hex()}'); DELETE FROM l402_entry",
    ):
        with pytest.raises(DatabaseError, match=r"append-only|purges alone"):
            run_raw(store, statement)


def run_raw(store: Store, statements: str) -> None:
    from sqlalchemy import create_engine

    engine = create_engine(store.db.url)
    try:
        with engine.begin() as connection:
            for statement in statements.split("; "):
                connection.execute(text(statement))
    finally:
        engine.dispose()


TAMPERINGS = {
    "more was used": ("msat = msat + 1", "book = 'entry' AND kind = 'use'", "carried"),
    "less was bought": ("msat = msat - 1", "book = 'entry' AND kind = 'purchase'", "carried"),
    "a purchase more": ("number = number + 1", "book = 'entry' AND kind = 'purchase'", "number"),
    "more was paid": ("msat = msat + 1", "book = 'payment' AND kind = 'credit granted'", "credit"),
}


@pytest.mark.parametrize(("change", "where", "named"), TAMPERINGS.values(), ids=TAMPERINGS)
def test_tampered(store: Store, change: str, where: str, named: str) -> None:
    """Who changes what was carried forward is found out, as far as the sums tell of each other."""
    history(store)
    purge(store, LATER)
    engine_damage(store, f"UPDATE l402_closing SET {change} WHERE {where} AND day = ({FIRST})")
    differences: list[Difference] = []
    Audit(store.db).run(differences.append, lambda _: None)
    assert differences
    assert any(named in each.what for each in differences)
    assert {(each.token_id, each.service) for each in differences} == {(None, "quotes")}


FIRST = "SELECT min(day) FROM l402_closing WHERE book = 'entry'"


def engine_damage(store: Store, statement: str) -> None:
    from sqlalchemy import create_engine

    statement = statement.replace(f" AND day = ({FIRST})", "")
    engine = create_engine(store.db.url)
    with engine.begin() as connection:
        if engine.dialect.name == "sqlite":
            connection.exec_driver_sql("DROP TRIGGER l402_closing_update")
        else:
            connection.exec_driver_sql("SET LOCAL session_replication_role = replica")
        assert connection.execute(text(statement)).rowcount >= 1
    engine.dispose()


def test_revocations(store: Store) -> None:
    """A revocation goes when it is old and nothing on record is concerned; a service's stays."""
    store.payments.admit(sale(1), NOW)
    revoke = store.revocations.revoke
    names = {"token": token_id, "payment": payment_hash, "handle": lambda n: token_id(n)[:8]}
    for kind, name in names.items():
        for number in (1, 2):
            revoke(kind, name(number).hex())
    revoke("service", "quotes", issued_before=NOW)
    later = datetime.now(UTC) + timedelta(minutes=5)
    assert sum(store.revocations.purge(datetime.now(UTC) - timedelta(days=1))) == 0
    assert sum(store.revocations.purge(later, dry_run=True, limit=2)) == 3
    assert sum(store.revocations.purge(later, limit=2)) == 3
    assert sum(store.revocations.purge(later)) == 0
    for kind, name in names.items():
        assert revoke(kind, name(2).hex())
        assert not revoke(kind, name(1).hex())


OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(["pass", "credit", "use", "release", "adjust", "expire", "purge", "wait"]),
        st.integers(0, 3),  # account
        st.integers(1, 6),  # hours, or sat
        st.sampled_from(["quotes", "other"]),
    ),
    max_size=40,
)


class Shop:
    """A record in memory, and all that was sold, by a clock that only moves on."""

    def __init__(self) -> None:
        self.store = Store("sqlite://")
        self.hours = 0
        self.sold: list[Sale] = []

    def buy(self, kind: str, account: int, hours: int, service: str) -> None:
        begin = START + self.hours * HOUR
        bought = ended(
            len(self.sold), begin, token_id=token_id(account), kind=kind, service=service,
            msat=1_000 * hours, ends_at=begin + hours * HOUR, ledger=self.store.ledger.id(),
            valid_until=begin + hours * HOUR,
        )  # fmt: skip
        self.store.payments.admit(bought, at(self.hours))
        self.sold.append(bought)

    def spend(self, account: int, service: str, taken: bool) -> None:
        order = sales.order(account, 1_000, service=service)
        outcome = self.store.uses.reserve(order, at(self.hours))
        if hasattr(outcome, "use_id"):
            (self.store.uses.take if taken else self.store.uses.release)(order.use_id)

    def adjust(self, account: int, sats: int, service: str) -> None:
        try:
            self.store.credits.adjust(
                token_id(account).hex(), service, 1_000 * (sats - 3), why="so",
                operation=secrets.token_hex(8), now=at(self.hours),
            )  # fmt: skip
        except ValueError:
            return

    def purge(self, moment: datetime) -> None:
        """Purge, and see that nothing is gone but what ended, and that no sum changed."""
        before = figures(self.store)
        purge(self.store, moment)
        assert figures(self.store) == before
        kept = {
            row[0] for row in self.store.db.fetch(text("SELECT payment_hash FROM l402_payment"))
        }
        end = (moment - purge_module.SLACK).timestamp()
        for bought in self.sold:
            if bought.payment_hash.hex() not in kept:
                assert bought.valid_until <= end
                assert not self.store.payments.admit(bought, at(0)).first
        for token in {bought.token_id for bought in self.sold}:
            own = [bought for bought in self.sold if bought.token_id == token]
            left_ = [credit.balance for credit in self.store.credits.of(token)]
            lasts = max(bought.valid_until for bought in own) > end or any(left_)
            assert lasts == any(bought.payment_hash.hex() in kept for bought in own)

    def do(self, what: str, account: int, amount: int, service: str) -> None:
        acts: dict[str, Callable[[], object]] = {
            "use": lambda: self.spend(account, service, True),
            "release": lambda: self.spend(account, service, False),
            "adjust": lambda: self.adjust(account, amount, service),
            "expire": lambda: expire_all(self.store),
            "purge": lambda: self.purge(at(self.hours)),
        }
        if what == "wait":
            self.hours += amount
        elif what in acts:
            acts[what]()
        else:
            self.buy(what, account, amount, service)


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(operations=OPERATIONS, most=st.integers(1, 6))
def test_any_history(operations: list[tuple[str, int, int, str]], most: int) -> None:
    """Whatever happened, a purge takes what ended and nothing else, and no sum changes."""
    shop = Shop()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(removal, "MOST", most)
        for operation in operations:
            shop.do(*operation)
        expire_all(shop.store)
        shop.purge(LATER)
    assert left(shop.store)["credential"] == 0
    shop.store.close()


def test_killed(database_url: str, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A purge that is killed in mid-transaction loses nothing, and the next one finishes."""
    many(store, 120)
    before = figures(store)
    for commits in (0, 1, 2):
        process = redemptions.SPAWN.Process(
            target=purge_and_die, args=(database_url, LATER.timestamp(), commits)
        )
        process.start()
        process.join(60)
        assert process.exitcode == -9
        assert figures(store) == before
    assert left(store)["credential"] == 70
    assert purge(store, LATER).tokens == 70
    assert figures(store) == before


def many(store: Store, accounts: int, first: int = 0) -> None:
    """Sell credit and passes to so many accounts, long ago."""
    for number in range(first, first + accounts):
        if number % 2:
            credit(store, number)
            use(store, number, now=at(0))
        else:
            store.payments.admit(ended(number, START), at(0))
    expire_all(store)


def test_two_at_once(database_url: str, store: Store) -> None:
    """Two purges at once take each account once."""
    many(store, 150)
    before = figures(store)
    with redemptions.SPAWN.Pool(2) as pool:
        jobs = [pool.apply_async(purge_all, (database_url, LATER.timestamp())) for _ in range(2)]
        counted = sum(job.get(timeout=120) for job in jobs)
    assert counted + purge(store, LATER).tokens == 150
    assert figures(store) == before


def test_under_load(database_url: str, store: Store) -> None:
    """While purges run, eight processes redeem credit exactly, and none waits long."""
    many(store, 200, first=100)
    # The accounts that are drawn on are numbered from 0: those of the past come behind them.
    redemptions.sell(database_url, accounts=20, msat=10_000_000)
    before = figures(store)["audit"]
    with redemptions.SPAWN.Manager() as manager, redemptions.SPAWN.Pool(1) as pool:
        over = manager.Event()
        purging = pool.apply_async(purge_again_and_again, (database_url, over))
        jobs = redemptions.redeem_together(database_url, 400, 20)
        tallies = [job.get(timeout=240) for job in jobs]
        over.set()
        assert purging.get(timeout=60) == 200
    after = figures(store)["audit"]
    taken = sum(tally.taken for tally in tallies)
    assert (after.used - before.used, after.purchased) == (taken * 1_000, before.purchased)
    assert max(max(tally.seconds) for tally in tallies) < 2


SABOTAGES: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "takes what has not ended": lambda patch: patch.setattr(
        Purge, "_ended", lambda self, connection, tokens: list(tokens)
    ),
    "forgets to carry": lambda patch: patch.setattr(
        closings.Closings, "write", lambda self, connection: None
    ),
    "carries twice": lambda patch: patch.setattr(
        closings.Closings, "write", twice(closings.Closings.write)
    ),
    "takes half a chain for a whole one": lambda patch: patch.setattr(
        removal.Removal, "_carry", lambda self, owned: None
    ),
}


def twice(write: Callable[..., None]) -> Callable[..., None]:
    def written(self: closings.Closings, connection: Any) -> None:
        write(self, connection)
        write(self, connection)

    return written


@pytest.mark.parametrize("sabotage", SABOTAGES.values(), ids=SABOTAGES)
def test_sabotage(sabotage: Callable[[pytest.MonkeyPatch], None]) -> None:
    """The checks find what a careless purge would do."""
    shop = Shop()
    shop.buy("credit", 1, 5, "quotes")
    for _ in range(4):
        shop.spend(1, "quotes", True)
    shop.buy("pass", 2, 6, "quotes")
    expire_all(shop.store)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(removal, "MOST", 2)
        sabotage(patch)
        with pytest.raises(AssertionError):
            shop.purge(at(6.5))
    shop.store.close()


def test_not_remembered(store: Store) -> None:
    """Without the moment of the last purge a clock that is behind would open a payment again."""
    store.payments.admit(ended(1, START), at(0))
    purge(store, LATER)
    again = ended(1, START)._replace(ends_at=START + HOUR)
    assert not store.payments.admit(again, at(0.5)).first
    run_raw(store, "UPDATE l402_ledger SET closed_until = NULL")
    assert store.payments.admit(again, at(0.5)).first


@pytest.mark.postgres
def test_bought_in_the_moment(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who buys while his account is being removed waits a moment, and begins anew."""
    migrate.upgrade(postgres_url)
    with closing(Store(postgres_url)) as store, closing(Store(postgres_url)) as other:
        store.payments.admit(ended(1, START), at(0))
        more = sale(2, token_id=token_id(1))
        run, admitted = removal.Removal.run, []
        buyer = threading.Thread(target=lambda: admitted.append(other.payments.admit(more, NOW)))
        waits = text("SELECT 1 FROM pg_locks WHERE NOT granted")

        def meanwhile(self: removal.Removal, credits: Any) -> Any:
            buyer.start()
            await_(lambda: store.db.fetch(waits), "the buyer's wait", 0.01, 10)
            return run(self, credits)

        monkeypatch.setattr(removal.Removal, "run", meanwhile)
        assert purge(store, LATER).tokens == 1
        buyer.join(30)
        assert [standing.first for standing in admitted] == [True]
        assert left(store)["payment"] == 1
