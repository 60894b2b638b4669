"""How the databases find the rows of what is asked often: by an index, however many there are."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import create_engine, event, text
from sqlalchemy.engine import Engine
from support.books import reserve
from support.purges import LATER, ended, expire_all
from support.sales import NOW, credit, order, sale, token_id

from l402.store import Store, driver
from l402.store.history import History
from l402.store.purge import Purge
from l402.store.replies import Answer, Call

pytest_plugins = ["support.databases"]

#: Tables that hold a row for each thing that was ever sold, used, or revoked.
GROWING = ("credential", "payment", "credit", "entry", "reply", "revocation")
#: What reads all of a table, in the words of each database.
WHOLE = {
    "sqlite": r"SCAN (l402_(?:{names}))(?! USING)",
    "postgresql": r"Seq Scan on (l402_(?:{names}))",
}


class Plans:
    """The plans of all statements that were run within a block, once each."""

    def __init__(self, store: Store) -> None:
        self._engine = create_engine(store.db.url)
        self._statements: dict[str, Any] = {}

    def __enter__(self) -> "Plans":
        self._execute = driver.execute
        driver.execute = self._driven  # what is run many times a second goes past SQLAlchemy
        event.listen(Engine, "before_cursor_execute", self._executed)
        return self

    def __exit__(self, *_: object) -> None:
        driver.execute = self._execute
        event.remove(Engine, "before_cursor_execute", self._executed)

    def _driven(self, connection: Any, sql: str, parameters: Any = (), *how: Any) -> Any:
        self._statements.setdefault(sql, _plain(parameters))
        return self._execute(connection, sql, parameters, *how)

    def _executed(self, connection: Any, cursor: Any, sql: str, given: Any, *_: Any) -> None:
        self._statements.setdefault(sql, _plain(given))

    def whole(self) -> Iterator[tuple[str, str]]:
        """Name each growing table that a statement reads all of, and the statement."""
        dialect = self._engine.dialect.name
        pattern = WHOLE[dialect].format(names="|".join(GROWING))
        explain = "EXPLAIN QUERY PLAN" if dialect == "sqlite" else "EXPLAIN"
        with self._engine.connect() as connection:
            if dialect == "postgresql":  # a table of a few rows is read whole, index or not
                connection.exec_driver_sql("SET enable_seqscan = off")
            for sql, given in self._statements.items():
                if re.match("(WITH|SELECT|INSERT|UPDATE|DELETE)", sql):
                    rows = connection.exec_driver_sql(f"{explain} {sql}", given or ()).all()
                    for table in re.findall(pattern, "\n".join(str(row[-1]) for row in rows)):
                        yield table, sql
        self._engine.dispose()

    def __len__(self) -> int:
        return len(self._statements)


def _plain(given: Any) -> Any:
    """Give the parameters of one execution, as SQLAlchemy takes them."""
    if isinstance(given, list) and given and isinstance(given[0], list | tuple | dict):
        given = given[0]
    return tuple(given) if isinstance(given, list) else given


def work(store: Store) -> None:
    """Do all that requests and chores do."""
    store.payments.admit(sale(1), NOW)
    store.payments.admit(sale(1), NOW)
    store.payments.admit(bought := credit(store, 2), NOW)
    store.payments.recorded(bought.payment_hash)
    store.payments.rights(token_id(1), NOW)
    store.payments.account_end(token_id(1), NOW)
    store.payments.revoked(bought)
    store.credits.of(token_id(2))
    store.credits.revoked(token_id(2), "quotes")
    call = Call(b"k" * 32, b"f" * 32)
    use_id = reserve(store, 2, call=call)
    store.replies.known(call, token_id(2), "quotes", NOW)
    store.uses.take(use_id, Answer(200, "[]", b"x"))
    store.uses.release(reserve(store, 2))
    store.uses.reserve(order(2, 10**9), NOW)
    store.uses.renew()
    store.uses.recover()
    store.credits.expire()
    store.replies.purge()
    store.counts.count_uses({token_id(1): (1, NOW)})
    store.revocations.revoke("token", token_id(9).hex())
    now, _ = store.revocations.changes(None)
    store.revocations.changes(now)
    store.credentials.page(now=NOW)
    store.credentials.page(now=NOW, active=True, since=NOW, after=token_id(1).hex())
    store.credentials.state(token_id(1))
    store.credentials.find(token_id(1).hex()[:8])
    History(store.db).latest(token_id(2).hex(), "quotes")
    store.days.stats(NOW.date(), NOW.date())
    store.days.stats(NOW.date(), NOW.date(), by_endpoint=True)


def purging(store: Store) -> None:
    """Purge what has ended, and revocations."""
    store.payments.admit(ended(20, 1_500_000_000), LATER.replace(year=2017))
    expire_all(store)
    assert Purge(store.db, LATER).run(lambda _: None).tokens
    Purge(store.db, LATER).preview()
    assert list(store.revocations.purge(NOW))


@pytest.mark.parametrize("doing", [work, purging])
def test_no_table_is_read_whole(store: Store, doing: Any) -> None:
    """Whatever is done for requests, and by purges among them, finds its rows by an index."""
    with Plans(store) as plans:
        doing(store)
    assert len(plans) > 10
    assert list(plans.whole()) == []


@pytest.mark.parametrize(
    ("index", "table"),
    [
        ("ix_l402_credit_ends_at", "l402_credit"),
        ("ix_l402_payment_token_id", "l402_payment"),
        ("ix_l402_payment_presented_at_service", "l402_payment"),
        ("ix_l402_entry_at", "l402_entry"),
        ("ix_l402_reply_expires_at", "l402_reply"),
    ],
)
def test_without_an_index(store: Store, index: str, table: str) -> None:
    """If an index is taken away, it is seen, unless another one would do instead, if slowly."""
    with store.db.write() as connection:
        connection.execute(text(f"DROP INDEX {index}"))
    with Plans(store) as plans:
        work(store)
    assert table in {found for found, _ in plans.whole()}
