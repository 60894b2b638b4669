"""Settlements and the bookmark, on both databases."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import create_engine, select
from sqlalchemy.orm import Session
from support.books import buy
from support.sales import NOW, payment_hash, sale, token_id

from l402.errors import StoreUnavailable
from l402.store import Store, models
from l402.store.settlements import Bookmark, Settled, Settlements

pytest_plugins = ["support.databases"]


def settled(number: int = 1, msat: int = 10_000, received: int | None = None) -> Settled:
    """A payment that arrived, for the token of that number."""
    return Settled(
        payment_hash(number).hex(), "regtest", f"l402:{token_id(number).hex()[:16]}:00112233",
        msat, msat if received is None else received, NOW + timedelta(seconds=number),
    )  # fmt: skip


def rows(store: Store) -> list[models.Settlement]:
    engine = create_engine(store.db.url)
    with Session(engine) as session:
        found = session.scalars(select(models.Settlement).order_by(models.Settlement.settled_at))
        all_of_them = list(found)
    engine.dispose()
    return all_of_them


def test_recorded_once(store: Store) -> None:
    """A settlement is recorded once, as it was read first; how many were new is told."""
    settlements = Settlements(store.db)
    assert settlements.add("regtest", [settled(1), settled(2)], None) == 2
    again = [settled(2, msat=7), settled(3), settled(4)]
    assert settlements.add("regtest", again, None) == 2
    assert settlements.add("regtest", again, None) == 0
    found = rows(store)
    assert [(row.payment_hash, row.received) for row in found] == [
        (payment_hash(number).hex(), 10_000) for number in (1, 2, 3, 4)
    ]
    assert found[0].settled_at == NOW + timedelta(seconds=1)
    assert repr(found[0]) == f"<Settlement {payment_hash(1).hex()[:16]}: 10000 msat>"


def test_bookmark(store: Store) -> None:
    """Each network has one bookmark, which moves; forgotten, there is none."""
    settlements = Settlements(store.db)
    assert settlements.bookmark("regtest") is None
    first, second = Bookmark(7, payment_hash(7).hex()), Bookmark(9, payment_hash(9).hex())
    for mark in (first, second):
        settlements.add("regtest", [], mark)
        assert settlements.bookmark("regtest") == mark
    settlements.add("mainnet", [], first)
    settlements.forget("regtest")
    settlements.forget("testnet")
    assert settlements.bookmark("regtest") is None
    assert settlements.bookmark("mainnet") == first
    engine = create_engine(store.db.url)
    with Session(engine) as session:
        row = session.scalars(select(models.Bookmark)).one()
        assert repr(row) == "<Bookmark on mainnet: 7>"
        assert abs(row.read_at - datetime.now(UTC)) < timedelta(minutes=1)
    engine.dispose()


def test_both_or_neither(store: Store) -> None:
    """If the settlements of a page cannot be recorded, the bookmark stays before them."""
    settlements = Settlements(store.db)
    with pytest.raises(StoreUnavailable):
        settlements.add("regtest", [settled(1), settled(2, msat=-1)], Bookmark(2, "ff"))
    assert rows(store) == []
    assert settlements.bookmark("regtest") is None


def test_holders(store: Store) -> None:
    """The token ids of payments that were presented are found by payment hash."""
    settlements = Settlements(store.db)
    buy(store, 1)
    store.payments.admit(sale(2), NOW)
    hashes = [payment_hash(number).hex() for number in range(1, 500)]
    assert settlements.holders(hashes) == {
        payment_hash(number).hex(): token_id(number).hex() for number in (1, 2)
    }
    assert settlements.holders([]) == {}
