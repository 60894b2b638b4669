"""Credit: bought, added up, ended, changed by hand; and any sequence of it against a model."""

from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from sqlalchemy import select, text, update
from support.redemptions import totals
from support.sales import ISSUED, NOW, credit, order, payment_hash, sale, token_id

from l402.store import Standing, Store
from l402.store.credits import Credit
from l402.store.orders import Reserved, Short
from l402.store.tables import credit as credit_table
from l402.store.tables import payment

pytest_plugins = ["support.databases"]

END = datetime.fromtimestamp(ISSUED + 4200, UTC)
HAND = {"why": "goodwill", "now": NOW}


def rows(store: Store, table=payment):
    with store.db.read() as connection:
        return connection.execute(select(table)).all()


def kinds(store: Store) -> list[str]:
    return [entry.kind for entry in store.ledger.entries()]


def end_now(store: Store) -> None:
    """Have every balance end a minute ago, by the database's clock too."""
    past = datetime.now(UTC) - timedelta(minutes=1)
    with store.db.write() as connection:
        connection.execute(update(credit_table).values(ends_at=past))


# --- bought


def test_purchase(store: Store) -> None:
    """The first presentation of a credit payment fills the balance, a repeat does not."""
    assert store.payments.admit(credit(store), NOW).first
    assert not store.payments.admit(credit(store), NOW).first
    assert store.credits.of(token_id(1)) == [Credit("quotes", 10_000, 0, END)]
    (entry,) = store.ledger.entries()
    assert entry.operation == f"payment:{payment_hash(1).hex()}"
    assert (entry.msat, entry.balance_before, entry.balance_after) == (10_000, 0, 10_000)


def test_balances_sum(store: Store) -> None:
    """Payments of one account and service add up; the latest end counts; services are apart."""
    store.payments.admit(credit(store, 1), NOW)
    store.payments.admit(credit(store, 2, token_id=token_id(1), ends_at=ISSUED + 9000), NOW)
    store.payments.admit(credit(store, 3, token_id=token_id(1), ends_at=ISSUED + 5000), NOW)
    store.payments.admit(credit(store, 4, token_id=token_id(1), service="facts", msat=7), NOW)
    assert store.credits.of(token_id(1)) == [
        Credit("facts", 7, 0, END),
        Credit("quotes", 30_000, 0, datetime.fromtimestamp(ISSUED + 9000, UTC)),
    ]
    assert store.credits.of(token_id(2)) == []


def test_pass_is_no_credit(store: Store) -> None:
    """A pass fills no balance."""
    store.payments.admit(sale(), NOW)
    assert store.credits.of(token_id(1)) == []
    assert kinds(store) == []


def test_dead_payment(store: Store) -> None:
    """Credit that is revoked or late when first shown is in the book, and fills no balance."""
    store.revocations.revoke("token", token_id(1).hex())
    assert store.payments.admit(credit(store, 1), NOW).revoked
    assert store.payments.admit(credit(store, 2), END).late
    assert [row.status for row in rows(store)] == ["revoked", "late"]
    assert store.credits.of(token_id(1)) == store.credits.of(token_id(2)) == []


@pytest.mark.parametrize("ledger", ["", "0" * 32])
def test_foreign_ledger(store: Store, ledger: str) -> None:
    """Credit of another ledger is refused, and leaves no trace."""
    foreign = sale(kind="credit", ledger=ledger)
    assert store.payments.admit(foreign, NOW) == Standing(False, False, False, foreign=True)
    assert rows(store) == []
    assert not store.payments.recorded(payment_hash(1))


def test_purchase_on_ended(store: Store) -> None:
    """What was left of an ended balance is booked as expired before the purchase fills it."""
    store.payments.admit(credit(store, 1), NOW)
    held = order()
    store.uses.reserve(held, NOW)
    later = credit(store, 2, token_id=token_id(1), ends_at=ISSUED + 9000, valid_until=ISSUED + 9000)
    store.payments.admit(later, END)
    assert kinds(store) == ["purchase", "expiry", "purchase"]
    ended = datetime.fromtimestamp(ISSUED + 9000, UTC)
    assert store.credits.of(token_id(1)) == [Credit("quotes", 10_000, 2_000, ended)]
    assert store.uses.release(held.use_id) == 12_000


# --- ended


def test_expire(store: Store) -> None:
    """Balances past their end are booked as expired, once, when no call holds any of them."""
    for number in range(3):
        store.payments.admit(credit(store, number), NOW)
    store.uses.reserve(held := order(2), NOW)
    assert store.credits.expire() == 0
    end_now(store)
    assert store.credits.expire() == 2
    assert store.credits.expire() == 0
    store.uses.release(held.use_id)
    assert store.credits.expire() == 1
    assert [sum(c.balance for c in store.credits.of(token_id(n))) for n in range(3)] == [0, 0, 0]
    assert kinds(store).count("expiry") == 3
    assert totals(store) == (0, 0)


