"""The ledger, read; that its entries cannot be changed is tested with the balances."""

from contextlib import closing
from datetime import timedelta

import pytest
from support.sales import NOW, credit, order, token_id

from l402.store import Store, ledger, migrate

pytest_plugins = ["support.databases"]


def test_id(database_url: str) -> None:
    """A record's id is drawn once, 32 hex digits, and the same in every process."""
    migrate.upgrade(database_url)
    with closing(Store(database_url)) as one, closing(Store(database_url)) as other:
        assert one.ledger.id() == other.ledger.id() == one.ledger.id()
        assert len(bytes.fromhex(one.ledger.id())) == 16


def test_ids_differ() -> None:
    """Two records have two ids, in memory too."""
    with closing(Store("sqlite://")) as one, closing(Store("sqlite://")) as other:
        assert one.ledger.id() != other.ledger.id()


def test_id_after_close() -> None:
    """A store that was closed asks again: what was in memory is another record now."""
    store = Store("sqlite://")
    first = store.ledger.id()
    store.close()
    with closing(store):
        assert store.ledger.id() != first
        assert store.payments.admit(credit(store), NOW).first


def test_entries(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The entries come in their order, over as many pages as it takes, and can be narrowed."""
    monkeypatch.setattr(ledger, "_PAGE", 2)
    monkeypatch.setattr(ledger, "_ENTRIES", ledger._ENTRIES.limit(2))
    assert list(store.ledger.entries()) == []
    for number in (1, 2):
        store.payments.admit(credit(store, number), NOW)
        store.uses.reserve(asked := order(number), NOW)
        store.uses.take(asked.use_id)
    entries = list(store.ledger.entries())
    assert [entry.kind for entry in entries] == ["purchase", "use"] * 2
    assert [entry.entry_id for entry in entries] == sorted(entry.entry_id for entry in entries)
    assert all(entry.at.utcoffset() == timedelta(0) for entry in entries)
    assert list(store.ledger.entries(token_id=token_id(2).hex())) == entries[2:]
    assert list(store.ledger.entries(kinds=["use"])) == entries[1::2]
