"""Calls that stay for as long as a transaction takes, so that nothing is added to one that is just being erased.

Who adds something to a call holds it (`held`); who removes calls takes them first (`take`), and only then what was
added. SQLite's writers take turns anyway; with PostgreSQL the one waits for the other here.
"""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import Connection, Select, func, select

from gateway.records.schema import calls

_AT_ONCE = 500  # ids of one query


def held(connection: Connection, call_ids: Collection[str]) -> set[str]:
    """Which of these calls are stored: they are until the transaction ends."""
    ids = sorted(call_ids)  # in one order, so that no two wait for each other
    found: set[str] = set()
    for begin in range(0, len(ids), _AT_ONCE):
        query = select(calls.c.call_id).where(calls.c.call_id.in_(ids[begin : begin + _AT_ONCE]))
        found.update(connection.scalars(query.order_by(calls.c.call_id).with_for_update(read=True, key_share=True)))
    return found


def take(connection: Connection, chosen: Select[tuple[str]]) -> None:
    """`chosen` are ids of calls, which nobody adds anything to from here on: what was added before can be seen."""
    if connection.dialect.name != "sqlite":
        connection.execute(select(func.count()).select_from(chosen.with_for_update().subquery()))