def test_expire_looks_where_it_must(store: Store) -> None:
    """A sweep begins a day back, or at the oldest ended balance that calls still hold."""
    store.payments.admit(credit(store), NOW)
    store.uses.reserve(held := order(), NOW)
    store.credits.expire()
    day = datetime.now(UTC) - timedelta(days=1)
    assert abs(store.credits._swept_until - day) < timedelta(minutes=5)
    old = datetime(2020, 1, 1, tzinfo=UTC)
    with store.db.write() as connection:
        connection.execute(update(credit_table).values(ends_at=old))
    with closing(Store(store.db.url.render_as_string(hide_password=False))) as other:
        assert other.credits.expire() == 0
        assert other.credits._swept_until == old
        other.uses.release(held.use_id)
        assert other.credits.expire() == 1


# --- rights


def test_rights(store: Store) -> None:
    """An account's rights are its live passes that no revocation concerns, the newest first."""
    store.payments.admit(sale(1), NOW)
    one = {"token_id": token_id(1)}
    store.payments.admit(sale(2, **one), NOW + timedelta(seconds=1))
    store.payments.admit(sale(3, **one, ends_at=ISSUED + 60), NOW)
    store.payments.admit(credit(store, 4, **one), NOW)
    store.payments.admit(sale(5, **one, service="facts"), NOW)
    store.revocations.revoke("payment", payment_hash(5).hex())
    assert store.payments.rights(token_id(1), NOW) == [sale(2, **one), sale(1)]
    assert store.payments.rights(token_id(2), NOW) == []


def test_account_end(store: Store) -> None:
    """An account ends with the last of its live rights; one that has none has no end."""
    ends = store.payments.account_end
    assert ends(token_id(1), NOW) is None
    store.payments.admit(sale(1), NOW)
    assert ends(token_id(1), NOW) == ISSUED + 4200
    longer = credit(store, 2, token_id=token_id(1), ends_at=ISSUED + 9000)
    store.payments.admit(longer, NOW)
    assert ends(token_id(1), NOW) == ISSUED + 9000
    assert ends(token_id(1), datetime.fromtimestamp(ISSUED + 9000, UTC)) is None


# --- by hand


def test_by_hand(store: Store) -> None:
    """Credit and debit change the balance once per id, and stand in the ledger with their why."""
    store.payments.admit(credit(store), NOW)
    account = (token_id(1).hex(), "quotes")
    assert store.credits.adjust(*account, 500, operation="a", **HAND).balance == 10_500
    again = store.credits.adjust(*account, 500, operation="a", **HAND)
    assert (again.first, again.balance) == (False, 10_500)
    assert store.credits.adjust(*account, -10_500, operation="b", **HAND).balance == 0
    _, given, taken = store.ledger.entries()
    assert (given.kind, given.msat, given.balance_after) == ("credit", 500, 10_500)
    assert (taken.kind, taken.msat, taken.balance_after) == ("debit", 10_500, 0)
    assert (given.operation, given.why) == ("hand:a", "goodwill")


def test_by_hand_refused(store: Store) -> None:
    """An unknown, revoked or ended account, too much, and an id used otherwise are refused."""
    account = (token_id(1).hex(), "quotes")

    def refused(msat: int, message: str, **changes: object) -> None:
        with pytest.raises(ValueError, match=message):
            store.credits.adjust(*account, msat, **{"operation": "a"} | HAND | changes)

    refused(1, "no credit")
    store.payments.admit(credit(store), NOW)
    refused(-10_001, "only 10000 msat")
    refused(1, "ended on 2030-03-17", now=END)
    store.credits.adjust(*account, 1, operation="a", **HAND)
    refused(2, "another change")
    store.revocations.revoke("token", token_id(1).hex())
    refused(2, "revoked", operation="b")
    assert kinds(store) == ["purchase", "credit"]


def test_by_hand_is_durable(store: Store) -> None:
    """A change by hand is on the disk before it is acknowledged, on SQLite too."""
    if store.db.url.get_backend_name() != "sqlite":
        pytest.skip("every commit is, there")
    store.payments.admit(credit(store), NOW)
    store.credits.adjust(token_id(1).hex(), "quotes", 1, operation="a", **HAND)
    (writer,) = store.db._engines._kept
    assert writer.info["l402_synchronous"] == "FULL"


# --- the ledger refuses changes


@pytest.mark.parametrize("statement", ["UPDATE l402_entry SET msat = 1", "DELETE FROM l402_entry"])
def test_append_only(store: Store, statement: str) -> None:
    """The database itself refuses to change or to delete an entry."""
    from l402.errors import StoreUnavailable

    store.payments.admit(credit(store), NOW)
    before = list(store.ledger.entries())

    def change() -> None:
        with store.db.write() as connection:
            connection.execute(text(statement))

    with pytest.raises(StoreUnavailable, match="append-only"):
        change()
    assert list(store.ledger.entries()) == before


