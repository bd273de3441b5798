"""From the record store's queue into the lake: each call and each feedback once, a bounded number at a time.

What was said or judged of a call that is gone meanwhile is not written: an erasure takes it too.
"""

from __future__ import annotations

import datetime
import logging
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pyarrow as pa
from sqlalchemy import Connection, delete, func, select, update

from gateway.lake.lake import Lake
from gateway.lake.manifest import new_file
from gateway.lake.rows import call_row
from gateway.lake.schema import TABLES
from gateway.lake.signals import Signals, question_of
from gateway.lake.vectors import Sampler
from gateway.records.contents import Contents
from gateway.records.database import Database
from gateway.records.rows import place_of
from gateway.records.schema import calls, feedback, lake_queue, quality

log = logging.getLogger(__name__)

_MOST_ROWS = 20_000  # of one change
_AS_OBJECTS = 2_000  # of them before they become columns
_MOST_BYTES = 32_000_000  # of records, as the store has them, that one change holds in memory
_PAGE = 200  # rows of one query …
_PAGE_BYTES = 8_000_000  # … of about so many bytes: with recorded content, each may be megabytes
_ENTRIES = 2_000  # of the queue, read at a time

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


@dataclass(slots=True)
class Filled:
    calls: int = 0
    feedback: int = 0
    files: int = 0

    def __iadd__(self, other: Filled) -> Filled:
        self.calls += other.calls
        self.feedback += other.feedback
        self.files += other.files
        return self


_Partition = tuple[str, str, str]  # table, day, tenant


@dataclass(slots=True)
class _Batch:
    """Rows by their partitions, and which entries of the queue they settle: done, or what is left of them."""

    tables: dict[_Partition, list[pa.Table]] = field(default_factory=lambda: defaultdict(list))
    rows: dict[_Partition, list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))
    done: list[int] = field(default_factory=list)
    left: dict[int, list[Any]] = field(default_factory=dict)
    count: int = 0
    bytes: int = 0

    def add(self, table: str, day: str, tenant: str, row: dict[str, Any]) -> None:
        self.rows[table, day, tenant].append(row)
        self.count += 1
        if self.count % _AS_OBJECTS == 0:
            self.pack()

    def pack(self) -> None:
        """Rows as objects take some ten times what they take as columns."""
        for partition, rows in self.rows.items():
            self.tables[partition].append(table_of(partition[0], rows))
        self.rows.clear()

    @property
    def full(self) -> bool:
        return self.count >= _MOST_ROWS or self.bytes >= _MOST_BYTES


