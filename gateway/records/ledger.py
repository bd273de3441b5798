"""What was spooled, into the store: calls, what they are charged to, and how far the spool has come, in one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from gateway.records.calls import insert as insert_calls
from gateway.records.database import Database
from gateway.records.lake_queue import tell_calls
from gateway.records.rows import COLUMNS
from gateway.records.schema import spool_cursors
from gateway.records.spend import add_spend


class Entry(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One settled call: the values of the spool's columns, and what it adds to whom it is charged to."""

    values: tuple[Any, ...]
    charges: Sequence[tuple[str, str]] = ()
    usd: float = 0.0
    tokens: int = 0


class Ledger:
    """Blocking; any thread may. Two processes that bring the same spool's records never count one twice."""

    def __init__(self, database: Database, *, lake: bool = False) -> None:
        """`lake`: what is kept is told to it."""
        self._database = database
        self._lake = lake

    def apply(self, spool_id: str, columns: Sequence[str], entries: Sequence[tuple[int, Entry]]) -> None:
        """Keep all of `entries`, (number, call) in their order, or none; those kept before are passed over.

        Raises StoreUnavailable, and SQLAlchemy's errors or OverflowError for values that can't be stored.
        """
        with self._database.writing() as connection:
            done = _cursor(connection, spool_id)
            entries = [entry for entry in entries if entry[0] > done]
            if entries:
                rows = _rows(columns, [entry.values for _, entry in entries])
                insert_calls(connection, rows)
                if self._lake:
                    tell_calls(connection, [row[0] for row in rows])
                add_spend(connection, [entry for _, entry in entries])
                through = update(spool_cursors).where(spool_cursors.c.spool_id == spool_id)
                connection.execute(through.values(sequence=entries[-1][0]))

    def forget(self, spool_id: str) -> None:
        """The spool is gone, and nobody will come with its records again. Raises StoreUnavailable."""
        with self._database.writing() as connection:
            connection.execute(delete(spool_cursors).where(spool_cursors.c.spool_id == spool_id))


def _cursor(connection: Connection, spool_id: str) -> int:
    """How far the store has come with a spool. Its row is locked: a transaction that a dead process has left running
    on the server is waited for, and then seen.
    """
    asked = select(spool_cursors.c.sequence).where(spool_cursors.c.spool_id == spool_id).with_for_update()
    done = connection.execute(asked).scalar_one_or_none()
    if done is None:
        try:
            with connection.begin_nested():
                connection.execute(insert(spool_cursors).values(spool_id=spool_id, sequence=0))
        except IntegrityError:  # by that other transaction
            return int(connection.execute(asked).scalar_one())
        return 0
    return int(done)


def _rows(columns: Sequence[str], spooled: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """The values in this program's order; another version's spool may have columns more or less."""
    if tuple(columns) == COLUMNS:
        return spooled
    known = [dict(zip(columns, values, strict=True)) for values in spooled]
    return [tuple(values.get(name) for name in COLUMNS) for values in known]