# --- any sequence

SMALL = st.integers(0, 2)
AMOUNT = st.integers(1, 5)


class Accounts(RuleBasedStateMachine):
    """Three accounts that buy, call, end and are changed by hand."""

    @initialize()
    def begin(self) -> None:
        self.store = Store("sqlite:///:memory:")
        self.payments = 0
        self.hands = 0
        self.clock = 0
        self.balance: dict[int, int] = {}
        self.ends: dict[int, int] = {}
        self.held: dict[bytes, tuple[int, int]] = {}
        self.written_off = 0

    @property
    def now(self) -> datetime:
        return datetime.fromtimestamp(ISSUED + self.clock, UTC)

    def live(self, number: int) -> bool:
        return self.ends.get(number, -1) > self.clock

    @rule(number=SMALL, msat=AMOUNT, seconds=AMOUNT)
    def buy(self, number: int, msat: int, seconds: int) -> None:
        self.payments += 1
        ends = self.clock + seconds
        bought = credit(
            self.store,
            self.payments,
            token_id=token_id(number),
            msat=msat,
            ends_at=ISSUED + ends,
            valid_until=ISSUED + ends,
        )
        assert self.store.payments.admit(bought, self.now).first
        assert not self.store.payments.admit(bought, self.now).first
        left = self.balance.get(number, 0) if self.live(number) else 0
        self.balance[number] = left + msat
        self.ends[number] = max(self.ends.get(number, 0), ends)

    @rule(seconds=AMOUNT)
    def wait(self, seconds: int) -> None:
        self.clock += seconds

    @rule(number=SMALL, msat=AMOUNT)
    def call(self, number: int, msat: int) -> None:
        made = order(number, msat)
        outcome = self.store.uses.reserve(made, self.now)
        balance = self.balance.get(number)
        if balance is not None and balance >= msat and self.live(number):
            self.balance[number] = balance - msat
            self.held[made.use_id] = number, msat
            assert isinstance(outcome, Reserved)
            assert outcome.balance == self.balance[number]
        else:
            ended = balance is not None and not self.live(number)
            assert outcome == Short(balance, ended)

    @rule(pick=st.integers(0, 9))
    def succeed(self, pick: int) -> None:
        if self.held:
            use_id = list(self.held)[pick % len(self.held)]
            number, _ = self.held.pop(use_id)
            for _ in range(2):
                assert self.store.uses.take(use_id) == self.balance[number]

    @rule(pick=st.integers(0, 9))
    def fail(self, pick: int) -> None:
        if self.held:
            use_id = list(self.held)[pick % len(self.held)]
            number, msat = self.held.pop(use_id)
            self.balance[number] += msat
            assert self.store.uses.release(use_id) == self.balance[number]
            assert self.store.uses.release(use_id) is None

    @rule(pick=st.integers(0, 9))
    def come_late(self, pick: int) -> None:
        if self.held:
            use_id = list(self.held)[pick % len(self.held)]
            number, msat = self.held.pop(use_id)
            assert self.store.uses.release(use_id) is not None
            balance = self.balance[number] + msat
            lack = max(0, msat - balance)
            self.balance[number] = balance - msat + lack
            self.written_off += lack
            for _ in range(2):
                assert self.store.uses.take(use_id) == self.balance[number]

    @rule(number=SMALL, msat=st.integers(-5, 5).filter(bool))
    def by_hand(self, number: int, msat: int) -> None:
        self.hands += 1
        able = self.live(number) and self.balance[number] + msat >= 0
        arguments = (token_id(number).hex(), "quotes", msat)
        named = {"why": "test", "operation": str(self.hands), "now": self.now}
        if able:
            self.balance[number] += msat
            for _ in range(2):
                assert (
                    self.store.credits.adjust(*arguments, **named).balance == self.balance[number]
                )
        else:
            with pytest.raises(ValueError, match=r"msat|credit"):
                self.store.credits.adjust(*arguments, **named)

    @invariant()
    def agrees(self) -> None:
        for number in range(3):
            held = sum(msat for account, msat in self.held.values() if account == number)
            found = [(c.balance, c.reserved) for c in self.store.credits.of(token_id(number))]
            expected = self.balance.get(number)
            assert found == ([] if expected is None else [(expected, held)])
        owned, booked = totals(self.store) if self.balance else (0, 0)
        assert owned == booked

    def teardown(self) -> None:
        chain: dict[str, int] = {}
        for entry in self.store.ledger.entries():
            assert entry.balance_before == chain.get(entry.token_id, 0)
            chain[entry.token_id] = entry.balance_after
        self.store.close()


TestAccounts = Accounts.TestCase
TestAccounts.settings = settings(
    max_examples=40,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
