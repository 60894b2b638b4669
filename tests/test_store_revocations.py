"""Revoking, and the feed by which processes learn of it."""

from contextlib import closing
from datetime import timedelta

import pytest
from sqlalchemy import event, text
from support.sales import ISSUED, NOW, payment_hash, sale, token_id

from l402.store import Store, migrate
from l402.store.revocations import OVERLAP, Reach

pytest_plugins = ["support.databases"]

TOKEN = token_id(1).hex()
LATE = "('s', 'handle', NULL, clock_timestamp(), '')"


def test_changes(store: Store) -> None:
    """The feed gives the clock, and each revocation since the moment that it gave before."""
    since, none = store.revocations.changes(None)
    assert none == []
    assert since.tzinfo is not None
    store.revocations.revoke("token", TOKEN, why="chargeback")
    store.revocations.revoke("service", "quotes", issued_before=NOW)
    now, changes = store.revocations.changes(since)
    assert now >= since
    assert {(change.kind, change.subject) for change in changes} == {
        ("token", TOKEN),
        ("service", "quotes"),
    }
    told = {change.kind: change for change in changes}
    assert told["token"].why == "chargeback"
    assert told["token"].issued_before is None
    assert told["service"].issued_before == NOW
    assert since <= told["token"].revoked_at <= now


def test_overlap(store: Store) -> None:
    """Rows of two minutes before are given again, older ones are not."""
    store.revocations.revoke("token", TOKEN)
    now, _ = store.revocations.changes(None)
    assert len(store.revocations.changes(now + OVERLAP - timedelta(seconds=5))[1]) == 1
    assert store.revocations.changes(now + OVERLAP + timedelta(seconds=5))[1] == []


@pytest.mark.postgres
def test_committed_late(postgres_url: str) -> None:
    """A revocation that was being written while the feed was read is in the next one."""
    migrate.upgrade(postgres_url)
    with closing(Store(postgres_url)) as store:
        with store.db.write() as connection:
            connection.execute(text("INSERT INTO l402_revocation VALUES" + LATE))
            since, changes = store.revocations.changes(NOW)
            assert changes == []
        assert [change.subject for change in store.revocations.changes(since)[1]] == ["s"]


def test_one_round_trip(store: Store) -> None:
    """The feed is read by one statement."""
    store.ping()
    statements = []

    def note(_connection, _cursor, statement, *_rest) -> None:
        statements.append(statement)

    with store.db.read() as connection:
        engine = connection.engine
    event.listen(engine, "before_cursor_execute", note)
    store.revocations.changes(NOW)
    assert len(statements) == 1


def test_twice(store: Store) -> None:
    """Revoking the same again changes nothing and says so; the first reason stays."""
    assert store.revocations.revoke("token", TOKEN, why="first")
    assert not store.revocations.revoke("token", TOKEN, why="second")
    (change,) = store.revocations.changes(store.revocations.changes(None)[0])[1]
    assert change.why == "first"


def test_latest_moment_counts(store: Store) -> None:
    """Of a service's revocations the one that reaches furthest holds, in whatever order."""
    revoke = store.revocations.revoke
    assert revoke("service", "quotes", issued_before=NOW, why="leak")
    assert not revoke("service", "quotes", issued_before=NOW - timedelta(days=1))
    assert revoke("service", "quotes", issued_before=NOW + timedelta(days=1))
    (change,) = store.revocations.changes(store.revocations.changes(None)[0])[1]
    assert change.issued_before == NOW + timedelta(days=1)
    assert change.why == "leak"


def test_case_of_digits(store: Store) -> None:
    """Hex digits may be written in any case."""
    store.revocations.revoke("token", TOKEN.upper())
    assert store.payments.revoked(sale(1))


@pytest.mark.parametrize(
    ("kind", "subject", "issued_before"),
    [
        ("token", TOKEN[:-1], None),
        ("token", "g" * 64, None),
        ("payment", "", None),
        ("handle", TOKEN, None),
        ("token", TOKEN, NOW),
        ("service", "quotes", None),
    ],
)
def test_misuse(store: Store, kind, subject: str, issued_before) -> None:
    """A subject that does not suit its kind, or a moment out of place, is refused."""
    for act in (store.revocations.revoke, store.revocations.matching):
        with pytest.raises(ValueError, match="revoked"):
            act(kind, subject, issued_before=issued_before)
    assert store.revocations.changes(NOW - timedelta(days=36500))[1] == []


def test_matching(store: Store) -> None:
    """A dry run counts what the same revocation would concern, and writes nothing."""
    store.payments.admit(sale(1), NOW)
    store.payments.admit(sale(2, token_id=token_id(1), msat=5_000), NOW)
    store.payments.admit(sale(3, issued_at=ISSUED + 9), NOW)
    store.payments.admit(sale(4, service="other"), NOW)
    matching = store.revocations.matching
    assert matching("token", TOKEN) == Reach(1, 2, 15_000)
    assert matching("handle", TOKEN[:16]) == Reach(1, 2, 15_000)
    assert matching("payment", payment_hash(1).hex()) == Reach(1, 1, 10_000)
    assert matching("token", token_id(9).hex()) == Reach(0, 0, 0)
    before = NOW.fromtimestamp(ISSUED + 9, NOW.tzinfo)
    assert matching("service", "quotes", issued_before=before) == Reach(1, 2, 15_000)
    assert store.revocations.changes(before - timedelta(days=36500))[1] == []
