"""The mapped classes, for people."""

from sqlalchemy import create_engine, select
from sqlalchemy.orm import Session
from support.sales import NOW, sale, token_id

from l402.store import Store
from l402.store.models import Base, ChallengeCount, Credential, Payment, Revocation

pytest_plugins = ["support.databases"]


def test_query(store: Store) -> None:
    """People can query the record through mapped classes, in a session of their own."""
    store.payments.admit(sale(1), NOW)
    store.payments.admit(sale(2, token_id=token_id(1)), NOW)
    store.revocations.revoke("token", token_id(1).hex())
    store.counts.count_challenges({(NOW.date(), "quotes", "quote"): 3})
    engine = create_engine(store.db.url)
    with Session(engine) as session:
        credential = session.scalars(select(Credential)).one()
        assert [payment.msat for payment in credential.payments] == [10_000, 10_000]
        payment = session.scalars(select(Payment).limit(1)).one()
        assert payment.presented_at == NOW
        assert payment.credential is credential
        revocation = session.scalars(select(Revocation)).one()
        assert session.scalars(select(ChallengeCount)).one().challenges == 3
        shown = [repr(row) for row in (credential, payment, revocation)]
    engine.dispose()
    assert all(token_id(1).hex() not in text for text in shown)


def test_every_table() -> None:
    """Each table has a mapped class that names every column, and our prefix."""
    mapped = {mapper.local_table.name: mapper for mapper in Base.registry.mappers}
    assert mapped.keys() == Base.metadata.tables.keys()
    for name, table in Base.metadata.tables.items():
        assert name.startswith("l402_")
        assert set(mapped[name].class_.__annotations__) >= set(table.columns.keys())
