"""The comparison of settlements and payments, on both databases."""

from dataclasses import replace

import pytest
from support.books import fill, plan
from support.sales import NOW, payment_hash, sale, token_id
from test_store_settlements import settled

from l402.store import Store
from l402.store import comparison as comparison_module
from l402.store.audit import Audit
from l402.store.comparison import AmountDifference, Comparison, Presented, Sum, Sums
from l402.store.settlements import Settled, Settlements

pytest_plugins = ["support.databases"]

NONE = Sum(0, 0)


def arrive(store: Store, *found: Settled) -> None:
    Settlements(store.db).add("regtest", found, None)


def compared(
    store: Store, network: str = "regtest"
) -> tuple[Sums, list[Settled], list[AmountDifference]]:
    unused: list[Settled] = []
    odd: list[AmountDifference] = []
    sums = Comparison(store.db, network).run(unused.append, odd.append)
    return sums, unused, odd


def unread(store: Store, network: str = "regtest") -> list[Presented]:
    return list(Comparison(store.db, network).unread())


def test_nothing(store: Store) -> None:
    """Nothing sold is nothing that differs."""
    assert compared(store) == (Sums(NONE, NONE, NONE, NONE, NONE), [], [])
    assert unread(store) == []


def test_two_sides(store: Store) -> None:
    """What arrived is presented or unused; what is on record is presented or unread."""
    for number in (1, 2):
        store.payments.admit(sale(number), NOW)
    store.payments.admit(sale(3, msat=7_000), NOW)
    arrive(store, settled(1), settled(2), settled(5, 4_000), settled(4))
    sums, unused, odd = compared(store)
    assert sums == Sums(
        settled=Sum(4, 34_000),
        presented=Sum(2, 20_000),
        unused=Sum(2, 14_000),
        recorded=Sum(3, 27_000),
        unread=Sum(1, 7_000),
    )
    assert unused == [settled(4), settled(5, 4_000)]
    assert odd == []
    assert unread(store) == [Presented(payment_hash(3).hex(), token_id(3).hex(), 7_000, NOW)]


def test_resolved(store: Store) -> None:
    """What was never presented is so until it is, even too late to open anything."""
    arrive(store, settled(1))
    assert [each.payment_hash for each in compared(store)[1]] == [payment_hash(1).hex()]
    late = sale(1, valid_until=int(NOW.timestamp()))
    assert store.payments.admit(late, NOW).late
    sums, unused, _ = compared(store)
    assert (sums.unused, sums.presented, unused) == (NONE, Sum(1, 10_000), [])


@pytest.mark.parametrize("received", [9_999, 10_001, 0, 21 * 10**17])
def test_amounts(store: Store, received: int) -> None:
    """An amount is compared with what was sold for it, else with what was asked."""
    store.payments.admit(sale(1), NOW)
    arrive(store, settled(1, received=received), settled(2, received=received))
    arrive(store, settled(3))
    sums, _, odd = compared(store)
    assert odd == [
        AmountDifference(payment_hash(number).hex(), settled(number).handle, 10_000, received)
        for number in (1, 2)
    ]
    assert sums.presented == Sum(1, received)
    assert sums.settled == Sum(3, 2 * received + 10_000)
    assert sums.recorded == Sum(1, 10_000)


def test_another_amount_on_record(store: Store) -> None:
    """What is on record goes before what the invoice asked for."""
    store.payments.admit(sale(1, msat=11_000), NOW)
    arrive(store, settled(1))
    (odd,) = compared(store)[2]
    assert (odd.expected, odd.received) == (11_000, 10_000)


def test_networks(store: Store) -> None:
    """Sales for play money are not compared with a real node, nor one network with another."""
    store.payments.admit(sale(1, network="simulated"), NOW)
    arrive(store, replace(settled(2), network="mainnet"))
    assert compared(store) == (Sums(NONE, NONE, NONE, NONE, NONE), [], [])
    assert unread(store) == []
    assert compared(store, "mainnet")[0].unused == Sum(1, 10_000)
    assert len(unread(store, "simulated")) == 1


def test_pages(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Payments that are not among the settlements come page by page, each once."""
    monkeypatch.setattr(comparison_module, "_UNREAD_PAGE", comparison_module._UNREAD_PAGE.limit(2))
    monkeypatch.setattr(comparison_module, "_PAGE", 2)
    for number in range(7):
        store.payments.admit(sale(number), NOW)
    arrive(store, settled(1), settled(4))
    found = [each.payment_hash for each in unread(store)]
    assert found == sorted(payment_hash(number).hex() for number in (0, 2, 3, 5, 6))


def test_books_stay_as_they_are(store: Store) -> None:
    """Neither recording settlements nor comparing them changes a balance or the ledger."""
    fill(store)
    before = Audit(store.db).run(pytest.fail, lambda step: None)
    arrive(store, *(settled(number) for number in range(9)))
    compared(store)
    assert Audit(store.db).run(pytest.fail, lambda step: None) == before


def test_by_key(store: Store) -> None:
    """A payment's settlement is found by its key, however many there are."""
    bound = {"network": "regtest", "after": ""}
    for statement in (comparison_module._UNREAD_PAGE, comparison_module._UNUSED):
        known = {name: bound[name] for name in bound if name in statement.compile().params}
        found = plan(store, statement.params(**known))
        assert "pk_l402_" in found or "autoindex_l402_" in found
