"""The record: credentials, payments, revocations, counts of challenges.

Revision 0001, the first.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

KEY = sa.String(64).with_variant(sa.String(64, collation="C"), "postgresql")
MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "l402_credential",
        sa.Column("token_id", KEY, nullable=False),
        sa.Column("service", KEY, nullable=False),
        sa.Column("first_presented_at", MOMENT, nullable=False),
        sa.Column("last_used_at", MOMENT),
        sa.Column("uses", sa.BigInteger, nullable=False, server_default=sa.text("0")),
        sa.PrimaryKeyConstraint("token_id", name="pk_l402_credential"),
        sa.CheckConstraint("uses >= 0", name=op.f("ck_l402_credential_uses")),
    )
    op.create_index(
        "ix_l402_credential_service_first_presented_at_token_id",
        "l402_credential",
        ["service", "first_presented_at", "token_id"],
    )
    op.create_index(
        "ix_l402_credential_first_presented_at_token_id",
        "l402_credential",
        ["first_presented_at", "token_id"],
    )
    op.create_table(
        "l402_payment",
        sa.Column("payment_hash", KEY, nullable=False),
        sa.Column("token_id", KEY, nullable=False),
        sa.Column("service", KEY, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("msat", sa.BigInteger, nullable=False),
        sa.Column("network", sa.Text, nullable=False),
        sa.Column("endpoint", sa.Text, nullable=False),
        sa.Column("method", sa.Text, nullable=False),
        sa.Column("issued_at", MOMENT, nullable=False),
        sa.Column("starts_at", MOMENT, nullable=False),
        sa.Column("ends_at", MOMENT, nullable=False),
        sa.Column("valid_until", MOMENT, nullable=False),
        sa.Column("presented_at", MOMENT, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("settled_at", MOMENT),
        sa.PrimaryKeyConstraint("payment_hash", name="pk_l402_payment"),
        sa.ForeignKeyConstraint(
            ["token_id"], ["l402_credential.token_id"], name="fk_l402_payment_token_id"
        ),
        sa.CheckConstraint("msat >= 0", name=op.f("ck_l402_payment_msat")),
    )
    op.create_index("ix_l402_payment_token_id", "l402_payment", ["token_id"])
    op.create_index(
        "ix_l402_payment_presented_at_service", "l402_payment", ["presented_at", "service"]
    )
    op.create_table(
        "l402_revocation",
        sa.Column("subject", KEY, nullable=False),
        sa.Column("kind", KEY, nullable=False),
        sa.Column("issued_before", MOMENT),
        sa.Column("revoked_at", MOMENT, nullable=False),
        sa.Column("why", sa.Text),
        sa.PrimaryKeyConstraint("subject", "kind", name="pk_l402_revocation"),
        sa.CheckConstraint(
            "(kind = 'service') = (issued_before IS NOT NULL)",
            name=op.f("ck_l402_revocation_issued_before"),
        ),
    )
    op.create_index("ix_l402_revocation_revoked_at", "l402_revocation", ["revoked_at"])
    op.create_table(
        "l402_challenge_count",
        sa.Column("day", sa.Date, nullable=False),
        sa.Column("service", KEY, nullable=False),
        sa.Column("endpoint", sa.Text, nullable=False),
        sa.Column("challenges", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("day", "service", "endpoint", name="pk_l402_challenge_count"),
        sa.CheckConstraint("challenges >= 0", name=op.f("ck_l402_challenge_count_challenges")),
    )


def downgrade() -> None:
    """Drop them, and with them every record of what was sold."""
    for table in ("challenge_count", "revocation", "payment", "credential"):
        op.drop_table(f"l402_{table}")
