"""Every table of the record store. What changes here needs a version in `migrations/versions`, VERSION, and its snapshot:
`python -m gateway.records.migrations.snapshot`.

Times are nanoseconds since the epoch where a column is an integer, seconds where it is a float.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    text,
)

VERSION = "0010"
"""The newest version in `migrations/versions`, which this program reads and writes."""

# Indexes have the same conditions on PostgreSQL; saying so here would load its whole dialect at every start.
metadata = MetaData()

# SQLite counts up an INTEGER only.
_COUNTED = BigInteger().with_variant(Integer, "sqlite")

calls = Table(
    "calls",
    metadata,
    Column("call_id", Text, primary_key=True),
    Column("request_id", Text, nullable=False),
    Column("answer_id", Text),
    Column("tenant", Text, nullable=False),
    Column("key_name", Text, nullable=False),
    Column("user", Text),
    Column("endpoint", Text, nullable=False),
    Column("requested_model", Text),
    Column("model", Text),
    Column("target", Text),
    Column("served_model", Text),
    Column("started_at", BigInteger, nullable=False),
    Column("status", Integer, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("error_code", Text),
    Column("prompt_tokens", BigInteger),
    Column("completion_tokens", BigInteger),
    Column("cached_tokens", BigInteger),
    Column("reasoning_tokens", BigInteger),
    Column("usage_estimated", Integer),
    Column("cache", Text, nullable=False),
    Column("finish_reason", Text),
    Column("duration_us", BigInteger, nullable=False),
    Column("first_chunk_us", BigInteger),
    Column("trace_id", Text, nullable=False),
    Column("revision", Text, nullable=False),
    Column("detail", LargeBinary, nullable=False),
    Column("cost", Double),
    Column("sensitivity", Text),
    Column("key_id", Text),
    Column("content", LargeBinary),
    Index("calls_by_time", "tenant", "started_at"),
    Index(
        "calls_with_content",
        "tenant",
        "started_at",
        sqlite_where=text("content IS NOT NULL"),
    ),
    Index(
        "calls_by_user",
        "tenant",
        "user",
        sqlite_where=text('"user" IS NOT NULL'),
    ),
    Index(
        "calls_by_answer",
        "answer_id",
        sqlite_where=text("answer_id IS NOT NULL"),
    ),
    Index(
        "calls_by_request",
        "request_id",
        sqlite_where=text("request_id != call_id"),
    ),
    sqlite_with_rowid=False,
)

quality = Table(
    "quality",
    metadata,
    Column("call_id", Text, primary_key=True),
    Column("measure", Text, primary_key=True),
    Column("tenant", Text, nullable=False),
    Column("score", Double, nullable=False),
    Column("judged_by", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

routing = Table(
    "routing",
    metadata,
    Column("model", Text, primary_key=True),
    Column("sequence", BigInteger, nullable=False),
    Column("document", LargeBinary, nullable=False),
    Index("routing_by_sequence", "sequence"),
    sqlite_with_rowid=False,
)

routing_events = Table(
    "routing_events",
    metadata,
    Column("id", _COUNTED, primary_key=True, autoincrement=True),
    Column("at", BigInteger, nullable=False),
    Column("model", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("before", Text, nullable=False),
    Column("after", Text, nullable=False),
    sqlite_autoincrement=True,
)

feedback = Table(
    "feedback",
    metadata,
    Column("id", _COUNTED, primary_key=True, autoincrement=True),
    Column("at", BigInteger, nullable=False),
    Column("call_id", Text, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("user", Text),
    Column("score", Float),
    Column("label", Text),
    Column("comment", Text),
    Column("correction", Text),
    Index("feedback_by_call", "call_id"),
    sqlite_autoincrement=True,
)

responses = Table(
    "responses",
    metadata,
    Column("id", Text, primary_key=True),
    Column("tenant", Text, nullable=False),
    Column("user", Text),
    Column("previous_id", Text),
    Column("expires_at", Float, nullable=False),
    Column("input", LargeBinary, nullable=False),
    Column("response", LargeBinary, nullable=False),
    Index("responses_by_expiry", "expires_at"),
)

pseudonyms = Table(
    "pseudonyms",
    metadata,
    Column("conversation", LargeBinary, primary_key=True),
    Column("expires_at", Float, nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    Column("owner", LargeBinary),  # a digest of tenant and user, by which a user's are found; old ones have none
    Index("pseudonyms_by_expiry", "expires_at"),
    Index("pseudonyms_by_owner", "owner"),
)

# What was erased, for whom: a digest that only somebody who names the user can compare.
erasures = Table(
    "erasures",
    metadata,
    Column("id", Text, primary_key=True),
    Column("at", BigInteger, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("receipt", Text, nullable=False),
    Index("erasures_by_time", "tenant", "at"),
)

# How far the store has come with each process's spool: written in the transaction that brings its records.
spool_cursors = Table(
    "spool_cursors",
    metadata,
    Column("spool_id", Text, primary_key=True),
    Column("sequence", BigInteger, nullable=False),
)

# What the lake does not have yet: calls by their ids, feedback, erasures. A row goes with the files that came of it.
lake_queue = Table(
    "lake_queue",
    metadata,
    Column("id", _COUNTED, primary_key=True, autoincrement=True),
    Column("at", BigInteger, nullable=False),
    Column("kind", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
    sqlite_autoincrement=True,
)

# What the lake is made of. `state`: pending before a file is written, live, dead before it is removed.
lake_files = Table(
    "lake_files",
    metadata,
    Column("path", Text, primary_key=True),
    Column("dataset", Text, nullable=False),
    Column("day", Text, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("rows", BigInteger, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("first", BigInteger, nullable=False),  # when its oldest row, and its newest, began
    Column("last", BigInteger, nullable=False),
)

# The row 1: which lake this store fills, which process does so until when (seconds), and how often files of it were
# announced.
lake_lease = Table(
    "lake_lease",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("lake", Text, nullable=False),
    Column("url", Text, nullable=False),
    Column("holder", Text, nullable=False),
    Column("until", Double, nullable=False),
    Column("position", BigInteger, nullable=False, server_default="0"),
)

spend = Table(
    "spend",
    metadata,
    Column("subject", Text, primary_key=True),
    Column("period", Text, primary_key=True),
    Column("usd", Double, nullable=False),
    Column("calls", BigInteger, nullable=False),
    Column("tokens", BigInteger, nullable=False),
)

organisations = Table(
    "organisations",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("created_by", Text, nullable=False),
)

tenants = Table(
    "tenants",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("organisation", Text, ForeignKey("organisations.id")),
    Column("grants", Text, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("suspended_at", Float),
    Column("sequence", BigInteger, nullable=False),
    Index("tenants_by_sequence", "sequence"),
)

keys = Table(
    "keys",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("tenant", Text, nullable=False),  # of `tenants`, of the configuration's keys, or `default`
    Column("grants", Text, nullable=False),
    Column("administers", Boolean, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("expires_at", Float),
    Column("rotated_at", Float),
    Column("revoked_at", Float),
    Column("revoked_by", Text),
    Column("sequence", BigInteger, nullable=False),
    Index("keys_by_sequence", "sequence"),
    Index("keys_by_tenant", "tenant", "id"),
)

key_secrets = Table(
    "key_secrets",
    metadata,
    Column("digest", LargeBinary, primary_key=True),
    Column("key", Text, ForeignKey("keys.id"), nullable=False),
    Column("prefix", Text, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("works_until", Float),
    Index("key_secrets_by_key", "key"),
)

users = Table(
    "users",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("groups", Text, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("suspended_at", Float),
)

prompt_versions = Table(
    "prompt_versions",
    metadata,
    Column("tenant", Text, primary_key=True),  # "" for the gateway's own
    Column("name", Text, primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("source", Text, nullable=False),
    Column("content_hash", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("notes", Text, nullable=False),
    Column("released_at", Double),
    Column("released_by", Text),
    Column("sequence", BigInteger, nullable=False),
    Index("prompt_versions_by_sequence", "sequence"),
)

prompt_labels = Table(
    "prompt_labels",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("label", Text, primary_key=True),
    Column("version", Integer),  # none: it was taken away
    Column("changed_at", Double, nullable=False),
    Column("changed_by", Text, nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Index("prompt_labels_by_sequence", "sequence"),
)

prompt_moves = Table(
    "prompt_moves",
    metadata,
    Column("id", _COUNTED, primary_key=True, autoincrement=True),
    Column("at", BigInteger, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("label", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("before", Integer),
    Column("after", Integer),
    Column("actor", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Index("prompt_moves_by_name", "tenant", "name", "id"),
    sqlite_autoincrement=True,
)

prompt_results = Table(
    "prompt_results",
    metadata,
    Column("id", _COUNTED, primary_key=True, autoincrement=True),
    Column("at", BigInteger, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("content_hash", Text, nullable=False),
    Column("suite", Text, nullable=False),
    Column("passed", Integer, nullable=False),
    Column("failed", Integer, nullable=False),
    Column("detail", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Index("prompt_results_by_version", "tenant", "name", "version", "id"),
    sqlite_autoincrement=True,
)

# In the row 1 is a number, which whoever changes keys, tenants or users counts up, and so holds until the change is in:
# what has a number is seen in the order of these numbers. In the row 2 is the one at which users were changed last.
# In the row 3 is a number of its own, which whoever changes prompt templates counts up in the same way.
access_sequence = Table(
    "access_sequence",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("value", BigInteger, nullable=False),
)

# Append-only: its triggers refuse to change or delete a row.
audit_log = Table(
    "audit_log",
    metadata,
    Column("id", _COUNTED, primary_key=True, autoincrement=True),
    Column("at", BigInteger, nullable=False),
    Column("key_id", Text, nullable=False),
    Column("key_name", Text, nullable=False),
    Column("key_tenant", Text, nullable=False),
    Column("address", Text, nullable=False),
    Column("request_id", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("object", Text, nullable=False),
    Column("tenant", Text),
    Column("outcome", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("before", Text),
    Column("after", Text),
    Index("audit_log_by_tenant", "tenant", "id"),
    Index("audit_log_by_object", "object", "id"),
    sqlite_autoincrement=True,
)
