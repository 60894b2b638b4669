"""The audit: honest books agree, and every kind of damage is named."""

import threading
from collections.abc import Callable

import pytest
from support.books import adjust, buy, damage, fill, reserve, use
from support.sales import NOW, payment_hash, sale, token_id

from l402.store import Store
from l402.store.audit import Audit, Difference
from l402.store.totals import Totals

pytest_plugins = ["support.databases"]

ONE, TWO, THREE, FOUR = (token_id(number).hex() for number in range(1, 5))
NOBODY = "0" * 64


def audited(
    store: Store, begin: Callable[[str], None] = lambda step: None
) -> tuple[Totals, list[Difference]]:
    differences: list[Difference] = []
    return Audit(store.db).run(differences.append, begin), differences


def test_empty(store: Store) -> None:
    """Books with nothing in them agree."""
    assert audited(store) == (Totals(), [])
    store.payments.admit(sale(4), NOW)
    assert audited(store) == (Totals(), [])


def test_honest_books(store: Store) -> None:
    """Everything that can happen to a balance leaves books that agree, and exact totals."""
    fill(store)
    totals, differences = audited(store)
    assert differences == []
    assert totals == Totals(
        accounts=3,
        entries=13,
        purchased=34_000,
        credited=3_000,
        written_off=1_500,
        used=13_500,
        expired=10_000,
        debited=2_000,
        balance=11_000,
        reserved=2_000,
    )
    assert totals.granted == totals.balance + totals.reserved + totals.gone


def entry(kind: str, token: str) -> str:
    """A condition for the first entry of a kind of an account."""
    return (
        "entry_id = (SELECT min(entry_id) FROM l402_entry"
        f" WHERE kind = '{kind}' AND token_id = '{token}')"
    )


DAMAGES = {
    "a balance that grew": (
        f"UPDATE l402_credit SET balance = balance + 1 WHERE token_id = '{ONE}'",
        [(ONE, "balance and reserved", 9_000, 9_001)],
    ),
    "a balance that is lost": (
        f"DELETE FROM l402_credit WHERE token_id = '{THREE}'",
        [(THREE, "row of l402_credit", 4_000, None)],
    ),
    "more reserved than is held": (
        "UPDATE l402_credit SET reserved = reserved + 1, balance = balance - 1"
        f" WHERE token_id = '{ONE}'",
        [(ONE, "reserved, for the uses in flight", 2_000, 2_001)],
    ),
    "a use in flight that is lost": (
        f"DELETE FROM l402_use WHERE token_id = '{ONE}'",
        [(ONE, "reserved, for the uses in flight", 0, 2_000)],
    ),
    "an entry taken out": (
        f"DELETE FROM l402_entry WHERE {entry('credit', ONE)}",
        [(ONE, "balance and reserved", 6_000, 9_000), (ONE, "before debit hand:", 8_000, 11_000)],
    ),
    "the last entry taken out": (
        f"DELETE FROM l402_entry WHERE {entry('debit', ONE)}",
        [(ONE, "balance and reserved", 11_000, 9_000)],
    ),
    "an entry of another amount": (
        f"UPDATE l402_entry SET msat = msat + 1 WHERE {entry('credit', ONE)}",
        [(ONE, "balance and reserved", 9_001, 9_000), (ONE, "after credit hand:", 11_001, 11_000)],
    ),
    "a release that moves money": (
        f"UPDATE l402_entry SET balance_before = 7000 WHERE {entry('release', ONE)}",
        [(ONE, "before release", 8_000, 7_000), (ONE, "after release", 7_000, 8_000)],
    ),
    "an entry of an unknown kind": (
        f"UPDATE l402_entry SET kind = 'gift' WHERE {entry('release', ONE)}",
        [(ONE, "kind of gift", None, "gift")],
    ),
    "an entry of another account": (
        f"UPDATE l402_entry SET token_id = '{FOUR}' WHERE {entry('debit', ONE)}",
        [
            (ONE, "balance and reserved", 11_000, 9_000),
            (FOUR, "row of l402_credit", -2_000, None),
            (FOUR, "before debit", 0, 11_000),
        ],
    ),
    "a payment that is lost": (
        f"DELETE FROM l402_payment WHERE payment_hash = '{payment_hash(1).hex()}'",
        [(ONE, "payment of credit for payment:", 10_000, None)],
    ),
    "a payment that was not granted": (
        f"UPDATE l402_payment SET status = 'late' WHERE payment_hash = '{payment_hash(1).hex()}'",
        [(ONE, "payment of credit for payment:", 10_000, None)],
    ),
    "a payment of another amount": (
        f"UPDATE l402_payment SET msat = 9999 WHERE payment_hash = '{payment_hash(1).hex()}'",
        [(ONE, "purchase of payment", 9_999, f"purchase of 10000 by {ONE} for quotes")],
    ),
    "a payment of another account": (
        f"UPDATE l402_payment SET token_id = '{FOUR}'"
        f" WHERE payment_hash = '{payment_hash(1).hex()}'",
        [(FOUR, "purchase of payment", 10_000, f"purchase of 10000 by {ONE} for quotes")],
    ),
    "a payment for another service": (
        f"UPDATE l402_payment SET service = 'other' WHERE payment_hash = '{payment_hash(1).hex()}'",
        [(ONE, "purchase of payment", 10_000, f"purchase of 10000 by {ONE} for quotes")],
    ),
    "a purchase booked as a gift": (
        f"UPDATE l402_entry SET kind = 'credit' WHERE {entry('purchase', ONE)}",
        [(ONE, "purchase of payment", 10_000, f"credit of 10000 by {ONE} for quotes")],
    ),
    "a payment that was never booked": (
        f"UPDATE l402_payment SET kind = 'credit' WHERE token_id = '{FOUR}'",
        [(FOUR, "purchase of payment", 10_000, None)],
    ),
    "a purchase under another name": (
        f"UPDATE l402_entry SET operation = 'gift' WHERE {entry('purchase', ONE)}",
        [
            (ONE, "purchase of payment", 10_000, None),
            (ONE, "payment of credit for gift", 10_000, None),
        ],
    ),
    "an answer that was not charged": (
        f"UPDATE l402_reply SET use_id = '{NOBODY}'",
        [(ONE, f"use {NOBODY} of an answer 200 that is kept", "use", None)],
    ),
    "an answer to a call that was given back": (
        "UPDATE l402_reply SET use_id = (SELECT substr(operation, 5) FROM l402_entry"
        f" WHERE {entry('release', ONE)})",
        [(ONE, "of an answer 200 that is kept", "use", None)],
    ),
    "an answer to a call of another account": (
        f"UPDATE l402_reply SET token_id = '{FOUR}'",
        [(FOUR, "of an answer 200 that is kept", "use", None)],
    ),
    "no damage: an answer to a call that was charged late": (
        f"UPDATE l402_reply SET token_id = '{TWO}', use_id = (SELECT substr(operation, 6)"
        " FROM l402_entry WHERE operation LIKE 'late:%')",
        [],
    ),
    "no damage: an answer that is not there yet": (
        f"UPDATE l402_reply SET status = NULL, use_id = '{NOBODY}'",
        [],
    ),
    "a use in flight that was charged late": (
        "UPDATE l402_use SET use_id = (SELECT substr(operation, 6) FROM l402_entry"
        " WHERE operation LIKE 'late:%')",
        [(ONE, "in flight", "release", 2_000), (ONE, "in flight", "use", 2_000)],
    ),
    "a use in flight that was resolved": (
        "UPDATE l402_use SET use_id = (SELECT substr(operation, 5) FROM l402_entry"
        f" WHERE {entry('use', ONE)})",
        [(ONE, "in flight", "use", 2_000)],
    ),
    "a write-off for nothing": (
        "UPDATE l402_entry SET operation = 'late:' WHERE operation LIKE 'late:%'",
        [(TWO, "use for write_off:", 1_500, None)],
    ),
}


