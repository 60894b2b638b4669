"""The record's tables, as SQLAlchemy Core; `l402.store.models` maps classes on them for people.

Ids stand as lowercase hex digits, money as whole msat, moments as aware UTC. Every constraint
has a name, so that a migration can address it on each database.
"""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Date,
    ForeignKey,
    Index,
    MetaData,
    String,
    Table,
    Text,
    TextClause,
    bindparam,
    text,
)

from l402.store.clock import Moment

#: The revision of ``migrations/`` that describes these tables; a test compares it with the head.
SCHEMA_VERSION = "0001"
VERSION_TABLE = "l402_alembic_version"
PREFIX = "l402_"

#: Hex digits and names; compared as bytes on Postgres, where other collations cost time.
Key = String(64).with_variant(String(64, collation="C"), "postgresql")

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

credential = Table(
    "l402_credential",
    metadata,
    Column("token_id", Key, primary_key=True),
    Column("service", Key, nullable=False),
    Column("first_presented_at", Moment, nullable=False),
    Column("last_used_at", Moment),
    Column("uses", BigInteger, nullable=False, server_default=text("0")),
    CheckConstraint("uses >= 0", name="uses"),
    Index(None, "service", "first_presented_at", "token_id"),
    Index(None, "first_presented_at", "token_id"),
)

payment = Table(
    "l402_payment",
    metadata,
    Column("payment_hash", Key, primary_key=True),
    Column("token_id", Key, ForeignKey(credential.c.token_id), nullable=False, index=True),
    Column("service", Key, nullable=False),
    Column("kind", Text, nullable=False),
    Column("msat", BigInteger, nullable=False),
    Column("network", Text, nullable=False),
    Column("endpoint", Text, nullable=False),
    Column("method", Text, nullable=False),
    Column("issued_at", Moment, nullable=False),
    Column("starts_at", Moment, nullable=False),
    Column("ends_at", Moment, nullable=False),
    Column("valid_until", Moment, nullable=False),
    Column("presented_at", Moment, nullable=False),
    Column("status", Text, nullable=False),
    Column("settled_at", Moment),
    CheckConstraint("msat >= 0", name="msat"),
    # The time first: the sums of a day are asked over all services as well as for one.
    Index(None, "presented_at", "service"),
)

revocation = Table(
    "l402_revocation",
    metadata,
    # A service may be named like a handle: the kind is part of what identifies a revocation.
    Column("subject", Key, primary_key=True),
    Column("kind", Key, primary_key=True),
    Column("issued_before", Moment),
    Column("revoked_at", Moment, nullable=False, index=True),
    Column("why", Text),
    CheckConstraint("(kind = 'service') = (issued_before IS NOT NULL)", name="issued_before"),
)

challenge_count = Table(
    "l402_challenge_count",
    metadata,
    Column("day", Date, primary_key=True),
    Column("service", Key, primary_key=True),
    Column("endpoint", Text, primary_key=True),
    Column("challenges", BigInteger, nullable=False),
    CheckConstraint("challenges >= 0", name="challenges"),
)


def insertion(table: Table, names: str, suffix: str) -> TextClause:
    """``INSERT INTO table (names) VALUES (…) suffix``, its parameters named and typed as columns.

    ``ON CONFLICT`` and ``RETURNING`` are one text on both databases, while SQLAlchemy has a
    class of its own for each, and importing Postgres' costs 25 ms.
    """
    columns = [table.c[name] for name in names.split()]
    listed = ", ".join(column.name for column in columns)
    values = ", ".join(f":{column.name}" for column in columns)
    return text(
        f"INSERT INTO {table.name} ({listed}) VALUES ({values}) {suffix}"  # noqa: S608 - constants
    ).bindparams(*(bindparam(column.name, type_=column.type) for column in columns))
