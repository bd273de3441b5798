"""What the lake's files go through after they were written: erasures, the end of what is kept, merging of small ones."""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import delete, select

from gateway.lake.filling import day_of
from gateway.lake.lake import Lake, UnreadableFile
from gateway.lake.manifest import LakeFile
from gateway.lake.schema import TABLES
from gateway.records.calls import first_id
from gateway.records.database import Database
from gateway.records.lake_queue import Erasure
from gateway.records.retention import Periods
from gateway.records.schema import lake_queue

log = logging.getLogger(__name__)

_FEW = 8  # small files of one partition that may lie beside each other while its day is not over
_SLACK = 3600 * 10**9  # ns by which rows may be past their time before their file is rewritten

# By which columns a row is a user's: who it is, and since when. What is said or judged of a call goes with the call,
# however late it came; files of version 1 only know when it came.
_OF_CALLS = (("user", "started_at"),)
_WHOSE = {
    "feedback": (("user", "given_at"), ("call_user", "call_started_at")),
    "quality": (("user", "call_started_at"),),
}

_erasure = msgspec.json.Decoder(Erasure).decode


class Erasures:
    """Blocking. Raises StoreUnavailable, LakeUnavailable and LeaseLost; an erasure stays asked for until it is done."""

    def __init__(self, database: Database, lake: Lake) -> None:
        self._database = database
        self._lake = lake

    def run(self) -> int:
        """Let go of all that is asked for; how many rows went."""
        query = select(lake_queue.c.id, lake_queue.c.body).where(lake_queue.c.kind == "erasure")
        with self._database.reading() as connection:
            asked = connection.execute(query.order_by(lake_queue.c.id)).all()
        gone = 0
        for row in asked:
            try:
                gone += self._erase(_erasure(row.body))
            except UnreadableFile as fault:
                self._lake.unreadable(fault)  # this erasure waits, and holds up nothing else
                continue
            self._lake.clear_up()  # also what could not be removed when it was tried before
            with self._lake.manifest.holding() as connection:
                connection.execute(delete(lake_queue).where(lake_queue.c.id == row.id))
        if asked:
            self._database.wipe()  # the queue named them
            log.info("%d erasures were done in the lake: %d rows", len(asked), gone)
        return gone

    def _erase(self, erasure: Erasure) -> int:
        gone = 0
        late = self._made_later(erasure)
        files = self._lake.manifest.live(tenant=erasure.tenant)
        for file in sorted(files, key=lambda one: one.table == "calls"):  # last, since these tell which ones were late
            may = bool(late) or file.table in _WHOSE or file.first <= erasure.before
            if may and self._has(file, erasure, late):
                gone += self._lake.rewrite([file], partial(_without, file.table, erasure, late))
        return gone

    def _made_later(self, erasure: Erasure) -> list[str]:
        """Calls that the gateway made of its own after the erasure, for calls from before it: a judge may come late."""
        found: list[str] = []
        for file in self._lake.manifest.live("calls", erasure.tenant):
            if file.last > erasure.before:
                for table in self._lake.read(file, ["call_id", "user", "made_for"]):
                    theirs = pc.equal(table.column("user"), erasure.user)
                    old = pc.less(
                        table.column("made_for"), first_id(erasure.before + 1_000_000)
                    )  # ids tell milliseconds
                    found += table.filter(pc.fill_null(pc.and_kleene(theirs, old), False)).column("call_id").to_pylist()
        return found

    def _has(self, file: LakeFile, erasure: Erasure, late: Sequence[str]) -> bool:
        columns = {name for pair in _WHOSE.get(file.table, _OF_CALLS) for name in pair}
        columns |= {"call_id", TABLES[file.table].time}
        found = (_of(table, file.table, erasure, late) for table in self._lake.read(file, sorted(columns)))
        return any(pc.any(theirs).as_py() for theirs in found)


