"""The record's tables, as SQLAlchemy Core; `l402.store.models` maps classes on them for people.

Ids stand as lowercase hex digits, money as whole msat, moments as aware UTC. Every constraint
has a name, so that a migration can address it on each database.
"""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Connection,
    Date,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    TextClause,
    bindparam,
    event,
    text,
)

from l402.store.clock import Moment

#: The revision of ``migrations/`` that describes these tables; a test compares it with the head.
SCHEMA_VERSION = "0005"
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
    # What the refused request cost, 0 if a callable said it, and the rate it was reckoned at.
    Column("price_msat", BigInteger, nullable=False, server_default=text("0")),
    Column("rate", Text, nullable=False, server_default=text("''")),
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

ledger = Table(
    "l402_ledger",
    metadata,
    # One row, made by the migration: what is signed for one ledger opens nothing on another.
    Column("ledger_id", Key, primary_key=True),
    # What ended by then may have been purged: it is not booked again, whatever clocks show.
    Column("closed_until", Moment),
)

credit = Table(
    "l402_credit",
    metadata,
    Column("token_id", Key, ForeignKey(credential.c.token_id), primary_key=True),
    Column("service", Key, primary_key=True),
    # What may still be spent; what calls in flight hold is in `reserved` until it is resolved.
    Column("balance", BigInteger, nullable=False),
    Column("reserved", BigInteger, nullable=False, server_default=text("0")),
    Column("ends_at", Moment, nullable=False),
    # What it owned where its entries begin, if older ones were purged.
    Column("carried", BigInteger, nullable=False, server_default=text("0")),
    CheckConstraint("balance >= 0", name="balance"),
    CheckConstraint("reserved >= 0", name="reserved"),
    Index(None, "ends_at"),
)

lease = Table(
    "l402_lease",
    metadata,
    # A process that holds uses renews its row; the uses of one that stopped are given back.
    Column("process", Key, primary_key=True),
    Column("expires_at", Moment, nullable=False),
)

use = Table(
    "l402_use",
    metadata,
    # A use in flight: made when it is reserved, never changed, deleted when it is resolved.
    Column("use_id", Key, primary_key=True),
    Column("token_id", Key, nullable=False),
    Column("service", Key, nullable=False),
    Column("endpoint", Text, nullable=False),
    Column("method", Text, nullable=False),
    Column("msat", BigInteger, nullable=False),
    Column("process", Key, nullable=False),
    Column("reserved_at", Moment, nullable=False),
    Column("charged", BigInteger, nullable=False, server_default=text("0")),
    ForeignKeyConstraint(["token_id", "service"], ["l402_credit.token_id", "l402_credit.service"]),
    CheckConstraint("msat > 0", name="msat"),
)

