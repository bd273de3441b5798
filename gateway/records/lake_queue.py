"""What the lake does not have yet: told in the transaction that stores it, so that neither knows more than the other.

A row is a group of calls or judgements, a feedback, or an erasure. Whoever fills the lake deletes it in the transaction that says
which files have come of it. Where no lake is configured, nothing is told.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import msgspec
from sqlalchemy import Connection, insert, or_, select

from gateway.records.schema import lake_files, lake_queue, quality

_encode = msgspec.json.Encoder().encode


class Erasure(msgspec.Struct, array_like=True, frozen=True):
    """What is newer than `before` (ns since the epoch) stays."""

    tenant: str
    user: str
    before: int


def tell_calls(connection: Connection, call_ids: Sequence[str]) -> None:
    _tell(connection, "calls", call_ids)


def tell_feedback(connection: Connection, feedback_id: int) -> None:
    _tell(connection, "feedback", [feedback_id])


def tell_quality(connection: Connection, judged: Sequence[tuple[str, str]]) -> None:
    """(call, measure): told before they are stored, since what was judged before stays, and is there already."""
    known = select(quality.c.call_id, quality.c.measure).where(quality.c.call_id.in_([call for call, _ in judged]))
    there = {(row.call_id, row.measure) for row in connection.execute(known)}
    new = [f"{call} {measure}" for call, measure in judged if (call, measure) not in there]
    if new:
        _tell(connection, "quality", new)


def tell_again(connection: Connection, kind: str, names: Sequence[str]) -> None:
    """What is stored and was never told, or came to a file that is gone."""
    _tell(connection, kind, names)


def tell_erasure(connection: Connection, tenant: str, user: str, before: int) -> bool:
    """Whether there is a lake, or something on its way to one, for which this matters."""
    if not connection.scalar(select(or_(select(lake_files).exists(), select(lake_queue).exists()))):
        return False
    _tell(connection, "erasure", Erasure(tenant, user, before))
    return True


def _tell(connection: Connection, kind: str, body: object) -> None:
    connection.execute(insert(lake_queue).values(at=time.time_ns(), kind=kind, body=_encode(body)))
