"""What routing has learnt and been told, in the record store, where every worker and every command finds it.

A document a public model, changed in transactions, so that two workers' counts add up and one of them decides; each
change gets the next sequence number, by which the others see it. What was done to routing, by whom and why, is kept
in a log that is only appended to.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.records.sqlite import connect


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
    """Over the file that the call log has opened and migrated. Blocking; one connection a call, so any thread may."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def since(self, sequence: int) -> tuple[int, dict[str, bytes]]:
        """The documents that were changed after `sequence`, and the newest number. Raises sqlite3.Error."""
        connection = connect(self._path)
        try:
            rows = connection.execute("SELECT model, sequence, document FROM routing WHERE sequence > ?", (sequence,))
            found = rows.fetchall()
        finally:
            connection.close()
        return max([sequence, *(row[1] for row in found)]), {row[0]: row[2] for row in found}

    def change(self, model: str, change: Change) -> bytes:
        """Replace a model's document by what `change` makes of it; the new one. Raises sqlite3.Error."""
        connection = connect(self._path)
        try:
            with connection:
                connection.execute("BEGIN IMMEDIATE")
                row = connection.execute("SELECT document FROM routing WHERE model = ?", (model,)).fetchone()
                document, events = change(row[0] if row else None)
                connection.execute(
                    "INSERT INTO routing VALUES (?, (SELECT COALESCE(MAX(sequence), 0) + 1 FROM routing), ?) "
                    "ON CONFLICT (model) DO UPDATE SET sequence = excluded.sequence, document = excluded.document",
                    (model, document),
                )
                connection.executemany(
                    "INSERT INTO routing_events (at, model, actor, action, reason, before, after) VALUES (?, ?, ?, ?, ?, ?, ?)",
                    [(time.time_ns(), e.model, e.actor, e.action, e.reason, e.before, e.after) for e in events],
                )
        finally:
            connection.close()
        return document

    def events(self, model: str | None = None, limit: int = 100) -> list[dict[str, Any]]:
        """The newest events first; `at` in seconds since the epoch."""
        connection = connect(self._path)
        try:
            rows = connection.execute(
                "SELECT at, model, actor, action, reason, before, after FROM routing_events "
                "WHERE ?1 IS NULL OR model = ?1 ORDER BY id DESC LIMIT ?2",
                (model, limit),
            ).fetchall()
        finally:
            connection.close()
        names = ("at", "model", "actor", "action", "reason", "before", "after")
        return [dict(zip(names, (row[0] / 1e9, *row[1:]), strict=True)) for row in rows]
