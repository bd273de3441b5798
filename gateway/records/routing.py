"""What routing has learnt and been told, in the record store, where every worker and every command finds it.

A document a public model, changed in transactions, so that two workers' counts add up and one of them decides; each
change gets the next sequence number, by which the others see it. What was done to routing, by whom and why, is kept
in a log that is only appended to.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import func, select

from gateway.records.database import Database
from gateway.records.schema import routing, routing_events


@dataclass(frozen=True, slots=True)
class Event:
    """Something that was done to a model's routing. `before` and `after` say it in words, `actor` is a key's name or
    "rollout"."""

    model: str
    actor: str
    action: str
    reason: str
    before: str
    after: str


Change = Callable[[bytes | None], tuple[bytes, Sequence[Event]]]
"""A model's document, None where there is none yet, to the one that takes its place, and what to log of that."""


class RoutingStore:
    """Over a prepared database. Blocking; any thread may. Raises StoreUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def since(self, sequence: int) -> tuple[int, dict[str, bytes]]:
        """The documents that were changed after `sequence`, and the newest number."""
        with self._database.reading() as connection:
            rows = connection.execute(select(routing).where(routing.c.sequence > sequence)).all()
        return max([sequence, *(row.sequence for row in rows)]), {row.model: row.document for row in rows}

    def change(self, model: str, change: Change) -> bytes:
        """Replace a model's document by what `change` makes of it; the new one."""
        with self._database.writing() as connection:
            if not self._database.embedded:
                # One change at a time, as a SQLite file has it: else two could take the same number, and who has
                # read up to it would never see the second.
                connection.exec_driver_sql("LOCK TABLE routing IN SHARE ROW EXCLUSIVE MODE")
            known = connection.scalar(select(routing.c.document).where(routing.c.model == model))
            document, events = change(known)
            number = connection.scalar(select(func.coalesce(func.max(routing.c.sequence), 0) + 1))
            if known is None:
                connection.execute(routing.insert().values(model=model, sequence=number, document=document))
            else:
                changed = routing.update().where(routing.c.model == model)
                connection.execute(changed.values(sequence=number, document=document))
            if events:
                at = time.time_ns()
                connection.execute(routing_events.insert(), [{"at": at, **asdict(event)} for event in events])
        return document

    def events(self, model: str | None = None, limit: int = 100) -> list[dict[str, Any]]:
        """The newest events first; `at` in seconds since the epoch."""
        names = ("at", "model", "actor", "action", "reason", "before", "after")
        query = select(*routing_events.c[names]).order_by(routing_events.c.id.desc()).limit(limit)
        if model is not None:
            query = query.where(routing_events.c.model == model)
        with self._database.reading() as connection:
            return [{**row, "at": row["at"] / 1e9} for row in connection.execute(query).mappings()]