entry = Table(
    "l402_entry",
    metadata,
    # Append-only, by a trigger; in the order of `entry_id` an account's entries form a chain.
    Column("entry_id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    # What it stands for, such as a payment hash or a use's id: each thing is done once.
    Column("operation", Text, nullable=False, unique=True),
    Column("kind", Text, nullable=False),
    Column("token_id", Key, nullable=False),
    Column("service", Key, nullable=False),
    Column("endpoint", Text),
    Column("method", Text),
    Column("msat", BigInteger, nullable=False),
    # Of balance and reserved together.
    Column("balance_before", BigInteger, nullable=False),
    Column("balance_after", BigInteger, nullable=False),
    Column("at", Moment, nullable=False, index=True),
    Column("why", Text),
    CheckConstraint("msat >= 0", name="msat"),
    CheckConstraint("balance_before >= 0 AND balance_after >= 0", name="balance"),
    Index(None, "token_id", "service", "entry_id"),
)

reply = Table(
    "l402_reply",
    metadata,
    # An answer under an Idempotency-Key: without a status while its use is in flight, without a
    # body if it cannot be replayed.
    Column("token_id", Key, primary_key=True),
    Column("key", Key, primary_key=True),
    Column("fingerprint", Key, nullable=False),
    Column("use_id", Key, nullable=False, unique=True),
    Column("status", Integer),
    Column("headers", Text),
    Column("body", LargeBinary),
    Column("expires_at", Moment, nullable=False, index=True),
)

price = Table(
    "l402_price",
    metadata,
    # A price set at run time: goes before the configuration's and the code's.
    Column("service", Key, primary_key=True),
    Column("endpoint", Text, primary_key=True),
    Column("method", Key, primary_key=True),
    Column("msat", BigInteger, nullable=False),
    Column("set_at", Moment, nullable=False),
    Column("why", Text),
    CheckConstraint("msat >= 0", name="msat"),
)

settlement = Table(
    "l402_settlement",
    metadata,
    # An invoice of ours that the node says was paid, presented or not.
    Column("payment_hash", Key, primary_key=True),
    Column("network", Text, nullable=False),
    Column("handle", Key, nullable=False),
    Column("msat", BigInteger, nullable=False),
    Column("received", BigInteger, nullable=False),
    Column("settled_at", Moment, nullable=False),
    CheckConstraint("msat >= 0 AND received >= 0", name="msat"),
)

bookmark = Table(
    "l402_bookmark",
    metadata,
    # How far the node's list of invoices was read: up to a paid one, before which none of ours
    # is undecided.
    Column("network", Key, primary_key=True),
    Column("position", BigInteger, nullable=False),
    Column("payment_hash", Key, nullable=False),
    Column("read_at", Moment, nullable=False),
)

closing = Table(
    "l402_closing",
    metadata,
    # What was purged, as sums: the figures of a day, and of the whole, stay what they were.
    Column("day", Date, primary_key=True),
    Column("book", Key, primary_key=True),
    Column("kind", Key, primary_key=True),
    Column("service", Key, primary_key=True),
    Column("endpoint", Text, primary_key=True),
    Column("network", Key, primary_key=True),
    Column("number", BigInteger, nullable=False),
    Column("msat", BigInteger, nullable=False),
    CheckConstraint("number >= 0 AND msat >= 0", name="number"),
)

purge = Table(
    "l402_purge",
    metadata,
    # The tokens that the transaction at hand purges; to all others it is empty.
    Column("token_id", Key, primary_key=True),
)

#: What keeps entries and closings from changes, by dialect; the migrations have their own copies.
_GUARDS = {
    "sqlite": {
        "l402_entry": [
            "CREATE TRIGGER l402_entry_update BEFORE UPDATE ON l402_entry"
            " BEGIN SELECT raise(ABORT, 'l402_entry is append-only'); END",
            "CREATE TRIGGER l402_entry_delete BEFORE DELETE ON l402_entry"
            " WHEN NOT EXISTS (SELECT 1 FROM l402_purge WHERE token_id = OLD.token_id)"
            " BEGIN SELECT raise(ABORT, 'l402_entry is append-only'); END",
        ],
        "l402_closing": [
            f"CREATE TRIGGER l402_closing_{verb.lower()} BEFORE {verb} ON l402_closing {unless}"
            " BEGIN SELECT raise(ABORT, 'l402_closing is written by purges alone'); END"
            for verb, unless in (
                ("INSERT", "WHEN NOT EXISTS (SELECT 1 FROM l402_purge)"),
                ("UPDATE", "WHEN NOT EXISTS (SELECT 1 FROM l402_purge)"),
                ("DELETE", ""),
            )
        ],
    },
    "postgresql": {
        "l402_entry": [
            "CREATE OR REPLACE FUNCTION l402_append_only() RETURNS trigger LANGUAGE plpgsql AS"
            " $$BEGIN RAISE EXCEPTION 'l402_entry is append-only'; END$$",
            "CREATE OR REPLACE FUNCTION l402_purged() RETURNS trigger LANGUAGE plpgsql AS"
            " $$BEGIN IF EXISTS (SELECT FROM l402_purge WHERE token_id = OLD.token_id)"
            " THEN RETURN OLD; END IF; RAISE EXCEPTION 'l402_entry is append-only'; END$$",
            "CREATE TRIGGER l402_entry_append_only BEFORE UPDATE OR TRUNCATE ON l402_entry"
            " FOR EACH STATEMENT EXECUTE FUNCTION l402_append_only()",
            "CREATE TRIGGER l402_entry_purged BEFORE DELETE ON l402_entry"
            " FOR EACH ROW EXECUTE FUNCTION l402_purged()",
        ],
        "l402_closing": [
            "CREATE OR REPLACE FUNCTION l402_closed() RETURNS trigger LANGUAGE plpgsql AS"
            " $$BEGIN IF TG_OP IN ('INSERT', 'UPDATE') AND EXISTS (SELECT FROM l402_purge)"
            " THEN RETURN NULL; END IF;"
            " RAISE EXCEPTION 'l402_closing is written by purges alone'; END$$",
            "CREATE TRIGGER l402_closing_guard BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE"
            " ON l402_closing FOR EACH STATEMENT EXECUTE FUNCTION l402_closed()",
        ],
    },
}

#: A new ledger's id, drawn by the database: 32 hex digits.
_DRAW = {
    "sqlite": "INSERT INTO l402_ledger (ledger_id) VALUES (lower(hex(randomblob(16))))",
    "postgresql": "INSERT INTO l402_ledger (ledger_id)"
    " VALUES (replace(gen_random_uuid()::text, '-', ''))",
}


@event.listens_for(entry, "after_create")
@event.listens_for(closing, "after_create")
def _guard(table: Table, connection: Connection, **_: object) -> None:
    for statement in _GUARDS[connection.dialect.name][table.name]:
        connection.exec_driver_sql(statement)


@event.listens_for(use, "before_create")
def _leave_out_rowid(table: Table, connection: Connection, **_: object) -> None:
    # A handful of rows: another index would only cost each call two writes. Said where the table
    # is defined, it would load SQLite's dialect for Postgres too.
    if connection.dialect.name == "sqlite":
        table.dialect_options["sqlite"]["with_rowid"] = False


@event.listens_for(ledger, "after_create")
def _draw_id(table: Table, connection: Connection, **_: object) -> None:
    connection.exec_driver_sql(_DRAW[connection.dialect.name])


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
