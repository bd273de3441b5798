"""What people thought of an answer, by call."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Connection, func, select

from gateway.records.database import Database
from gateway.records.held import held
from gateway.records.lake_queue import tell_feedback
from gateway.records.schema import feedback as table

_MOST = 20  # things that one user may say of one call


class NoSuchCall(Exception):
    """The call is not recorded, or not any more: nothing may be kept of one that was erased."""


class TooMuchFeedback(Exception):
    """The user has said all of this call that is kept: it is all shown with it, and each may be long."""


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

    def __init__(self, database: Database, *, lake: bool = False) -> None:
        """`lake`: what is kept is told to it."""
        self._database = database
        self._lake = lake

    def add(self, feedback: Feedback) -> bool:
        """Whether it is new: who says the same of the same call again has said nothing more.

        Raises NoSuchCall and TooMuchFeedback.
        """
        values = asdict(feedback)
        same = [table.c.call_id == values["call_id"]]
        same += [table.c[name].is_not_distinct_from(value) for name, value in values.items() if name != "call_id"]
        with self._database.writing() as connection:
            if not held(connection, [feedback.call_id]):
                raise NoSuchCall
            if connection.scalar(select(table.c.id).where(*same).limit(1)) is not None:
                return False
            theirs = (table.c.call_id == feedback.call_id, table.c.user.is_not_distinct_from(feedback.user))
            if (connection.scalar(select(func.count()).select_from(table).where(*theirs)) or 0) >= _MOST:
                raise TooMuchFeedback
            made = connection.execute(table.insert().values(at=time.time_ns(), **values)).inserted_primary_key
            if self._lake and made is not None:
                tell_feedback(connection, made[0])
        return True

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
        with self._database.reading() as connection:
            return feedback_on(connection, call_id, tenant)


def feedback_on(connection: Connection, call_id: str, tenant: str, user: str | None = None) -> list[dict[str, Any]]:
    """All that was said of one call, or all that `user` said of it, oldest first; `at` in seconds since the epoch."""
    columns = table.c["at", "user", "score", "label", "comment", "correction"]
    query = select(*columns).where(table.c.tenant == tenant, table.c.call_id == call_id).order_by(table.c.id)
    if user is not None:
        query = query.where(table.c.user == user)
    return [{**row, "at": row["at"] / 1e9} for row in connection.execute(query).mappings()]
