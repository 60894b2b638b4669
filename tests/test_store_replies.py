"""Answers under an Idempotency-Key."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select, update
from support.sales import NOW, credit, order, token_id

from l402.store import Store
from l402.store.orders import Reserved, Short
from l402.store.replies import RETENTION, Answer, Call, Conflict, Reply
from l402.store.tables import lease, reply

pytest_plugins = ["support.databases"]

CALL = Call(b"k" * 32, b"f" * 32)
ANSWER = Answer(200, '[["Content-Type", "text/plain"]]', b"quote \x00\xff")
REPLY = Reply(ANSWER.status, ANSWER.headers, ANSWER.body, 8_000)


@pytest.fixture
def funded(store: Store) -> Store:
    """A store whose account 1 has 10,000 msat."""
    store.payments.admit(credit(store), NOW)
    return store


def reserve(store: Store, call: Call = CALL, now: datetime = NOW, **changes: object):
    asked = order(**changes)
    return asked.use_id, store.uses.reserve(asked, now, call)


def kept(store: Store) -> int:
    return len(store.db.fetch(select(reply)))


def test_replay(funded: Store) -> None:
    """A finished call's answer is given again, uncharged, even when nothing is left."""
    use_id, outcome = reserve(funded)
    assert isinstance(outcome, Reserved)
    funded.uses.take(use_id, ANSWER)
    assert reserve(funded)[1] == REPLY
    reserve(funded, Call(b"other" * 6 + b"xx", b"f" * 32), msat=8_000)
    assert reserve(funded)[1] == REPLY._replace(balance=0)
    assert [entry.kind for entry in funded.ledger.entries()] == ["purchase", "use"]


def test_in_progress(funded: Store) -> None:
    """While the first call is in flight a repeat is told so, also if it holds the last unit."""
    reserve(funded, msat=10_000)
    assert reserve(funded, msat=10_000)[1] is Conflict.IN_PROGRESS
    assert len(funded.db.fetch(select(reply))) == 1


@pytest.mark.parametrize("finished", [False, True])
def test_other_request(funded: Store, finished: bool) -> None:
    """Another request under the same key is refused, whether or not the first has finished."""
    use_id, _ = reserve(funded)
    if finished:
        funded.uses.take(use_id, ANSWER)
    assert reserve(funded, CALL._replace(fingerprint=b"g" * 32))[1] is Conflict.OTHER_REQUEST


def test_not_replayable(funded: Store) -> None:
    """An answer without a body was charged, and is neither given again nor charged again."""
    use_id, _ = reserve(funded)
    funded.uses.take(use_id, ANSWER._replace(body=None))
    assert reserve(funded)[1] is Conflict.NOT_REPLAYABLE


def test_release_frees_the_key(funded: Store) -> None:
    """A call that failed leaves no answer: the same key runs again."""
    use_id, _ = reserve(funded)
    funded.uses.release(use_id)
    assert kept(funded) == 0
    assert isinstance(reserve(funded)[1], Reserved)


def test_short_leaves_no_key(funded: Store) -> None:
    """A call that the balance does not cover leaves its key free."""
    assert reserve(funded, msat=10_001)[1] == Short(10_000, False)
    assert kept(funded) == 0


def test_scope(funded: Store) -> None:
    """A key is one account's own, over all its services."""
    funded.payments.admit(credit(funded, 2), NOW)
    funded.payments.admit(credit(funded, 3, token_id=token_id(1), service="facts"), NOW)
    use_id, _ = reserve(funded)
    funded.uses.take(use_id, ANSWER)
    assert isinstance(reserve(funded, token_id=token_id(2))[1], Reserved)
    assert isinstance(reserve(funded, service="facts")[1], Reply)


def test_dead_call(funded: Store) -> None:
    """The key of a call whose process is silent is free again, and so is what it held."""
    reserve(funded, msat=10_000)
    with funded.db.write() as connection:
        connection.execute(update(lease).values(expires_at=datetime(2020, 1, 1, tzinfo=UTC)))
    assert isinstance(reserve(funded, msat=10_000)[1], Reserved)


def test_ends(funded: Store) -> None:
    """An answer past its end is not given again: the call runs, and is charged."""
    use_id, _ = reserve(funded)
    funded.uses.take(use_id, ANSWER)
    early = NOW + RETENTION - timedelta(seconds=1)
    with funded.db.write() as connection:
        connection.exec_driver_sql("UPDATE l402_credit SET ends_at = '2040-01-01 00:00:00.000000'")
    assert isinstance(reserve(funded, now=early)[1], Reply)
    use_id, outcome = reserve(funded, now=NOW + RETENTION)
    assert isinstance(outcome, Reserved)
    assert reserve(funded, now=NOW + RETENTION)[1] is Conflict.IN_PROGRESS
    funded.uses.take(use_id, ANSWER._replace(body=b"new"))
    assert reserve(funded, now=NOW + RETENTION)[1].body == b"new"


def test_purge(funded: Store) -> None:
    """Answers past their end are deleted, by the database's clock, a number at a time."""
    for number in range(3):
        use_id, _ = reserve(funded, CALL._replace(key=bytes([number]) * 32), msat=1)
        funded.uses.take(use_id, ANSWER)
    assert funded.replies.purge() == 0
    with funded.db.write() as connection:
        connection.execute(update(reply).values(expires_at=datetime(2020, 1, 1, tzinfo=UTC)))
    assert funded.replies.purge(limit=2) == 2
    assert funded.replies.purge() == 1
    assert kept(funded) == 0


def test_same_key_at_once(funded: Store) -> None:
    """Of calls that come at once under one key, one runs and is charged."""
    barrier = threading.Barrier(6)

    def call(_: int) -> str:
        barrier.wait(20)
        use_id, outcome = reserve(funded)
        if isinstance(outcome, Reserved):
            funded.uses.take(use_id, ANSWER)
        return type(outcome).__name__

    with ThreadPoolExecutor(6) as pool:
        outcomes = list(pool.map(call, range(6)))
    assert outcomes.count("Reserved") == 1
    assert set(outcomes) <= {"Reserved", "Conflict", "Reply"}
    assert [entry.kind for entry in funded.ledger.entries()] == ["purchase", "use"]
