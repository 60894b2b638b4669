"""Settlements: what the node says was paid, and how far its invoices were read.

Revision 0004.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

KEY = sa.String(64).with_variant(sa.String(64, collation="C"), "postgresql")


def upgrade() -> None:
    """Create the tables, which the next reconciliation fills."""
    op.create_table(
        "l402_settlement",
        sa.Column("payment_hash", KEY, nullable=False),
        sa.Column("network", sa.Text, nullable=False),
        sa.Column("handle", KEY, nullable=False),
        sa.Column("msat", sa.BigInteger, nullable=False),
        sa.Column("received", sa.BigInteger, nullable=False),
        sa.Column("settled_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("payment_hash", name="pk_l402_settlement"),
        sa.CheckConstraint("msat >= 0 AND received >= 0", name=op.f("ck_l402_settlement_msat")),
    )
    op.create_table(
        "l402_bookmark",
        sa.Column("network", KEY, nullable=False),
        sa.Column("position", sa.BigInteger, nullable=False),
        sa.Column("payment_hash", KEY, nullable=False),
        sa.Column("read_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("network", name="pk_l402_bookmark"),
    )


def downgrade() -> None:
    """Drop them: the node can be asked again."""
    op.drop_table("l402_bookmark")
    op.drop_table("l402_settlement")
