"""The same SQL at READ COMMITTED and at SERIALIZABLE, under contention, through pgbouncer.

``ISOLATION_CALLS`` says how much each of 24 threads does.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime

import pytest
from sqlalchemy import select, update
from support import contention, sales
from support.contention import ACCOUNTS, PRICE
from support.pgbouncer import PgBouncer, bouncing
from support.postgres import PostgresServer
from support.redemptions import totals

from l402.store import Store, migrate
from l402.store.audit import Audit, Difference
from l402.store.tables import lease, use

pytest_plugins = ["support.databases"]
pytestmark = pytest.mark.scale

CALLS = int(os.environ.get("ISOLATION_CALLS", "60"))
_PROCESSES = 4
_BOUGHT = 1_000_000 * PRICE
#: What may be turned away of all that is done: where nobody waits for locks, and where all do.
_FAILING = {"read committed": 0.0, "serializable": 0.01}

MakeUrl = Callable[[str], str]


@pytest.fixture(scope="module")
def bouncer(postgres_server: PostgresServer) -> Iterator[PgBouncer]:
    """Enough connections that transactions really meet."""
    with bouncing(postgres_server, default_pool_size=16) as made:
        yield made


@pytest.fixture
def make_url(bouncer: PgBouncer, postgres_server: PostgresServer, postgres_url: str) -> MakeUrl:
    """A database whose transactions run at one level, with a few accounts that have credit."""

    def make(level: str) -> str:
        name = postgres_url.rpartition("/")[2]
        postgres_server.execute(
            f"ALTER DATABASE {name} SET default_transaction_isolation = '{level}'"
        )
        url = bouncer.url(postgres_url)
        migrate.upgrade(url)
        with closing(Store(url)) as store:
            for number in range(ACCOUNTS):
                store.payments.admit(sales.credit(store, number, msat=_BOUGHT), sales.NOW)
        return url

    return make


def tidy(store: Store) -> None:
    """Give back what was left in flight, and book what ended after the last sweep."""
    with store.db.write() as connection:
        connection.execute(update(lease).values(expires_at=datetime(2020, 1, 1, tzinfo=UTC)))
    store.uses.recover()
    store.credits.expire()


def check(url: str, level: str, calls: int, sabotage: str = "") -> None:
    """Have all that is done to accounts race; all that was done is in the books, and no more."""
    done = contention.contend_together(url, _PROCESSES, calls, sabotage)
    print({what: number for what, number in sorted(done.items()) if number > 1})
    attempts = sum(done.values()) - done["retried"]
    assert done["failed"] <= _FAILING[level] * attempts
    once = [what for what in done if what.partition(" ")[0] in ("payment", "gift", "key")]
    assert {done[what] for what in once} == {1}
    kinds = Counter(what.partition(" ")[0] for what in once)
    with closing(Store(url)) as store:
        tidy(store)
        entries = Counter(each.kind for each in store.ledger.entries())
        assert entries["use"] == done["used"] + kinds["key"]
        assert 0 <= entries["release"] - done["released"] <= done["failed"]
        assert entries["credit"] == kinds["gift"]
        bought = ACCOUNTS * _BOUGHT + 10 * PRICE * kinds["payment"] + 5 * PRICE * kinds["gift"]
        left = bought - PRICE * entries["use"]
        assert totals(store) == (left, left)
        assert store.db.fetch(select(use)) == []
        differences: list[Difference] = []
        Audit(store.db).run(differences.append, lambda step: None)
        assert differences == []
        assert store.credentials.state(sales.token_id(0)).uses == done["counted"]


@pytest.mark.parametrize("level", _FAILING)
def test_all_that_is_done_to_accounts(make_url: MakeUrl, level: str) -> None:
    """Whatever races on a few hot accounts is done exactly once, and hardly any is turned away."""
    check(make_url(level), level, CALLS)


@pytest.mark.parametrize(
    ("level", "sabotage"),
    [
        ("read committed", "debits what it read before"),
        ("serializable", "never runs again"),
    ],
)
def test_broken_builds_are_found(make_url: MakeUrl, level: str, sabotage: str) -> None:
    """Without the conditional UPDATE sums go wrong, and without retries calls are turned away."""
    url = make_url(level)
    with pytest.raises(AssertionError):
        check(url, level, CALLS // 3, sabotage)
