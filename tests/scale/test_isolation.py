"""The same SQL at READ COMMITTED and at SERIALIZABLE, under contention, through pgbouncer.

``ISOLATION_CALLS`` says how much each thread does.
"""

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import closing

import pytest
from sqlalchemy import select
from support import contention, sales
from support.contention import ACCOUNTS, PRICE
from support.pgbouncer import PgBouncer, bouncing
from support.postgres import PostgresServer
from support.redemptions import totals

from l402.store import Store, migrate
from l402.store.audit import Audit, Difference
from l402.store.tables import use

pytest_plugins = ["support.databases"]
pytestmark = pytest.mark.scale

CALLS = int(os.environ.get("ISOLATION_CALLS", "60"))
_PROCESSES = 4
_BOUGHT = 1_000_000 * PRICE


@pytest.fixture(scope="module")
def bouncer(postgres_server: PostgresServer) -> Iterator[PgBouncer]:
    """Enough connections that transactions really meet."""
    with bouncing(postgres_server, default_pool_size=16) as made:
        yield made


@pytest.fixture(params=["read committed", "repeatable read", "serializable"])
def url(
    bouncer: PgBouncer,
    postgres_server: PostgresServer,
    postgres_url: str,
    request: pytest.FixtureRequest,
) -> str:
    """A database whose transactions run at one level, with a few accounts that have credit."""
    name = postgres_url.rpartition("/")[2]
    level = f"ALTER DATABASE {name} SET default_transaction_isolation = '{request.param}'"
    postgres_server.execute(level)
    url = bouncer.url(postgres_url)
    migrate.upgrade(url)
    with closing(Store(url)) as store:
        for number in range(ACCOUNTS):
            store.payments.admit(sales.credit(store, number, msat=_BOUGHT), sales.NOW)
    return url


def test_all_that_is_done_to_accounts(url: str) -> None:
    """Whatever races on a few hot accounts is done exactly once, and nothing is turned away."""
    done = contention.contend_together(url, _PROCESSES, CALLS)
    print({what: number for what, number in sorted(done.items()) if number > 1})
    assert [what for what in done if what.startswith("failed")] == []
    once = [what for what in done if what.partition(" ")[0] in ("payment", "gift", "key")]
    assert {done[what] for what in once} == {1}
    kinds = Counter(what.partition(" ")[0] for what in once)
    with closing(Store(url)) as store:
        store.credits.expire()  # what was presented after the last sweep
        entries = Counter(each.kind for each in store.ledger.entries())
        assert entries["use"] == done["used"] + kinds["key"]
        assert entries["release"] == done["released"]
        assert entries["credit"] == kinds["gift"]
        bought = ACCOUNTS * _BOUGHT + 10 * PRICE * kinds["payment"] + 5 * PRICE * kinds["gift"]
        left = bought - PRICE * entries["use"]
        assert totals(store) == (left, left)
        assert store.db.fetch(select(use)) == []
        differences: list[Difference] = []
        Audit(store.db).run(differences.append, lambda step: None)
        assert differences == []
        uses = store.credentials.state(sales.token_id(0)).uses
        assert uses == done["counted"]
