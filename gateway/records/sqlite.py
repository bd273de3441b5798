"""The call log in SQLite: WAL, one writer, forward-only migrations by `user_version`."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gateway.records.calls import COLUMNS, told

_MIGRATIONS = (
    """
    CREATE TABLE calls (
        call_id TEXT PRIMARY KEY, request_id TEXT NOT NULL, answer_id TEXT, tenant TEXT NOT NULL,
        key_name TEXT NOT NULL, user TEXT, endpoint TEXT NOT NULL, requested_model TEXT, model TEXT, target TEXT,
        served_model TEXT, started_at INTEGER NOT NULL, status INTEGER NOT NULL, outcome TEXT NOT NULL,
        error_code TEXT, prompt_tokens INTEGER, completion_tokens INTEGER, cached_tokens INTEGER,
        reasoning_tokens INTEGER, usage_estimated INTEGER, cache TEXT NOT NULL, finish_reason TEXT,
        duration_us INTEGER NOT NULL, first_chunk_us INTEGER, trace_id TEXT NOT NULL, revision TEXT NOT NULL,
        detail BLOB NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX calls_by_time ON calls (tenant, started_at);
    CREATE INDEX calls_by_answer ON calls (answer_id) WHERE answer_id IS NOT NULL;
    CREATE INDEX calls_by_request ON calls (request_id) WHERE request_id != call_id;
    """,
    """
    CREATE TABLE routing (model TEXT PRIMARY KEY, sequence INTEGER NOT NULL, document BLOB NOT NULL) WITHOUT ROWID;
    CREATE INDEX routing_by_sequence ON routing (sequence);
    CREATE TABLE routing_events (
        id INTEGER PRIMARY KEY AUTOINCREMENT, at INTEGER NOT NULL, model TEXT NOT NULL, actor TEXT NOT NULL,
        action TEXT NOT NULL, reason TEXT NOT NULL, before TEXT NOT NULL, after TEXT NOT NULL
    );
    CREATE TABLE feedback (
        id INTEGER PRIMARY KEY AUTOINCREMENT, at INTEGER NOT NULL, call_id TEXT NOT NULL, tenant TEXT NOT NULL,
        user TEXT, score REAL, label TEXT, comment TEXT, correction TEXT
    );
    CREATE INDEX feedback_by_call ON feedback (call_id);
    CREATE INDEX calls_by_model ON calls (model, started_at);
    """,
    """
    CREATE TABLE responses (
        id TEXT PRIMARY KEY, tenant TEXT NOT NULL, user TEXT, previous_id TEXT, expires_at REAL NOT NULL,
        input BLOB NOT NULL, response BLOB NOT NULL
    );
    CREATE INDEX responses_by_expiry ON responses (expires_at);
    """,
    """
    CREATE TABLE pseudonyms (conversation BLOB PRIMARY KEY, expires_at REAL NOT NULL, sealed BLOB NOT NULL);
    CREATE INDEX pseudonyms_by_expiry ON pseudonyms (expires_at);
    """,
)
_INSERT = f"INSERT INTO calls ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))}) ON CONFLICT DO NOTHING"
_FIND = f"""
    SELECT {", ".join(COLUMNS)} FROM calls
    WHERE +tenant = :tenant AND (call_id = :id OR answer_id = :id OR (request_id = :id AND request_id != call_id))
    ORDER BY +started_at DESC LIMIT 1
"""  # the plus signs keep the planner from walking the tenant's calls instead of the three ids' indexes


class SqliteCalls:
    """The file at `path`. `write` belongs to one thread; `find` may be called from any."""

    def __init__(self, path: Path) -> None:
        """Open and migrate. Raises sqlite3.Error or OSError."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._writer = connect(path)
        with self._writer as writer:
            writer.execute("BEGIN IMMEDIATE")  # two first starts at once take turns
            version = writer.execute("PRAGMA user_version").fetchone()[0]
            if version > len(_MIGRATIONS):
                raise sqlite3.DatabaseError(f"{path} was written by a newer version of rag-gateway")
            for script in _MIGRATIONS[version:]:
                for statement in script.split(";"):
                    writer.execute(statement)
            writer.execute(f"PRAGMA user_version = {len(_MIGRATIONS)}")

    def write(self, rows: Sequence[tuple[Any, ...]]) -> None:
        """All of `rows` or none. A row that is already there stays as it is. Raises sqlite3.Error."""
        with self._writer:
            self._writer.executemany(_INSERT, rows)

    def find(self, call_id: str, tenant: str) -> dict[str, Any] | None:
        """The tenant's newest call that `call_id` names: by its id, its answer's id or its request id."""
        connection = connect(self._path)
        try:
            found = connection.execute(_FIND, {"id": call_id, "tenant": tenant}).fetchone()
        finally:
            connection.close()
        return told(dict(zip(COLUMNS, found, strict=True))) if found else None

    def close(self) -> None:
        self._writer.close()


def connect(path: Path) -> sqlite3.Connection:
    """A connection of this house's kind. Raises sqlite3.Error."""
    # WAL with synchronous=NORMAL survives the process's death whole; the machine's may cost the last commits.
    connection = sqlite3.connect(path, timeout=5.0, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    return connection