class Filling:
    """Blocking. Raises StoreUnavailable, LakeUnavailable and LeaseLost; what was not done then is done next time."""

    def __init__(
        self,
        database: Database,
        lake: Lake,
        contents: Contents,
        signals: Signals,
        *,
        keep_contents: bool = False,
        sampler: Sampler | None = None,
    ) -> None:
        """`keep_contents`: what is recorded of prompts and answers goes to the lake too. `sampler` makes vectors."""
        self._database = database
        self._lake = lake
        self._contents = contents
        self._signals = signals
        self._keep_contents = keep_contents
        self._sampler = sampler

    def step(self) -> Filled | None:
        """One change's worth of the queue; None when nothing of it is left."""
        batch = self._gathered()
        if not batch.done and not batch.left:
            return None
        batch.pack()
        new = [new_file(*partition) for partition in batch.tables]
        if new:
            self._lake.announce(new)
        files = [
            self._lake.write(file, [_in_order(file.table, tables)])
            for file, tables in zip(new, batch.tables.values(), strict=True)
        ]
        rows = {name: sum(file.rows for file in files if file.table == name) for name in ("calls", "feedback")}
        filled = Filled(rows["calls"], rows["feedback"], len(files))
        self._lake.commit(files, settle=lambda connection: _settle(connection, batch))
        return filled

    def _gathered(self) -> _Batch:
        batch = _Batch()
        with self._database.reading() as connection:
            entries = connection.execute(
                select(lake_queue.c.id, lake_queue.c.kind, lake_queue.c.body)
                .where(lake_queue.c.kind.in_(("calls", "feedback", "quality")))
                .order_by(lake_queue.c.id)
                .limit(_ENTRIES)
            ).all()
        takes: dict[str, Callable[[_Batch, Sequence[Any]], None]]
        takes = {"calls": self._take_calls, "feedback": self._take_feedback, "quality": self._take_quality}
        for entry in entries:
            ids = list(dict.fromkeys(_decode(entry.body)))
            take, taken = takes[entry.kind], 0
            for page in self._pages(ids) if entry.kind == "calls" else _by(ids, _PAGE):
                if batch.full:
                    batch.left[entry.id] = ids[taken:]
                    return batch
                self._lake.manifest.keep()
                take(batch, page)
                taken += len(page)
            batch.done.append(entry.id)
            if batch.full:
                break
        return batch

    def _pages(self, ids: Sequence[str]) -> Iterator[Sequence[str]]:
        """Calls in their order, of which each page can be held in memory."""
        size = func.length(calls.c.detail) + func.coalesce(func.length(calls.c.content), 0)
        for some in _by(ids, _PAGE):
            with self._database.reading() as connection:
                found = connection.execute(select(calls.c.call_id, size).where(calls.c.call_id.in_(some)))
                sizes = {call_id: int(length) for call_id, length in found}
            page: list[str] = []
            held = 0
            for call_id in some:
                length = sizes.get(call_id, 0)
                if page and held + length > _PAGE_BYTES:
                    yield page
                    page, held = [], 0
                page.append(call_id)
                held += length
            yield page

    def _take_calls(self, batch: _Batch, ids: Sequence[str]) -> None:
        with self._database.reading() as connection:
            found = [row._asdict() for row in connection.execute(select(calls).where(calls.c.call_id.in_(ids)))]
        asked: list[tuple[dict[str, Any], str]] = []
        for kept in found:
            said = self._said(kept)
            row = call_row(kept, said, self._signals)
            day, tenant = day_of(kept["started_at"]), kept["tenant"]
            batch.add("calls", day, tenant, row)
            batch.bytes += len(kept["detail"]) + len(kept["content"] or b"")
            if self._keep_contents and kept["content"] is not None:
                batch.add("contents", day, tenant, _content_row(kept))
            question = question_of(said) if self._sampler is not None else None
            if question and self._sampler is not None and self._sampler.wants(kept["call_id"]):
                asked.append((kept, question))
        if asked and self._sampler is not None:
            vectors = self._sampler.vectors([question for _, question in asked])
            for (kept, _), vector in zip(asked, vectors, strict=False):
                made = {**_about(kept), "model": kept["model"], "embedder": self._sampler.model, "vector": vector}
                batch.add("vectors", day_of(kept["started_at"]), kept["tenant"], made)

    def _take_feedback(self, batch: _Batch, ids: Sequence[int]) -> None:
        with self._database.reading() as connection:
            joined = feedback.join(calls, calls.c.call_id == feedback.c.call_id)
            query = select(feedback, calls.c.user.label("call_user"), calls.c.started_at).select_from(joined)
            given = [row._asdict() for row in connection.execute(query.where(feedback.c.id.in_(ids)))]
        for kept in given:
            batch.add("feedback", day_of(kept["at"]), kept["tenant"], {
                "feedback_id": kept["id"], "call_id": kept["call_id"], "tenant": kept["tenant"], "user": kept["user"],
                "call_user": kept["call_user"], "given_at": kept["at"] // 1000, "score": kept["score"],
                "label": kept["label"], "commented": bool(kept["comment"]), "corrected": bool(kept["correction"]),
                "call_started_at": kept["started_at"] // 1000,
            })  # fmt: skip

    def _take_quality(self, batch: _Batch, judged: Sequence[str]) -> None:
        """`judged` are calls and measures, as `tell_quality` spells them."""
        with self._database.reading() as connection:
            joined = quality.join(calls, calls.c.call_id == quality.c.call_id)
            query = select(quality, calls.c.user, calls.c.started_at).select_from(joined)
            ids = {one.partition(" ")[0] for one in judged}
            found = [row._asdict() for row in connection.execute(query.where(quality.c.call_id.in_(ids)))]
        wanted = set(judged)
        for kept in found:
            if f"{kept['call_id']} {kept['measure']}" in wanted:
                row = {name: kept[name] for name in ("call_id", "tenant", "user", "measure", "score", "judged_by")}
                row |= {"judged_at": kept["at"] // 1000, "call_started_at": kept["started_at"] // 1000}
                batch.add("quality", day_of(kept["at"]), kept["tenant"], row)

    def _said(self, kept: Mapping[str, Any]) -> Mapping[str, Any] | None:
        said = self._contents.read(kept["content"], place_of(kept["call_id"]))
        return said if isinstance(said, Mapping) else None


def _by(ids: Sequence[Any], most: int) -> Iterator[Sequence[Any]]:
    for begin in range(0, len(ids), most):
        yield ids[begin : begin + most]


def _settle(connection: Connection, batch: _Batch) -> None:
    for begin in range(0, len(batch.done), 500):
        connection.execute(delete(lake_queue).where(lake_queue.c.id.in_(batch.done[begin : begin + 500])))
    for entry, ids in batch.left.items():
        connection.execute(update(lake_queue).where(lake_queue.c.id == entry).values(body=_encode(ids)))


def _about(kept: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "call_id": kept["call_id"], "tenant": kept["tenant"], "user": kept["user"],
        "started_at": kept["started_at"] // 1000,
    }  # fmt: skip


def _content_row(kept: Mapping[str, Any]) -> dict[str, Any]:
    return {**_about(kept), "content": kept["content"], "sealed": Contents.is_sealed(kept["content"])}


def _in_order(name: str, tables: Sequence[pa.Table]) -> pa.Table:
    """In the order of their time, so that row groups are narrow in it."""
    return pa.concat_tables(tables).sort_by(TABLES[name].time)


def table_of(name: str, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Rows as dicts of plain values, times in microseconds, in the table's schema."""
    schema = TABLES[name].schema
    arrays = [pa.array([row.get(field.name) for row in rows], field.type) for field in schema]
    return pa.Table.from_arrays(arrays, schema=schema)


def day_of(ns: int) -> str:
    """The UTC day of a time in ns since the epoch."""
    return datetime.datetime.fromtimestamp(ns // 1_000_000_000, datetime.UTC).strftime("%Y-%m-%d")