@pytest.mark.parametrize(("statement", "expected"), DAMAGES.values(), ids=DAMAGES)
def test_damage(
    store: Store, statement: str, expected: list[tuple[str, str, object, object]]
) -> None:
    """Each thing that does not agree is named, with its account and both figures; no other is."""
    fill(store)
    damage(store, statement)
    _, differences = audited(store)
    assert len(differences) == len(expected)
    for token, what, wanted, found in expected:
        (one,) = (
            each
            for each in differences
            if what in each.what
            and (each.token_id, each.expected, each.found) == (token, wanted, found)
        )
        named = "other" if "SET service" in statement else "quotes"
        assert one.service == (None if "answer" in what else named)


def test_one_moment(store: Store) -> None:
    """What is written while the audit runs is not seen by half of it."""
    fill(store)
    before, _ = audited(store)
    steps: list[str] = []

    def meanwhile(step: str) -> None:
        steps.append(step)
        if len(steps) > 1:  # from the first statement on
            buy(store, 100 + len(steps))
            use(store, 100 + len(steps))
            reserve(store, 1)
            adjust(store, 1, 2_000, step)

    assert audited(store, meanwhile) == (before, [])
    after, differences = audited(store)
    assert differences == []
    assert after.accounts == before.accounts + len(steps) - 1


def test_in_traffic(store: Store) -> None:
    """The books agree at every moment while several threads use them."""
    for number in range(3):
        buy(store, number, 200_000)

    def call(number: int) -> None:
        for turn in range(25):
            use_id = reserve(store, number % 3, 1_000)
            store.uses.take(use_id) if turn % 3 else store.uses.release(use_id)

    threads = [threading.Thread(target=call, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert audited(store)[1] == []
    for thread in threads:
        thread.join()
    totals, differences = audited(store)
    assert differences == []
    assert (totals.used, totals.balance, totals.reserved) == (64_000, 536_000, 0)


def test_snapshot(store: Store) -> None:
    """A snapshot cannot write, and leaves no trace on the connection that it was read on."""
    buy(store, 1)
    for _ in range(3):
        with store.db.snapshot() as connection:
            assert not connection.closed
    assert store.credits.of(token_id(1))[0].balance == 10_000
    use(store, 1)
    assert store.credits.of(token_id(1))[0].balance == 8_000


def test_in_memory() -> None:
    """A database in memory is audited as any other."""
    store = Store("sqlite://")
    fill(store)
    totals, differences = audited(store)
    assert (totals.granted, differences) == (38_500, [])
    store.close()
