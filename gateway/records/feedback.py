"""What people thought of an answer, by call."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import select

from gateway.records.database import Database
from gateway.records.schema import feedback as table


@dataclass(frozen=True, slots=True)
class Feedback:
    """`score` from 0, useless, to 1, just right; `correction` is what should have been answered."""

    call_id: str
    tenant: str
    user: str | None = None
    score: float | None = None
    label: str | None = None
    comment: str | None = None
    correction: str | None = None


class FeedbackStore:
    """Over a prepared database. Blocking; any thread may. Raises StoreUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, feedback: Feedback) -> None:
        with self._database.writing() as connection:
            connection.execute(table.insert().values(at=time.time_ns(), **asdict(feedback)))

    def rated(self, call_ids: Collection[str]) -> set[str]:
        """Which of these calls have been given a score."""
        ids = list(call_ids)
        found: set[str] = set()
        with self._database.reading() as connection:
            for begin in range(0, len(ids), 500):
                some = table.c.call_id.in_(ids[begin : begin + 500])
                found.update(
                    connection.scalars(select(table.c.call_id).distinct().where(some, table.c.score.is_not(None)))
                )
        return found

    def of(self, call_id: str, tenant: str) -> list[dict[str, Any]]:
        """All that was said of one call of a tenant, oldest first; `at` in seconds since the epoch."""
        columns = table.c["at", "user", "score", "label", "comment", "correction"]
        query = select(*columns).where(table.c.tenant == tenant, table.c.call_id == call_id).order_by(table.c.id)
        with self._database.reading() as connection:
            return [{**row, "at": row["at"] / 1e9} for row in connection.execute(query).mappings()]
