"""Responses that a later call may continue, each with what was asked, until they expire."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from gateway.records.sqlite import connect

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode
_VISIBLE = "tenant = :tenant AND (user IS NULL OR user = :user) AND expires_at > :now"
_CHAIN = f"""
    WITH RECURSIVE chain (id, depth) AS (
        SELECT id, 0 FROM responses WHERE id = :id AND {_VISIBLE}
        UNION ALL
        SELECT responses.previous_id, depth + 1 FROM responses JOIN chain USING (id)
        WHERE responses.previous_id IS NOT NULL AND depth < 10000
    )
"""


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """`input` are the items that came with this call alone, `response` is the document as it was told."""

    id: str
    previous_id: str | None
    input: Sequence[dict[str, Any]]
    response: dict[str, Any]


class ResponseStore:
    """Over the file that the call log has opened and migrated. Blocking; any thread may. Raises sqlite3.Error.

    A user's own are seen by that user only; what came without a user is the whole tenant's.
    """

    def __init__(self, path: Path, keep: float) -> None:
        """`keep`: seconds from a response's making, or from the last call that continued it."""
        self._path = path
        self._keep = keep

    def add(self, stored: StoredResponse, tenant: str, user: str | None) -> None:
        """Keep it, and all that it continues for as long again; what has expired goes."""
        now = time.time()
        until = now + self._keep
        with _written(self._path) as connection:
            connection.execute(
                "INSERT INTO responses VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    stored.id, tenant, user, stored.previous_id, until, _encode(stored.input),
                    _encode(stored.response),
                ),
            )  # fmt: skip
            connection.execute(
                f"{_CHAIN} UPDATE responses SET expires_at = :until WHERE id IN (SELECT id FROM chain)",
                {"id": stored.id, "tenant": tenant, "user": user, "now": now, "until": until},
            )
            connection.execute("DELETE FROM responses WHERE expires_at <= ?", (now,))

    def find(self, response_id: str, tenant: str, user: str | None) -> StoredResponse | None:
        return next(iter(self._chain(response_id, tenant, user, "AND depth = 0")), None)

    def conversation(self, response_id: str, tenant: str, user: str | None) -> list[StoredResponse]:
        """This response and all that it continues, oldest first; empty where any of it is not there for this user."""
        found = self._chain(response_id, tenant, user, "")
        return found if found and found[0].previous_id is None else []

    def remove(self, response_id: str, tenant: str, user: str | None) -> bool:
        """Whether it was there."""
        with _written(self._path) as connection:
            asked = {"id": response_id, "tenant": tenant, "user": user, "now": time.time()}
            gone = connection.execute(f"DELETE FROM responses WHERE id = :id AND {_VISIBLE}", asked)
            return gone.rowcount == 1

    def _chain(self, response_id: str, tenant: str, user: str | None, only: str) -> list[StoredResponse]:
        connection = connect(self._path)
        try:
            rows = connection.execute(
                f"{_CHAIN} SELECT id, previous_id, input, response FROM responses JOIN chain USING (id) "
                f"WHERE {_VISIBLE} {only} ORDER BY depth DESC",
                {"id": response_id, "tenant": tenant, "user": user, "now": time.time()},
            ).fetchall()
        finally:
            connection.close()
        return [StoredResponse(row[0], row[1], _decode(row[2]), _decode(row[3])) for row in rows]


@contextmanager
def _written(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection in one transaction, closed afterwards."""
    connection = connect(path)
    try:
        with connection:
            yield connection
    finally:
        connection.close()