def _of(table: pa.Table, name: str, erasure: Erasure, late: Sequence[str]) -> pa.ChunkedArray:
    """Which rows are the user's. `late` are calls, whenever they began."""
    found = pc.is_in(table.column("call_id"), pa.array(late, pa.string()))
    for user, since in _WHOSE.get(name, _OF_CALLS):
        at = pc.coalesce(table.column(since), table.column(TABLES[name].time)).cast(pa.int64())
        theirs = pc.and_kleene(pc.equal(table.column(user), erasure.user), pc.less_equal(at, erasure.before // 1000))
        found = pc.or_(found, pc.fill_null(theirs, False))
    return found


def _without(name: str, erasure: Erasure, late: Sequence[str], table: pa.Table) -> pa.Table:
    return table.filter(pc.invert(_of(table, name, erasure, late)))


class Keeping:
    """What is past its time goes: content and vectors by `content` or `calls`, whichever ends first, the rest by `calls`."""

    def __init__(self, lake: Lake, periods: Callable[[], Callable[[str], Periods]]) -> None:
        """`periods` looks up how long each tenant's are kept."""
        self._lake = lake
        self._periods = periods

    def run(self) -> int:
        """How many rows went."""
        periods, now, gone = self._periods(), time.time(), 0
        for file in self._lake.manifest.live():
            kept = _kept(file.table, periods(file.tenant))
            before = int((now - kept) * 1e9) if kept is not None else 0
            if file.last < before:
                self._lake.commit([], [file])
                gone += file.rows
            elif file.first < before - _SLACK:
                try:
                    gone += self._lake.rewrite([file], partial(_since, file.table, before))
                except UnreadableFile as fault:  # it goes when all of it is past its time
                    self._lake.unreadable(fault)
        if gone:
            log.info("past their time: %d rows of the lake were removed", gone)
        return gone


def _kept(table: str, periods: Periods) -> float | None:
    """Seconds; None for ever."""
    known = [periods.calls] if table in ("calls", "feedback", "quality") else [periods.calls, periods.content]
    ends = [float(one) for one in known if one != "forever"]
    return min(ends) if ends else None


def _since(name: str, before: int, table: pa.Table) -> pa.Table:
    return table.filter(pc.greater_equal(table.column(TABLES[name].time).cast(pa.int64()), before // 1000))


class Compaction:
    """Small files of a partition become one: as soon as there are several, and once more when its day is over."""

    def __init__(self, lake: Lake, file_size: int) -> None:
        """`file_size` in bytes: files that are that large are left alone."""
        self._lake = lake
        self._file_size = file_size

    def run(self, most: int | None = None) -> int:
        """How many files were merged, in `most` partitions at most."""
        merged = 0
        for done, group in enumerate(self._groups()):
            if most is not None and done >= most:
                break
            try:
                self._lake.rewrite(group, lambda table: table)
            except UnreadableFile as fault:
                self._lake.unreadable(fault)
                continue
            merged += len(group)
        return merged

    def _groups(self) -> Iterator[list[LakeFile]]:
        partitions: dict[tuple[str, str, str], list[LakeFile]] = defaultdict(list)
        for file in self._lake.manifest.live():
            if file.bytes < self._file_size:
                partitions[file.table, file.day, file.tenant].append(file)
        # A call may come hours late, so a day's last merging waits for the next day's noon.
        over = day_of(time.time_ns() - 12 * 3600 * 10**9)
        for (_, day, _), files in partitions.items():
            if len(files) >= _FEW or (day < over and len(files) > 1):
                yield from _filled(files, self._file_size)


def _filled(files: Sequence[LakeFile], size: int) -> Iterator[list[LakeFile]]:
    """Neighbours in time together, up to about `size`."""
    group: list[LakeFile] = []
    for file in sorted(files, key=lambda one: one.first):
        if group and sum(one.bytes for one in group) + file.bytes > size:
            if len(group) > 1:
                yield group
            group = []
        group.append(file)
    if len(group) > 1:
        yield group
