"""Responses that a later call may continue, each with what was asked, until they expire."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import bindparam, delete, text
from sqlalchemy.types import Text

from gateway.records.contents import Contents
from gateway.records.database import Database
from gateway.records.schema import responses as table

_VISIBLE = 'tenant = :tenant AND ("user" IS NULL OR "user" = :user) AND expires_at > :now'
_CHAIN = f"""
    WITH RECURSIVE chain (id, depth) AS (
        SELECT id, 0 FROM responses WHERE id = :id AND {_VISIBLE}
        UNION ALL
        SELECT responses.previous_id, depth + 1 FROM responses JOIN chain ON responses.id = chain.id
        WHERE responses.previous_id IS NOT NULL AND depth < 10000
    )
"""
_USER = bindparam("user", type_=Text)  # it may be NULL, of which PostgreSQL can't tell the type
_KEEP = text(f"{_CHAIN} UPDATE responses SET expires_at = :until WHERE id IN (SELECT id FROM chain)").bindparams(_USER)
_REMOVE = text(f"DELETE FROM responses WHERE id = :id AND {_VISIBLE}").bindparams(_USER)
_READ = text(
    f"{_CHAIN} SELECT responses.id, previous_id, input, response FROM responses "
    f"JOIN chain ON responses.id = chain.id WHERE {_VISIBLE} AND depth <= :deepest ORDER BY depth DESC"
).bindparams(_USER)


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """`input` are the items that came with this call alone, `response` is the document as it was told."""

    id: str
    previous_id: str | None
    input: Sequence[dict[str, Any]]
    response: dict[str, Any]


class ResponseStore:
    """Over a prepared database. Blocking; any thread may. Raises StoreUnavailable.

    A user's own are seen by that user only; what came without a user is the whole tenant's.
    """

    def __init__(self, database: Database, keep: float, contents: Contents | None = None) -> None:
        """`keep`: seconds from a response's making, or from the last call that continued it."""
        self._database = database
        self._keep = keep
        self._contents = contents or Contents()

    def add(self, stored: StoredResponse, tenant: str, user: str | None) -> None:
        """Keep it, and all that it continues for as long again; what has expired goes."""
        now = time.time()
        until = now + self._keep
        with self._database.writing() as connection:
            connection.execute(
                table.insert().values(
                    id=stored.id,
                    tenant=tenant,
                    user=user,
                    previous_id=stored.previous_id,
                    expires_at=until,
                    input=self._contents.written(stored.input, f"input:{stored.id}"),
                    response=self._contents.written(stored.response, f"response:{stored.id}"),
                )
            )
            connection.execute(_KEEP, {"id": stored.id, "tenant": tenant, "user": user, "now": now, "until": until})
            connection.execute(delete(table).where(table.c.expires_at <= now))

    def find(self, response_id: str, tenant: str, user: str | None) -> StoredResponse | None:
        return next(iter(self._chain(response_id, tenant, user, 0)), None)

    def conversation(self, response_id: str, tenant: str, user: str | None) -> list[StoredResponse]:
        """This response and all that it continues, oldest first; empty where any of it is not there for this user."""
        found = self._chain(response_id, tenant, user, 10_000)
        return found if found and found[0].previous_id is None else []

    def remove(self, response_id: str, tenant: str, user: str | None) -> bool:
        """Whether it was there."""
        with self._database.writing() as connection:
            asked = {"id": response_id, "tenant": tenant, "user": user, "now": time.time()}
            return connection.execute(_REMOVE, asked).rowcount == 1

    def _chain(self, response_id: str, tenant: str, user: str | None, deepest: int) -> list[StoredResponse]:
        asked = {"id": response_id, "tenant": tenant, "user": user, "now": time.time(), "deepest": deepest}
        with self._database.reading() as connection:
            rows = connection.execute(_READ, asked).all()
        read = self._contents.read
        found = [
            StoredResponse(row[0], row[1], read(row[2], f"input:{row[0]}"), read(row[3], f"response:{row[0]}"))
            for row in rows
        ]
        return found if all(stored.response is not None for stored in found) else []
