"""The table of prices that are set while serving."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import create_engine, select
from sqlalchemy.orm import Session

from l402.store import Store, models

pytest_plugins = ["support.databases"]


def told(store: Store) -> list[tuple[str, str, str, int, str | None]]:
    return [
        (one.service, one.endpoint, one.method, one.msat, one.why) for one in store.prices.all()
    ]


def test_set_again_and_unset(store: Store) -> None:
    """A price is one row by service, endpoint and method; the latest one stands."""
    assert store.prices.all() == []
    store.prices.set("shop", "quote", "GET", 10_000, "a test")
    store.prices.set("shop", "quote", "POST", 0)
    store.prices.set("other", "quote", "GET", 1)
    store.prices.set("shop", "quote", "GET", 21 * 10**17)
    assert told(store) == [
        ("other", "quote", "GET", 1, None),
        ("shop", "quote", "GET", 21 * 10**17, None),
        ("shop", "quote", "POST", 0, None),
    ]
    assert store.prices.unset("shop", "quote", "GET")
    assert not store.prices.unset("shop", "quote", "GET")
    assert [row[:3] for row in told(store)] == [
        ("other", "quote", "GET"), ("shop", "quote", "POST"),
    ]  # fmt: skip


def test_moment(store: Store) -> None:
    """The moment is the database's own, of the last change."""
    before = datetime.now(UTC) - timedelta(seconds=1)
    store.prices.set("shop", "quote", "GET", 1)
    (first,) = store.prices.all()
    store.prices.set("shop", "quote", "GET", 2)
    (second,) = store.prices.all()
    assert before <= first.set_at <= second.set_at <= datetime.now(UTC) + timedelta(seconds=1)


@pytest.mark.parametrize("msat", [-1, 1.0, True, None, "1"])
def test_no_price(store: Store, msat: object) -> None:
    """Anything but an int of at least 0 is refused, and changes nothing."""
    with pytest.raises(ValueError, match="no price"):
        store.prices.set("shop", "quote", "GET", msat)  # type: ignore[arg-type]
    assert store.prices.all() == []


def test_for_people(store: Store) -> None:
    """The mapped class reads the same rows."""
    store.prices.set("shop", "quote", "GET", 7, "a test")
    engine = create_engine(store.db.url)
    with Session(engine) as session:
        row = session.scalars(select(models.Price)).one()
        assert (row.msat, row.why, repr(row)) == (7, "a test", "<Price of GET quote: 7 msat>")
    engine.dispose()
