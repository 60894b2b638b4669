"""Books with something in them: accounts that bought, used, lent, lost and were helped by hand."""

import secrets
from datetime import datetime
from typing import Any

from sqlalchemy import create_engine, text

from l402.store import Store
from l402.store.orders import Order, Reserved
from l402.store.replies import Answer, Call
from support.sales import NOW, sale, token_id


def buy(store: Store, number: int, msat: int = 10_000, **changes: Any) -> None:
    """Book a payment of credit; its token has the payment's number, unless it is told."""
    now = changes.pop("now", NOW)
    credit = sale(number, kind="credit", msat=msat, ledger=store.ledger.id(), **changes)
    assert store.payments.admit(credit, now).first


def reserve(
    store: Store,
    number: int,
    msat: int = 2_000,
    *,
    endpoint: str = "quote",
    service: str = "quotes",
    call: Call | None = None,
    now: datetime = NOW,
) -> bytes:
    """Set a call's price aside, and give the use's id."""
    order = Order(secrets.token_bytes(16), token_id(number), service, endpoint, "GET", msat)
    assert isinstance(store.uses.reserve(order, now, call), Reserved)
    return order.use_id


def use(store: Store, number: int, msat: int = 2_000, **how: Any) -> bytes:
    """Charge a call, and give the use's id."""
    use_id = reserve(store, number, msat, **how)
    store.uses.take(use_id)
    return use_id


def adjust(store: Store, number: int, msat: int, operation: str) -> None:
    """Change a balance by hand."""
    token = token_id(number).hex()
    store.credits.adjust(token, "quotes", msat, why="goodwill", operation=operation, now=NOW)


def fill(store: Store) -> None:
    """Make an account for everything that can happen, numbered 1 to 4.

    1 has 7,000 msat and 2,000 in flight, 2 was lent 1,500, 3 bought anew after its credit ended,
    4 has a pass.
    """
    buy(store, 1)
    call = Call(b"k" * 32, b"f" * 32)
    store.uses.take(reserve(store, 1, call=call), Answer(200, "[]", b"fine"))
    store.uses.release(reserve(store, 1))
    adjust(store, 1, 3_000, "ticket-1")
    reserve(store, 1)
    adjust(store, 1, -2_000, "ticket-2")
    buy(store, 2)
    slow = reserve(store, 2)
    store.uses.release(slow)  # as if its process had been silent
    use(store, 2, 9_500)
    store.uses.take(slow)
    buy(store, 3, ends_at=1_900_000_010, now=datetime.fromtimestamp(1_900_000_005, NOW.tzinfo))
    buy(store, 30, 4_000, token_id=token_id(3))
    store.payments.admit(sale(4), NOW)


def damage(store: Store, *statements: str) -> None:
    """Change rows behind the record's back: without triggers, and without foreign keys."""
    engine = create_engine(store.db.url)
    with engine.begin() as connection:
        if engine.dialect.name == "sqlite":
            for trigger in ("update", "delete"):
                connection.exec_driver_sql(f"DROP TRIGGER IF EXISTS l402_entry_{trigger}")
        else:
            connection.exec_driver_sql("SET LOCAL session_replication_role = replica")
        for statement in statements:
            assert connection.execute(text(statement)).rowcount == 1, statement
    engine.dispose()


def plan(store: Store, statement: Any) -> str:
    """Say how the database would find the rows of a statement whose values are all in it."""
    engine = create_engine(store.db.url)
    query = str(statement.compile(engine, compile_kwargs={"literal_binds": True}))
    with engine.begin() as connection:
        if engine.dialect.name == "sqlite":
            rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {query}")
        else:  # a table of a few rows is scanned, whatever its indexes are
            connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
            rows = connection.exec_driver_sql(f"EXPLAIN {query}")
        lines = [str(row[-1]) for row in rows]
    engine.dispose()
    return "\n".join(lines)
