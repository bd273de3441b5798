"""What the record store has and the lake has not, nor is on its way: put into the queue.

That is all of it when a lake is new, what was recorded while none was configured, and what was in files that are gone.
Days are compared by their counts, and only those that differ call by call.
"""

from __future__ import annotations

import datetime
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
from sqlalchemy import Select, func, select

from gateway.lake.filling import day_of
from gateway.lake.lake import Lake
from gateway.lake.schema import NAMED_BY
from gateway.records.database import Database
from gateway.records.lake_queue import tell_again, tell_calls, tell_feedback
from gateway.records.schema import calls, feedback, lake_queue, quality

log = logging.getLogger(__name__)

_DAY = 86_400 * 10**9
_GROUP = 1_000  # calls of one entry of the queue
_decode = msgspec.json.Decoder().decode


class CatchingUp:
    """Blocking. Raises StoreUnavailable, LakeUnavailable and LeaseLost."""

    def __init__(self, database: Database, lake: Lake) -> None:
        self._database = database
        self._lake = lake

    def run(self, *, by_counts: bool = True) -> int:
        """How many calls, feedback and judgements were put into the queue. `by_counts`: no day is looked at of which the
        lake has as many calls as the store, so nothing may have gone from both.
        """
        found = 0
        in_lake: Counter[tuple[str, str]] = Counter()
        for file in self._lake.manifest.live("calls"):
            in_lake[file.day, file.tenant] += file.rows
        for day, tenant, count in self._days():
            if count != in_lake[day, tenant] or not by_counts:
                found += self._catch_up(day, tenant)
        found += self._catch_up_feedback() + self._catch_up_quality()
        if found:
            log.info("the lake catches up with %d records", found)
        return found

    def _days(self) -> Iterator[tuple[str, str, int]]:
        """Counted in the index of tenants and times."""
        day = calls.c.started_at // _DAY
        query = select(day, calls.c.tenant, func.count()).group_by(day, calls.c.tenant)
        with self._database.reading() as connection:
            rows = connection.execute(query).all()
        for number, tenant, count in rows:
            yield day_of(int(number) * _DAY), tenant, count

    def _catch_up(self, day: str, tenant: str) -> int:
        begin = _begin_of(day)
        mine = (calls.c.tenant == tenant, calls.c.started_at >= begin, calls.c.started_at < begin + _DAY)
        with self._database.reading() as connection:
            missing = dict.fromkeys(connection.scalars(select(calls.c.call_id).where(*mine)))
        with self._database.reading() as connection:  # after them: whatever is stored by now is in here, or in the lake
            waiting = connection.scalars(select(lake_queue.c.body).where(lake_queue.c.kind == "calls"))
            for body in waiting:
                for call_id in _decode(body):
                    missing.pop(call_id, None)
        for file in self._lake.manifest.live("calls", tenant):
            if file.day == day and missing:
                for table in self._lake.read(file, ["call_id"]):
                    for call_id in table.column("call_id").to_pylist():
                        missing.pop(call_id, None)
        ids = list(missing)
        for start in range(0, len(ids), _GROUP):
            with self._lake.manifest.holding() as connection:
                tell_calls(connection, ids[start : start + _GROUP])
        return len(ids)

    def _catch_up_feedback(self) -> int:
        known = feedback.c.call_id.in_(select(calls.c.call_id))
        stored = select(feedback.c.id, feedback.c.call_id).where(known).order_by(feedback.c.id)
        missing = self._missing("feedback", stored, lambda row: row[0])
        for number in missing:
            with self._lake.manifest.holding() as connection:
                tell_feedback(connection, number)
        return len(missing)

    def _catch_up_quality(self) -> int:
        stored = select(quality.c.call_id, quality.c.measure).where(quality.c.call_id.in_(select(calls.c.call_id)))
        missing = self._missing("quality", stored, lambda row: f"{row[0]} {row[1]}")
        for start in range(0, len(missing), _GROUP):
            with self._lake.manifest.holding() as connection:
                tell_again(connection, "quality", missing[start : start + _GROUP])
        return len(missing)

    def _missing(self, table: str, stored: Select[Any], queued_as: Callable[[Any], Any]) -> list[Any]:
        """What is stored, as the queue names it, and neither waits there nor is in the lake. `stored` are rows of what
        names one there: see NAMED_BY.
        """
        with self._database.reading() as connection:
            missing = {tuple(row): queued_as(row) for row in connection.execute(stored)}
        with self._database.reading() as connection:
            bodies = connection.scalars(select(lake_queue.c.body).where(lake_queue.c.kind == table))
            waiting = {one for body in bodies for one in _decode(body)}
        columns = NAMED_BY[table]
        for file in self._lake.manifest.live(table):
            for rows in self._lake.read(file, columns):
                for name in zip(*[rows.column(one).to_pylist() for one in columns], strict=True):
                    missing.pop(name, None)
        return [one for one in missing.values() if one not in waiting]


def _begin_of(day: str) -> int:
    return int(datetime.datetime.fromisoformat(day).replace(tzinfo=datetime.UTC).timestamp()) * 10**9
