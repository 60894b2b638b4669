"""Closings: what is purged goes on counting, as sums, and entries may go with them.

Revision 0005.
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

KEY = sa.String(64).with_variant(sa.String(64, collation="C"), "postgresql")

ENTRIES_OPEN = {
    "sqlite": ["DROP TRIGGER l402_entry_delete"],
    "postgresql": ["DROP TRIGGER l402_entry_append_only ON l402_entry"],
}
#: Entries as 0002 closed them.
ENTRIES_CLOSED = {
    "sqlite": [
        "CREATE TRIGGER l402_entry_delete BEFORE DELETE ON l402_entry"
        " BEGIN SELECT raise(ABORT, 'l402_entry is append-only'); END"
    ],
    "postgresql": [
        "CREATE TRIGGER l402_entry_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON l402_entry"
        " FOR EACH STATEMENT EXECUTE FUNCTION l402_append_only()",
    ],
}
#: Entries that a purge may delete, and closings that it alone may write.
GUARDED = {
    "sqlite": [
        "CREATE TRIGGER l402_entry_delete BEFORE DELETE ON l402_entry"
        " WHEN NOT EXISTS (SELECT 1 FROM l402_purge WHERE token_id = OLD.token_id)"
        " BEGIN SELECT raise(ABORT, 'l402_entry is append-only'); END",
        *(
            f"CREATE TRIGGER l402_closing_{verb.lower()} BEFORE {verb} ON l402_closing {unless}"
            " BEGIN SELECT raise(ABORT, 'l402_closing is written by purges alone'); END"
            for verb, unless in (
                ("INSERT", "WHEN NOT EXISTS (SELECT 1 FROM l402_purge)"),
                ("UPDATE", "WHEN NOT EXISTS (SELECT 1 FROM l402_purge)"),
                ("DELETE", ""),
            )
        ),
    ],
    "postgresql": [
        "CREATE OR REPLACE FUNCTION l402_purged() RETURNS trigger LANGUAGE plpgsql AS"
        " $$BEGIN IF EXISTS (SELECT FROM l402_purge WHERE token_id = OLD.token_id)"
        " THEN RETURN OLD; END IF; RAISE EXCEPTION 'l402_entry is append-only'; END$$",
        "CREATE TRIGGER l402_entry_append_only BEFORE UPDATE OR TRUNCATE ON l402_entry"
        " FOR EACH STATEMENT EXECUTE FUNCTION l402_append_only()",
        "CREATE TRIGGER l402_entry_purged BEFORE DELETE ON l402_entry"
        " FOR EACH ROW EXECUTE FUNCTION l402_purged()",
        "CREATE OR REPLACE FUNCTION l402_closed() RETURNS trigger LANGUAGE plpgsql AS"
        " $$BEGIN IF TG_OP IN ('INSERT', 'UPDATE') AND EXISTS (SELECT FROM l402_purge)"
        " THEN RETURN NULL; END IF;"
        " RAISE EXCEPTION 'l402_closing is written by purges alone'; END$$",
        "CREATE TRIGGER l402_closing_guard BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE"
        " ON l402_closing FOR EACH STATEMENT EXECUTE FUNCTION l402_closed()",
    ],
}


def upgrade() -> None:
    """Create the tables, and let entries go with the accounts that are purged."""
    op.create_table(
        "l402_closing",
        sa.Column("day", sa.Date, nullable=False),
        sa.Column("book", KEY, nullable=False),
        sa.Column("kind", KEY, nullable=False),
        sa.Column("service", KEY, nullable=False),
        sa.Column("endpoint", sa.Text, nullable=False),
        sa.Column("network", KEY, nullable=False),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("msat", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint(
            "day", "book", "kind", "service", "endpoint", "network", name="pk_l402_closing"
        ),
        sa.CheckConstraint("number >= 0 AND msat >= 0", name=op.f("ck_l402_closing_number")),
    )
    op.create_table(
        "l402_purge",
        sa.Column("token_id", KEY, nullable=False),
        sa.PrimaryKeyConstraint("token_id", name="pk_l402_purge"),
    )
    op.add_column("l402_ledger", sa.Column("closed_until", sa.DateTime(timezone=True)))
    op.add_column(
        "l402_credit",
        sa.Column("carried", sa.BigInteger, nullable=False, server_default=sa.text("0")),
    )
    _execute(ENTRIES_OPEN)
    _execute(GUARDED)


def downgrade() -> None:
    """Drop them: the sums of what was purged are lost."""
    postgres = op.get_context().dialect.name == "postgresql"
    _execute(ENTRIES_OPEN)
    if postgres:
        op.execute("DROP TRIGGER l402_entry_purged ON l402_entry")
    _execute(ENTRIES_CLOSED)
    op.drop_table("l402_closing")
    op.drop_table("l402_purge")
    if postgres:
        op.execute("DROP FUNCTION l402_purged()")
        op.execute("DROP FUNCTION l402_closed()")
    op.drop_column("l402_credit", "carried")
    op.drop_column("l402_ledger", "closed_until")


def _execute(statements: dict[str, list[str]]) -> None:
    for statement in statements[op.get_context().dialect.name]:
        op.execute(statement)
