"""Booking payments, once each."""

import pytest
from sqlalchemy import delete, select
from support.sales import ISSUED, NOW, payment_hash, sale, token_id

from l402.errors import StoreUnavailable
from l402.store import Standing, Store
from l402.store.tables import credential, payment, revocation

pytest_plugins = ["support.databases"]

GOOD = Standing(first=False, revoked=False, late=False)
FIRST = Standing(first=True, revoked=False, late=False)
REVOKED = Standing(first=False, revoked=True, late=False)
LATE = Standing(first=False, revoked=False, late=True)


def rows(store: Store, table=payment):
    with store.db.read() as connection:
        return connection.execute(select(table)).all()


def test_first_presentation(store: Store) -> None:
    """The first presentation books the sale as it was signed, the next finds it booked."""
    assert store.payments.admit(sale(), NOW) == FIRST
    assert store.payments.admit(sale(), NOW) == GOOD
    (row,) = rows(store)
    assert row.payment_hash == payment_hash(1).hex()
    assert row.token_id == token_id(1).hex()
    assert (row.service, row.kind, row.msat, row.network) == ("quotes", "pass", 10_000, "regtest")
    assert (row.endpoint, row.method, row.status) == ("quote", "GET", "granted")
    moments = (row.issued_at, row.starts_at, row.ends_at, row.valid_until)
    assert [moment.timestamp() - ISSUED for moment in moments] == [0, 600, 4200, 4200]
    assert row.presented_at == NOW
    assert row.presented_at.utcoffset().total_seconds() == 0
    assert row.settled_at is None


def test_the_price_and_its_rate_are_booked(store: Store) -> None:
    """What was asked for one request, and at what rate, stands with the payment and comes back."""
    sold = sale(price=1_500, rate="USD 97000.5")
    store.payments.admit(sold, NOW)
    (row,) = rows(store)
    assert (row.price_msat, row.rate) == (1_500, "USD 97000.5")
    assert store.payments.rights(token_id(1), NOW) == [sold]


def test_second_payment_of_a_token(store: Store) -> None:
    """A token may have several payments; each is booked, the credential once."""
    assert store.payments.admit(sale(1), NOW) == FIRST
    assert store.payments.admit(sale(2, token_id=token_id(1)), NOW) == FIRST
    assert len(rows(store)) == 2
    assert len(rows(store, credential)) == 1


def test_payment_of_another_token(store: Store) -> None:
    """A payment that is booked for one token grants nothing to another, and leaves no trace."""
    store.payments.admit(sale(1), NOW)
    assert store.payments.admit(sale(2, payment_hash=payment_hash(1)), NOW) == REVOKED
    assert len(rows(store)) == len(rows(store, credential)) == 1


@pytest.mark.parametrize(("seconds", "standing"), [(4199, FIRST), (4200, LATE), (9999, LATE)])
def test_late(store: Store, seconds: int, standing: Standing) -> None:
    """A payment first shown at its end or later is booked as late, and never grants anything."""
    late = NOW.fromtimestamp(ISSUED + seconds, NOW.tzinfo)
    assert store.payments.admit(sale(), late) == standing
    assert store.payments.admit(sale(), NOW).late is standing.late
    assert rows(store)[0].status == ("late" if standing.late else "granted")


def test_not_late_once_booked(store: Store) -> None:
    """What was booked in time is not called late afterwards: its end is the caller's to judge."""
    store.payments.admit(sale(), NOW)
    later = NOW.fromtimestamp(ISSUED + 9999, NOW.tzinfo)
    assert store.payments.admit(sale(), later) == GOOD


