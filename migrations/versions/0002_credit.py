"""Credit: the ledger and its id, balances, uses in flight, and answers kept for a repeat.

Revision 0002.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

KEY = sa.String(64).with_variant(sa.String(64, collation="C"), "postgresql")
MOMENT = sa.DateTime(timezone=True)

# Drawn by the database, so that a script made once (--sql) gives each database an id of its own.
DRAW = {
    "sqlite": "INSERT INTO l402_ledger VALUES (lower(hex(randomblob(16))))",
    "postgresql": "INSERT INTO l402_ledger VALUES (replace(gen_random_uuid()::text, '-', ''))",
}
APPEND_ONLY = {
    "sqlite": [
        f"CREATE TRIGGER l402_entry_{verb.lower()} BEFORE {verb} ON l402_entry"
        " BEGIN SELECT raise(ABORT, 'l402_entry is append-only'); END"
        for verb in ("UPDATE", "DELETE")
    ],
    "postgresql": [
        "CREATE OR REPLACE FUNCTION l402_append_only() RETURNS trigger LANGUAGE plpgsql AS"
        " $$BEGIN RAISE EXCEPTION 'l402_entry is append-only'; END$$",
        "CREATE TRIGGER l402_entry_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON l402_entry"
        " FOR EACH STATEMENT EXECUTE FUNCTION l402_append_only()",
    ],
}


def upgrade() -> None:
    """Create the tables, draw the ledger's id, and close the entries to changes."""
    _create_balances()
    _create_uses()
    _create_entries()
    _create_replies()
    dialect = op.get_context().dialect.name
    op.execute(DRAW[dialect])
    for statement in APPEND_ONLY[dialect]:
        op.execute(statement)


def downgrade() -> None:
    """Drop them, and with them every balance: what was paid for credit is lost."""
    for table in ("reply", "entry", "use", "lease", "credit", "ledger"):
        op.drop_table(f"l402_{table}")
    if op.get_context().dialect.name == "postgresql":
        op.execute("DROP FUNCTION l402_append_only()")


def _create_balances() -> None:
    op.create_table(
        "l402_ledger",
        sa.Column("ledger_id", KEY, nullable=False),
        sa.PrimaryKeyConstraint("ledger_id", name="pk_l402_ledger"),
    )
    op.create_table(
        "l402_credit",
        sa.Column("token_id", KEY, nullable=False),
        sa.Column("service", KEY, nullable=False),
        sa.Column("balance", sa.BigInteger, nullable=False),
        sa.Column("reserved", sa.BigInteger, nullable=False, server_default=sa.text("0")),
        sa.Column("ends_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("token_id", "service", name="pk_l402_credit"),
        sa.ForeignKeyConstraint(
            ["token_id"], ["l402_credential.token_id"], name="fk_l402_credit_token_id"
        ),
        sa.CheckConstraint("balance >= 0", name=op.f("ck_l402_credit_balance")),
        sa.CheckConstraint("reserved >= 0", name=op.f("ck_l402_credit_reserved")),
    )
    op.create_index("ix_l402_credit_ends_at", "l402_credit", ["ends_at"])


def _create_uses() -> None:
    op.create_table(
        "l402_lease",
        sa.Column("process", KEY, nullable=False),
        sa.Column("expires_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("process", name="pk_l402_lease"),
    )
    op.create_table(
        "l402_use",
        sa.Column("use_id", KEY, nullable=False),
        sa.Column("token_id", KEY, nullable=False),
        sa.Column("service", KEY, nullable=False),
        sa.Column("endpoint", sa.Text, nullable=False),
        sa.Column("method", sa.Text, nullable=False),
        sa.Column("msat", sa.BigInteger, nullable=False),
        sa.Column("process", KEY, nullable=False),
        sa.Column("reserved_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("use_id", name="pk_l402_use"),
        sa.ForeignKeyConstraint(
            ["token_id", "service"],
            ["l402_credit.token_id", "l402_credit.service"],
            name="fk_l402_use_token_id_service",
        ),
        sa.CheckConstraint("msat > 0", name=op.f("ck_l402_use_msat")),
        sqlite_with_rowid=False,
    )


def _create_entries() -> None:
    op.create_table(
        "l402_entry",
        sa.Column("entry_id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), nullable=False),
        sa.Column("operation", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("token_id", KEY, nullable=False),
        sa.Column("service", KEY, nullable=False),
        sa.Column("endpoint", sa.Text),
        sa.Column("method", sa.Text),
        sa.Column("msat", sa.BigInteger, nullable=False),
        sa.Column("balance_before", sa.BigInteger, nullable=False),
        sa.Column("balance_after", sa.BigInteger, nullable=False),
        sa.Column("at", MOMENT, nullable=False),
        sa.Column("why", sa.Text),
        sa.PrimaryKeyConstraint("entry_id", name="pk_l402_entry"),
        sa.UniqueConstraint("operation", name="uq_l402_entry_operation"),
        sa.CheckConstraint("msat >= 0", name=op.f("ck_l402_entry_msat")),
        sa.CheckConstraint(
            "balance_before >= 0 AND balance_after >= 0", name=op.f("ck_l402_entry_balance")
        ),
    )
    op.create_index("ix_l402_entry_at", "l402_entry", ["at"])
    op.create_index(
        "ix_l402_entry_token_id_service_entry_id",
        "l402_entry",
        ["token_id", "service", "entry_id"],
    )


def _create_replies() -> None:
    op.create_table(
        "l402_reply",
        sa.Column("token_id", KEY, nullable=False),
        sa.Column("key", KEY, nullable=False),
        sa.Column("fingerprint", KEY, nullable=False),
        sa.Column("use_id", KEY, nullable=False),
        sa.Column("status", sa.Integer),
        sa.Column("headers", sa.Text),
        sa.Column("body", sa.LargeBinary),
        sa.Column("expires_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("token_id", "key", name="pk_l402_reply"),
        sa.UniqueConstraint("use_id", name="uq_l402_reply_use_id"),
    )
    op.create_index("ix_l402_reply_expires_at", "l402_reply", ["expires_at"])
