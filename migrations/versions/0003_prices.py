"""Prices: those set at run time, what was signed of them, and what a metered call was charged.

Revision 0003.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

KEY = sa.String(64).with_variant(sa.String(64, collation="C"), "postgresql")


def upgrade() -> None:
    """Create the table of prices, and add what payments and uses know of theirs."""
    op.create_table(
        "l402_price",
        sa.Column("service", KEY, nullable=False),
        sa.Column("endpoint", sa.Text, nullable=False),
        sa.Column("method", KEY, nullable=False),
        sa.Column("msat", sa.BigInteger, nullable=False),
        sa.Column("set_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("why", sa.Text),
        sa.PrimaryKeyConstraint("service", "endpoint", "method", name="pk_l402_price"),
        sa.CheckConstraint("msat >= 0", name=op.f("ck_l402_price_msat")),
    )
    msat, rate = (sa.BigInteger, sa.text("0")), (sa.Text, sa.text("''"))
    for table, name, (kind, default) in (
        ("l402_payment", "price_msat", msat),
        ("l402_payment", "rate", rate),
        ("l402_use", "charged", msat),
    ):
        op.add_column(table, sa.Column(name, kind, nullable=False, server_default=default))


def downgrade() -> None:
    """Drop them: the prices of the configuration and the code are in force again."""
    op.drop_column("l402_use", "charged")
    op.drop_column("l402_payment", "rate")
    op.drop_column("l402_payment", "price_msat")
    op.drop_table("l402_price")
