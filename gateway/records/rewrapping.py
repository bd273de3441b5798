"""After a rotation: all that is kept, under the first of the keys; a page at a time, beside gateways that serve."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Table, select, update

from gateway.records.contents import Contents
from gateway.records.database import Database
from gateway.records.rows import place_of
from gateway.records.schema import calls, pseudonyms, responses
from gateway.records.sealing import Seal

_PAGE = 200


@dataclass(slots=True)
class Rewrapped:
    """How many were brought under the first key, and how many no configured key opens."""

    changed: int = 0
    lost: int = 0


def rewrap(database: Database, seal: Seal) -> Rewrapped:
    """Blocking; safe to break off and to repeat. What was kept in clear is sealed too. Raises StoreUnavailable."""
    contents, told = Contents(seal), Rewrapped()
    _each(database, calls, "call_id", "content", lambda kept, row: contents.rewrapped(kept, place_of(row)), told)
    _each(database, responses, "id", "input", lambda kept, row: contents.rewrapped(kept, f"input:{row}"), told)
    _each(database, responses, "id", "response", lambda kept, row: contents.rewrapped(kept, f"response:{row}"), told)
    _each(database, pseudonyms, "conversation", "sealed", lambda kept, row: _resealed(seal, kept, row), told)
    return told


def _resealed(seal: Seal, kept: bytes, place: bytes) -> bytes | None:
    return kept if seal.is_current(kept, place) else seal.rewrapped(kept, place)


def _each(
    database: Database,
    table: Table,
    key: str,
    column: str,
    rewrapped: Callable[[bytes, Any], bytes | None],
    told: Rewrapped,
) -> None:
    name, kept = table.c[key], table.c[column]
    query = select(name, kept).where(kept.is_not(None)).order_by(name).limit(_PAGE)
    after: Any = None
    while True:
        with database.writing() as connection:
            rows = connection.execute(query if after is None else query.where(name > after)).all()
            for row in rows:
                new = rewrapped(row[1], row[0])
                if new is None:
                    told.lost += 1
                elif new != row[1]:
                    # Unless somebody has written it anew meanwhile, under the first key then.
                    connection.execute(update(table).where(name == row[0], kept == row[1]).values({column: new}))
                    told.changed += 1
        if len(rows) < _PAGE:
            return
        after = rows[-1][0]
