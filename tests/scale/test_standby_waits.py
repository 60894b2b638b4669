"""A commit that waits for its standby in vain is never told as done, however its wait ends."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
from flask import Flask
from support.daemons import await_that
from support.postgres import PASSWORD
from support.sales import NOW, payment_hash, sale
from support.standbys import Pair, pair

from l402.cli import cli
from l402.errors import StoreError
from l402.store import Standing, Store

pytestmark = pytest.mark.scale

_WAITING = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
_END = "SELECT {}(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"


@pytest.fixture(scope="module")
def servers() -> Iterator[Pair]:
    with pair() as made:
        yield made


@pytest.fixture
def store(servers: Pair) -> Iterator[Store]:
    with closing(Store(servers.fresh())) as made:
        made.ping()
        yield made


@pytest.mark.parametrize("command", ["upgrade", "current", "audit", "stats"])
def test_commands(store: Store, make_app: Callable[..., Flask], command: str) -> None:
    """An operator's commands take a URL of several hosts, and its password is not shown."""
    url = store.db.url.render_as_string(hide_password=False)
    app = make_app(L402_DATABASE_URL=url)
    done = app.test_cli_runner().invoke(cli, [command])
    assert done.exit_code == 0, done.output
    assert PASSWORD not in done.output


@pytest.mark.parametrize("how", ["pg_cancel_backend", "pg_terminate_backend"])
def test_a_wait_that_is_ended_by_hand(servers: Pair, store: Store, how: str) -> None:
    """Who cancels the wait makes the commit visible, but nobody is told that it is safe."""
    told: list[Standing | StoreError] = []

    def admit() -> None:
        try:
            told.append(store.payments.admit(sale(), NOW))
        except StoreError as error:
            told.append(error)

    servers.standby.signal(signal.SIGSTOP)
    try:
        thread = threading.Thread(target=admit, daemon=True)
        thread.start()
        await_that("a commit that waits", lambda: servers.primary.rows(_WAITING))
        servers.primary.rows(_END.format(how))
        thread.join(30)
        assert isinstance(told[0], StoreError)
        assert store.payments.recorded(payment_hash(1))
    finally:
        servers.standby.signal(signal.SIGCONT)
    assert store.payments.admit(sale(), NOW) == Standing(first=False, revoked=False, late=False)
