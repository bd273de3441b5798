"""How far each spool is in the store, what is spent, and what a call cost as columns of its own."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "spool_cursors",
        sa.Column("spool_id", sa.Text, primary_key=True),
        sa.Column("sequence", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "spend",
        sa.Column("subject", sa.Text, primary_key=True),
        sa.Column("period", sa.Text, primary_key=True),
        sa.Column("usd", sa.Double, nullable=False),
        sa.Column("calls", sa.BigInteger, nullable=False),
        sa.Column("tokens", sa.BigInteger, nullable=False),
    )
    op.add_column("calls", sa.Column("cost", sa.Double))
    op.add_column("calls", sa.Column("sensitivity", sa.Text))
    op.add_column("calls", sa.Column("key_id", sa.Text))
