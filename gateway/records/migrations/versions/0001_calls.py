"""Calls, routing, feedback, responses, pseudonyms.

A SQLite file from before versions were kept here has some of these tables already, as they are here: what is missing is
added.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_COUNTED = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    there = set(sa.inspect(op.get_bind()).get_table_names())
    if "calls" not in there:
        _calls()
    if "routing" not in there:
        _routing()
    if "responses" not in there:
        op.create_table(
            "responses",
            sa.Column("id", sa.Text, primary_key=True),
            sa.Column("tenant", sa.Text, nullable=False),
            sa.Column("user", sa.Text),
            sa.Column("previous_id", sa.Text),
            sa.Column("expires_at", sa.Float, nullable=False),
            sa.Column("input", sa.LargeBinary, nullable=False),
            sa.Column("response", sa.LargeBinary, nullable=False),
        )
        op.create_index("responses_by_expiry", "responses", ["expires_at"])
    if "pseudonyms" not in there:
        op.create_table(
            "pseudonyms",
            sa.Column("conversation", sa.LargeBinary, primary_key=True),
            sa.Column("expires_at", sa.Float, nullable=False),
            sa.Column("sealed", sa.LargeBinary, nullable=False),
        )
        op.create_index("pseudonyms_by_expiry", "pseudonyms", ["expires_at"])


def _calls() -> None:
    op.create_table(
        "calls",
        sa.Column("call_id", sa.Text, primary_key=True),
        sa.Column("request_id", sa.Text, nullable=False),
        sa.Column("answer_id", sa.Text),
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("key_name", sa.Text, nullable=False),
        sa.Column("user", sa.Text),
        sa.Column("endpoint", sa.Text, nullable=False),
        sa.Column("requested_model", sa.Text),
        sa.Column("model", sa.Text),
        sa.Column("target", sa.Text),
        sa.Column("served_model", sa.Text),
        sa.Column("started_at", sa.BigInteger, nullable=False),
        sa.Column("status", sa.Integer, nullable=False),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("error_code", sa.Text),
        sa.Column("prompt_tokens", sa.BigInteger),
        sa.Column("completion_tokens", sa.BigInteger),
        sa.Column("cached_tokens", sa.BigInteger),
        sa.Column("reasoning_tokens", sa.BigInteger),
        sa.Column("usage_estimated", sa.Integer),
        sa.Column("cache", sa.Text, nullable=False),
        sa.Column("finish_reason", sa.Text),
        sa.Column("duration_us", sa.BigInteger, nullable=False),
        sa.Column("first_chunk_us", sa.BigInteger),
        sa.Column("trace_id", sa.Text, nullable=False),
        sa.Column("revision", sa.Text, nullable=False),
        sa.Column("detail", sa.LargeBinary, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("calls_by_time", "calls", ["tenant", "started_at"])
    for name, column, where in (
        ("calls_by_answer", "answer_id", sa.text("answer_id IS NOT NULL")),
        ("calls_by_request", "request_id", sa.text("request_id != call_id")),
    ):
        op.create_index(name, "calls", [column], sqlite_where=where, postgresql_where=where)


def _routing() -> None:
    op.create_table(
        "routing",
        sa.Column("model", sa.Text, primary_key=True),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("document", sa.LargeBinary, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("routing_by_sequence", "routing", ["sequence"])
    op.create_table(
        "routing_events",
        sa.Column("id", _COUNTED, primary_key=True, autoincrement=True),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("before", sa.Text, nullable=False),
        sa.Column("after", sa.Text, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "feedback",
        sa.Column("id", _COUNTED, primary_key=True, autoincrement=True),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("call_id", sa.Text, nullable=False),
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("user", sa.Text),
        sa.Column("score", sa.Float),
        sa.Column("label", sa.Text),
        sa.Column("comment", sa.Text),
        sa.Column("correction", sa.Text),
        sqlite_autoincrement=True,
    )
    op.create_index("feedback_by_call", "feedback", ["call_id"])
    op.create_index("calls_by_model", "calls", ["model", "started_at"])
