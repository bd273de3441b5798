"""Files and vector stores: what is known of them, in SQLite; the files' bytes lie beside it.

Every read and write names the tenant, and what is one user's own names that user too: what somebody may not see is not
there for them.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Status = Literal["in_progress", "completed", "failed", "cancelled"]
Attributes = dict[str, str | float | bool]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS files (
    id TEXT PRIMARY KEY, tenant TEXT NOT NULL, owner TEXT, filename TEXT NOT NULL, bytes INTEGER NOT NULL,
    purpose TEXT NOT NULL, created_at INTEGER NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS vector_stores (
    id TEXT PRIMARY KEY, tenant TEXT NOT NULL, owner TEXT, name TEXT, metadata TEXT NOT NULL,
    created_at INTEGER NOT NULL, last_active_at INTEGER NOT NULL, expires_days INTEGER) STRICT;
CREATE TABLE IF NOT EXISTS vector_store_files (
    store_id TEXT NOT NULL REFERENCES vector_stores (id) ON DELETE CASCADE, file_id TEXT NOT NULL,
    status TEXT NOT NULL, attributes TEXT NOT NULL, created_at INTEGER NOT NULL, usage_bytes INTEGER NOT NULL,
    error_code TEXT, error TEXT, batch_id TEXT, PRIMARY KEY (store_id, file_id)) STRICT;
CREATE TABLE IF NOT EXISTS file_batches (
    id TEXT PRIMARY KEY, store_id TEXT NOT NULL REFERENCES vector_stores (id) ON DELETE CASCADE,
    created_at INTEGER NOT NULL, cancelled INTEGER NOT NULL) STRICT;
CREATE INDEX IF NOT EXISTS files_by_tenant ON files (tenant, created_at);
CREATE INDEX IF NOT EXISTS stores_by_tenant ON vector_stores (tenant, created_at);
CREATE INDEX IF NOT EXISTS store_files_by_status ON vector_store_files (status);
CREATE INDEX IF NOT EXISTS store_files_by_file ON vector_store_files (file_id);
"""
_VISIBLE = "tenant = :tenant AND (owner IS NULL OR owner = :user)"


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose rows: a tenant's, and of those with an owner this user's only."""

    tenant: str
    user: str | None


@dataclass(frozen=True, slots=True)
class StoredFile:
    id: str
    tenant: str
    owner: str | None
    filename: str
    bytes: int
    purpose: str
    created_at: int


@dataclass(frozen=True, slots=True)
class VectorStore:
    """`expires_days` counts from the last use; None is for ever."""

    id: str
    tenant: str
    owner: str | None
    name: str | None
    metadata: dict[str, str]
    created_at: int
    last_active_at: int
    expires_days: int | None

    @property
    def expires_at(self) -> int | None:
        return None if self.expires_days is None else self.last_active_at + self.expires_days * 86_400

    @property
    def expired(self) -> bool:
        return self.expires_at is not None and self.expires_at < time.time()


@dataclass(frozen=True, slots=True)
class StoreFile:
    """A file in a vector store, and how far its indexing is."""

    store_id: str
    file_id: str
    status: Status
    attributes: Attributes
    created_at: int
    usage_bytes: int
    error_code: str | None
    error: str | None
    batch_id: str | None


@dataclass(frozen=True, slots=True)
class Batch:
    id: str
    store_id: str
    created_at: int
    cancelled: bool


class FileRecords:
    """Over `folder`/files.db and `folder`/files. Blocking; any thread may. Raises sqlite3.Error, OSError."""

    def __init__(self, folder: Path) -> None:
        self.contents = folder / "files"
        self.contents.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = threading.Lock()
        self._connection = sqlite3.connect(folder / "files.db", check_same_thread=False, timeout=10)
        self._connection.row_factory = sqlite3.Row
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA foreign_keys = ON")
        self._connection.executescript(_SCHEMA)

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    def content(self, file_id: str) -> Path:
        """Where a file's bytes lie: an id is ours, and never a path."""
        return self.contents / file_id

    # --- files ------------------------------------------------------------------------------------------
    def add_file(self, whose: Owner, file_id: str, filename: str, size: int, purpose: str) -> StoredFile:
        made = StoredFile(file_id, whose.tenant, whose.user, filename, size, purpose, int(time.time()))
        with self._writing() as db:
            db.execute(
                "INSERT INTO files VALUES (?, ?, ?, ?, ?, ?, ?)",
                (made.id, made.tenant, made.owner, made.filename, made.bytes, made.purpose, made.created_at),
            )
        return made

    def set_purpose(self, file_id: str, purpose: str) -> None:
        with self._writing() as db:
            db.execute("UPDATE files SET purpose = ? WHERE id = ?", (purpose, file_id))

    def file(self, whose: Owner, file_id: str) -> StoredFile | None:
        rows = self._rows(f"SELECT * FROM files WHERE id = :id AND {_VISIBLE}", whose, id=file_id)
        return StoredFile(**rows[0]) if rows else None

    def files(self, whose: Owner, purpose: str | None) -> list[StoredFile]:
        where = f"{_VISIBLE} AND (:purpose IS NULL OR purpose = :purpose)"
        rows = self._rows(f"SELECT * FROM files WHERE {where} ORDER BY created_at, rowid", whose, purpose=purpose)
        return [StoredFile(**row) for row in rows]

    def stores_of(self, file_id: str) -> list[str]:
        rows = self._rows("SELECT store_id FROM vector_store_files WHERE file_id = :file_id", file_id=file_id)
        return [row["store_id"] for row in rows]

    def drop_file(self, file_id: str) -> list[str]:
        """Forget a file; the ids of the stores that it was in are given back."""
        with self._writing() as db:
            found = db.execute("SELECT store_id FROM vector_store_files WHERE file_id = ?", (file_id,)).fetchall()
            db.execute("DELETE FROM vector_store_files WHERE file_id = ?", (file_id,))
            db.execute("DELETE FROM files WHERE id = ?", (file_id,))
        self.content(file_id).unlink(missing_ok=True)
        return [row["store_id"] for row in found]

    # --- vector stores ----------------------------------------------------------------------------------
    def add_store(
        self, whose: Owner, name: str | None, metadata: dict[str, str], expires_days: int | None
    ) -> VectorStore:
        now = int(time.time())
        made = VectorStore(new_id("vs_"), whose.tenant, whose.user, name, metadata, now, now, expires_days)
        with self._writing() as db:
            db.execute(
                "INSERT INTO vector_stores VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (made.id, made.tenant, made.owner, name, json.dumps(metadata), now, now, expires_days),
            )
        return made

    def store(self, whose: Owner, store_id: str) -> VectorStore | None:
        rows = self._rows(f"SELECT * FROM vector_stores WHERE id = :id AND {_VISIBLE}", whose, id=store_id)
        return _store(rows[0]) if rows else None

    def stores(self, whose: Owner) -> list[VectorStore]:
        rows = self._rows(f"SELECT * FROM vector_stores WHERE {_VISIBLE} ORDER BY created_at, rowid", whose)
        return [_store(row) for row in rows]

    def change_store(self, store: VectorStore) -> None:
        with self._writing() as db:
            db.execute(
                "UPDATE vector_stores SET name = ?, metadata = ?, expires_days = ? WHERE id = ?",
                (store.name, json.dumps(store.metadata), store.expires_days, store.id),
            )

    def used(self, store_id: str) -> None:
        with self._writing() as db:
            db.execute("UPDATE vector_stores SET last_active_at = ? WHERE id = ?", (int(time.time()), store_id))

    def drop_store(self, store_id: str) -> None:
        with self._writing() as db:
            db.execute("DELETE FROM vector_stores WHERE id = ?", (store_id,))

    # --- files in vector stores -------------------------------------------------------------------------
    def attach(self, store_id: str, files: Sequence[tuple[str, Attributes]], batch_id: str | None = None) -> None:
        """Have these files indexed; one that is there already is indexed anew."""
        now = int(time.time())
        rows = [(store_id, file_id, json.dumps(attributes), now, batch_id) for file_id, attributes in files]
        with self._writing() as db:
            db.executemany(
                "INSERT OR REPLACE INTO vector_store_files (store_id, file_id, status, attributes, created_at, "
                "usage_bytes, batch_id) VALUES (?, ?, 'in_progress', ?, ?, 0, ?)",
                rows,
            )

    def store_file(self, store_id: str, file_id: str) -> StoreFile | None:
        where = "store_id = :store_id AND file_id = :file_id"
        rows = self._rows(f"SELECT * FROM vector_store_files WHERE {where}", store_id=store_id, file_id=file_id)
        return _store_file(rows[0]) if rows else None

    def store_files(self, store_id: str, batch_id: str | None = None) -> list[StoreFile]:
        where = "store_id = :store_id AND (:batch_id IS NULL OR batch_id = :batch_id)"
        rows = self._rows(
            f"SELECT * FROM vector_store_files WHERE {where} ORDER BY created_at, rowid",
            store_id=store_id,
            batch_id=batch_id,
        )
        return [_store_file(row) for row in rows]

    def waiting(self) -> list[StoreFile]:
        """Files whose indexing has not ended, oldest first: all that a restart has to go on with."""
        query = "SELECT * FROM vector_store_files WHERE status = 'in_progress' ORDER BY created_at, rowid"
        return [_store_file(row) for row in self._rows(query)]

    def indexed_file(self, store_id: str, file_id: str) -> tuple[StoredFile, str | None] | None:
        """The file that was attached to a store, whoever did it, and the store's owner: for the indexing alone."""
        rows = self._rows(
            "SELECT files.*, vector_stores.owner AS store_owner FROM files JOIN vector_store_files ON file_id = files.id "
            "JOIN vector_stores ON vector_stores.id = store_id WHERE files.id = :id AND store_id = :store_id",
            id=file_id,
            store_id=store_id,
        )
        if not rows:
            return None
        store_owner = rows[0].pop("store_owner")
        return StoredFile(**rows[0]), store_owner

    def settle(
        self, store_id: str, file_id: str, status: Status, usage: int = 0, error: tuple[str, str] | None = None
    ) -> bool:
        """End a file's indexing. False where it was detached or cancelled meanwhile."""
        code, message = error or (None, None)
        with self._writing() as db:
            done = db.execute(
                "UPDATE vector_store_files SET status = ?, usage_bytes = ?, error_code = ?, error = ? "
                "WHERE store_id = ? AND file_id = ? AND status = 'in_progress'",
                (status, usage, code, message, store_id, file_id),
            )
        return done.rowcount == 1

    def change_attributes(self, store_id: str, file_id: str, attributes: Attributes) -> None:
        with self._writing() as db:
            db.execute(
                "UPDATE vector_store_files SET attributes = ?, status = 'in_progress' "
                "WHERE store_id = ? AND file_id = ?",
                (json.dumps(attributes), store_id, file_id),
            )

    def detach(self, store_id: str, file_id: str) -> None:
        with self._writing() as db:
            db.execute("DELETE FROM vector_store_files WHERE store_id = ? AND file_id = ?", (store_id, file_id))

    # --- batches ----------------------------------------------------------------------------------------
    def add_batch(self, store_id: str, files: Sequence[tuple[str, Attributes]]) -> Batch:
        made = Batch(new_id("vsfb_"), store_id, int(time.time()), False)
        with self._writing() as db:
            db.execute("INSERT INTO file_batches VALUES (?, ?, ?, 0)", (made.id, store_id, made.created_at))
        self.attach(store_id, files, made.id)
        return made

    def batch(self, store_id: str, batch_id: str) -> Batch | None:
        where = "id = :id AND store_id = :store_id"
        rows = self._rows(f"SELECT * FROM file_batches WHERE {where}", id=batch_id, store_id=store_id)
        return (
            Batch(rows[0]["id"], rows[0]["store_id"], rows[0]["created_at"], bool(rows[0]["cancelled"]))
            if rows
            else None
        )

    def cancel_batch(self, batch_id: str) -> None:
        with self._writing() as db:
            db.execute("UPDATE file_batches SET cancelled = 1 WHERE id = ?", (batch_id,))
            db.execute(
                "UPDATE vector_store_files SET status = 'cancelled' WHERE batch_id = ? AND status = 'in_progress'",
                (batch_id,),
            )

    @contextlib.contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._connection:
            yield self._connection

    def _rows(self, query: str, whose: Owner | None = None, **values: Any) -> list[dict[str, Any]]:
        if whose is not None:
            values |= {"tenant": whose.tenant, "user": whose.user}
        with self._lock:
            return [dict(row) for row in self._connection.execute(query, values)]


def file_of(document_id: str) -> str | None:
    """The file behind a passage's document of a vector store, STORE/FILE; None for any other document."""
    store, slash, file_id = document_id.partition("/")
    return file_id if slash and store.startswith("vs_") and file_id.startswith("file-") else None


def new_id(prefix: str) -> str:
    """Ids are unguessable, though knowing one opens nothing by itself."""
    return prefix + secrets.token_hex(16)


def _store(row: dict[str, Any]) -> VectorStore:
    return VectorStore(**{**row, "metadata": json.loads(row["metadata"])})


def _store_file(row: dict[str, Any]) -> StoreFile:
    return StoreFile(**{**row, "attributes": json.loads(row["attributes"])})
