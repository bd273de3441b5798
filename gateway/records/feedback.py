"""What people thought of an answer, by call."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.records.sqlite import connect


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
    """Over the file that the call log has opened and migrated. Blocking; any thread may."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def add(self, feedback: Feedback) -> None:
        """Raises sqlite3.Error; then nothing is kept."""
        connection = connect(self._path)
        try:
            with connection:
                connection.execute(
                    "INSERT INTO feedback (at, call_id, tenant, user, score, label, comment, correction) "
                    "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    (
                        time.time_ns(), feedback.call_id, feedback.tenant, feedback.user, feedback.score,
                        feedback.label, feedback.comment, feedback.correction,
                    ),
                )  # fmt: skip
        finally:
            connection.close()

    def rated(self, call_ids: Collection[str]) -> set[str]:
        """Which of these calls have been given a score. Raises sqlite3.Error."""
        connection = connect(self._path)
        found: set[str] = set()
        try:
            ids = list(call_ids)
            for begin in range(0, len(ids), 500):
                some = ids[begin : begin + 500]
                marks = ",".join("?" * len(some))
                query = f"SELECT DISTINCT call_id FROM feedback WHERE call_id IN ({marks}) AND score IS NOT NULL"
                found.update(row[0] for row in connection.execute(query, some))
        finally:
            connection.close()
        return found

    def of(self, call_id: str, tenant: str) -> list[dict[str, Any]]:
        """All that was said of one call of a tenant, oldest first."""
        connection = connect(self._path)
        try:
            rows = connection.execute(
                "SELECT at, user, score, label, comment, correction FROM feedback "
                "WHERE tenant = ? AND call_id = ? ORDER BY id",
                (tenant, call_id),
            ).fetchall()
        finally:
            connection.close()
        names = ("at", "user", "score", "label", "comment", "correction")
        return [dict(zip(names, (row[0] / 1e9, *row[1:]), strict=True)) for row in rows]