@pytest.mark.parametrize(
    ("kind", "subject"),
    [
        ("token", token_id(1).hex()),
        ("payment", payment_hash(1).hex()),
        ("handle", token_id(1).hex()[:16]),
    ],
)
def test_revoked_before(store: Store, kind, subject: str) -> None:
    """What is revoked before its first presentation is booked and grants nothing."""
    store.revocations.revoke(kind, subject)
    assert store.payments.revoked(sale(1))
    assert not store.payments.revoked(sale(2))
    assert store.payments.admit(sale(1), NOW) == REVOKED
    assert store.payments.admit(sale(1), NOW) == REVOKED
    assert rows(store)[0].status == "revoked"
    assert store.payments.admit(sale(2), NOW) == FIRST


def test_revoked_after(store: Store) -> None:
    """A revocation holds from the next look on, and the book goes on saying what was granted."""
    store.payments.admit(sale(1), NOW)
    store.revocations.revoke("token", token_id(1).hex())
    assert store.payments.admit(sale(1), NOW) == REVOKED
    assert rows(store)[0].status == "granted"


def test_revoked_payment_of_a_token(store: Store) -> None:
    """Revoking one payment leaves the token's others."""
    store.revocations.revoke("payment", payment_hash(1).hex())
    assert store.payments.admit(sale(1), NOW) == REVOKED
    assert store.payments.admit(sale(2, token_id=token_id(1)), NOW) == FIRST


@pytest.mark.parametrize(("offset", "standing"), [(0, FIRST), (1, REVOKED)])
def test_revoked_service(store: Store, offset: int, standing: Standing) -> None:
    """Revoking a service before a moment concerns what was issued earlier than that, there."""
    before = NOW.fromtimestamp(ISSUED + offset, NOW.tzinfo)
    store.revocations.revoke("service", "quotes", issued_before=before)
    assert store.payments.admit(sale(1), NOW) == standing
    assert store.payments.admit(sale(2, service="other"), NOW) == FIRST


def test_service_named_like_a_handle(store: Store) -> None:
    """A service whose name is a token's first digits is not that token."""
    digits = token_id(1).hex()[:16]
    store.revocations.revoke("service", digits, issued_before=NOW)
    assert store.payments.admit(sale(1), NOW) == FIRST
    assert store.revocations.revoke("handle", digits)
    assert store.payments.admit(sale(1), NOW) == REVOKED


def test_recorded(store: Store) -> None:
    """A booked payment need not be asked for at its node; when it was settled is kept."""
    assert not store.payments.recorded(payment_hash(1))
    store.payments.admit(sale(1), NOW, settled_at=NOW)
    assert store.payments.recorded(payment_hash(1))
    assert not store.payments.recorded(payment_hash(2))
    assert rows(store)[0].settled_at == NOW


def test_no_write_for_a_booked_sale(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sale that is booked already costs one read and no transaction."""
    store.payments.admit(sale(), NOW)
    monkeypatch.setattr(store.db, "write", None)
    assert store.payments.admit(sale(), NOW) == GOOD


def test_negative_amount(store: Store) -> None:
    """The database itself refuses an amount below zero, and keeps nothing of the attempt."""
    with pytest.raises(StoreUnavailable, match=r"(?i)check"):
        store.payments.admit(sale(msat=-1), NOW)
    assert rows(store) == rows(store, credential) == []


def test_booked_as_revoked_for_ever(store: Store) -> None:
    """What was revoked at its first presentation stays so, even when the revocation is purged."""
    store.revocations.revoke("token", token_id(1).hex())
    store.payments.admit(sale(), NOW)
    with store.db.write() as connection:
        connection.execute(delete(revocation))
    assert store.payments.admit(sale(), NOW) == REVOKED


def test_lost_race(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who finds a payment booked only when writing it undoes what it began, and looks again."""
    other = sale(2, payment_hash=payment_hash(1))
    booked = store.payments._booked

    def meanwhile(row):
        monkeypatch.setattr(store.payments, "_booked", booked)
        found = booked(row)
        store.payments.admit(sale(1), NOW)
        return found

    monkeypatch.setattr(store.payments, "_booked", meanwhile)
    assert store.payments.admit(other, NOW) == REVOKED
    assert [row.token_id for row in rows(store, credential)] == [token_id(1).hex()]
