"""One index of the call log less, which every call paid for: ids begin with their time, and lead to a model's as well."""

from __future__ import annotations

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_index("calls_by_model", "calls")
