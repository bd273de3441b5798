"""Recorded content in a column of its own, whose each conversation is, and what was erased."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("calls", sa.Column("content", sa.LargeBinary))
    there = sa.text("content IS NOT NULL")
    op.create_index("calls_with_content", "calls", ["tenant", "started_at"], sqlite_where=there, postgresql_where=there)
    known = sa.text('"user" IS NOT NULL')
    op.create_index("calls_by_user", "calls", ["tenant", "user"], sqlite_where=known, postgresql_where=known)
    op.add_column("pseudonyms", sa.Column("owner", sa.LargeBinary))
    op.create_index("pseudonyms_by_owner", "pseudonyms", ["owner"])
    op.create_table(
        "erasures",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("receipt", sa.Text, nullable=False),
    )
    op.create_index("erasures_by_time", "erasures", ["tenant", "at"])
