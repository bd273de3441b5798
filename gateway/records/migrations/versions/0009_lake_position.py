"""How many changes of the lake's files the record store knows of: so one that is older than the lake's folder is told."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("lake_lease", sa.Column("position", sa.BigInteger, nullable=False, server_default="0"))
