"""What was judged of answers, by call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, select

from gateway.records.database import Database
from gateway.records.held import held
from gateway.records.lake_queue import tell_quality
from gateway.records.schema import calls
from gateway.records.schema import quality as table


class Judgement(NamedTuple):
    """`score` from 0, bad, to 1, good; `judged_by` names the embedder or the model; `at` in nanoseconds since the epoch."""

    call_id: str
    tenant: str
    measure: str
    score: float
    judged_by: str
    at: int


class QualityStore:
    """Over a prepared database. Blocking; any thread may. Raises StoreUnavailable."""

    def __init__(self, database: Database, *, lake: bool = False) -> None:
        """`lake`: what is kept is told to it."""
        self._database = database
        self._lake = lake

    def add(self, judgements: Sequence[Judgement]) -> list[Judgement]:
        """Those whose call is stored are kept, all or none; what was judged of a call before stays. The others are
        given back: their call is still on its way, or it was erased, and then nothing may be kept of it.
        """
        mark = "?" if self._database.embedded else "%s"
        with self._database.writing() as connection:
            there = held(connection, {one.call_id for one in judgements})
            kept = [one for one in judgements if one.call_id in there]
            if kept and self._lake:
                tell_quality(connection, [(one.call_id, one.measure) for one in kept])
            if kept:
                connection.exec_driver_sql(
                    "INSERT INTO quality (call_id, tenant, measure, score, judged_by, at) "
                    f"VALUES ({', '.join([mark] * 6)}) ON CONFLICT DO NOTHING",
                    [tuple(judgement) for judgement in kept],
                )
        return [one for one in judgements if one.call_id not in there]

    def knows(self, call_id: str) -> bool:
        """Whether the call is stored."""
        with self._database.reading() as connection:
            return connection.scalar(select(calls.c.call_id).where(calls.c.call_id == call_id)) is not None


def quality_of(connection: Connection, call_id: str, tenant: str) -> list[dict[str, Any]]:
    """All that was judged of one call of a tenant; `at` in seconds since the epoch."""
    columns = table.c["measure", "score", "judged_by", "at"]
    asked = select(*columns).where(table.c.call_id == call_id, table.c.tenant == tenant).order_by(table.c.measure)
    return [{**row, "at": row["at"] / 1e9} for row in connection.execute(asked).mappings()]
