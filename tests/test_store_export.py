"""The books as rows."""

import re
from datetime import timedelta

import pytest
from support.books import buy, fill, plan, use
from support.sales import NOW, payment_hash, sale, token_id

from l402.store import Store
from l402.store.export import Book, Export, _chosen, columns
from l402.store.history import _LATEST, History

pytest_plugins = ["support.databases"]

TICK = timedelta(microseconds=1)


def exported(store: Store, book: Book, **chosen) -> list[dict[str, object]]:
    return [dict(row._mapping) for row in Export(store.db).rows(book, **chosen)]


def test_payments(store: Store) -> None:
    """Each payment is a row, whatever became of it, in the order of presentation."""
    store.payments.admit(sale(2), NOW + TICK)
    buy(store, 1, 7_000)
    store.payments.admit(sale(3, service="other"), NOW + timedelta(days=1))
    rows = exported(store, "payments")
    assert [list(row) for row in rows] == [columns("payments")] * 3
    assert [(row["payment_hash"], row["kind"], row["msat"], row["status"]) for row in rows] == [
        (payment_hash(1).hex(), "credit", 7_000, "granted"),
        (payment_hash(2).hex(), "pass", 10_000, "granted"),
        (payment_hash(3).hex(), "pass", 10_000, "late"),
    ]
    assert rows[0]["presented_at"] == NOW


def test_usage(store: Store) -> None:
    """Each call that was charged is a row, and nothing else is."""
    fill(store)
    rows = exported(store, "usage")
    assert [list(row) for row in rows] == [columns("usage")] * 3
    assert [(row["token_id"], row["msat"], row["balance_after"]) for row in rows] == [
        (token_id(1).hex(), 2_000, 8_000),
        (token_id(2).hex(), 9_500, 500),
        (token_id(2).hex(), 2_000, 0),
    ]
    assert {(row["method"], row["endpoint"]) for row in rows} == {("GET", "quote")}


def test_narrowed(store: Store) -> None:
    """A period begins at its first moment and ends before its last; a service is one of many."""
    for number, moment in enumerate((NOW - TICK, NOW, NOW + TICK)):
        store.payments.admit(sale(number), moment)
    store.payments.admit(sale(9, service="other"), NOW)
    narrowed = exported(store, "payments", since=NOW, until=NOW + TICK, service="quotes")
    assert [row["payment_hash"] for row in narrowed] == [payment_hash(1).hex()]
    buy(store, 20)
    use(store, 20)
    at = next(store.ledger.entries(kinds=["use"])).at
    assert len(exported(store, "usage", since=at, until=at + TICK)) == 1
    assert exported(store, "usage", since=at + TICK) == exported(store, "usage", until=at) == []
    assert exported(store, "usage", service="other") == []


def test_more_than_is_in_memory(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Long books are read piece by piece to their end, all of it as it was at the first row."""
    monkeypatch.setattr("l402.store.engine._ROWS", 10)
    for number in range(35):
        store.payments.admit(sale(number), NOW)
    rows = Export(store.db).rows("payments")
    first = next(rows)
    store.payments.admit(sale(99), NOW)
    rest = list(rows)
    hashes = [row.payment_hash for row in (first, *rest)]
    assert hashes == sorted(payment_hash(number).hex() for number in range(35))


@pytest.mark.parametrize(("book", "index"), [("payments", "presented_at"), ("usage", "entry_at")])
def test_found_by_indexes(store: Store, book: Book, index: str) -> None:
    """A period is found by an index, whatever else the books hold."""
    found = plan(store, _chosen(book, NOW, NOW + TICK, "quotes"))
    assert re.search(rf"(?i)index.*{index}", found), found
    assert not re.search("(?i)seq scan|SCAN l402|SCAN TABLE", found), found


def test_history(store: Store) -> None:
    """The last entries of a balance are found by an index, and a change by hand by its id."""
    fill(store)
    history = History(store.db)
    latest = history.latest(token_id(1).hex(), "quotes", 2)
    assert [(entry.kind, entry.msat) for entry in latest] == [("debit", 2_000), ("credit", 3_000)]
    assert history.latest(token_id(1).hex(), "other") == []
    done = history.by_hand("ticket-1")
    assert (done.kind, done.msat, done.why) == ("credit", 3_000, "goodwill")
    assert history.by_hand("ticket-9") is None
    found = plan(store, _LATEST.params(token=token_id(1).hex(), of="quotes", most=20))
    assert re.search("(?i)index.*token_id_service_entry_id", found), found
    assert not re.search("(?i)seq scan|SCAN l402|TEMP B-TREE", found), found
