"""A lake's folder that its record store knows nothing of, or not all: taken in, so that no row of it is lost.

That is after the store was restored from a backup, or begun anew. Every finished file of the folder becomes part of the
lake; rows that are in two of them, because a process died between writing one and removing another, stay in one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import delete

from gateway.lake.catching_up import CatchingUp
from gateway.lake.lake import Lake, is_file_of_ours
from gateway.lake.manifest import LakeFile, Lease, file_at
from gateway.lake.mark import Mark, read_mark, write_mark
from gateway.lake.schema import NAMED_BY, TABLES
from gateway.lake.storage import LakeUnavailable
from gateway.records.database import Database
from gateway.records.schema import lake_queue


@dataclass(frozen=True, slots=True)
class Adopted:
    """`files` were not known before, with so many `rows`; `doubled` rows were there twice; `queued` is what the record
    store has and the lake had not.
    """

    files: int
    rows: int
    doubled: int
    queued: int


def adopt(database: Database, lake: Lake) -> Adopted:
    """Blocking; safe to break off and to repeat. Whoever fills the lake waits meanwhile.

    Raises StoreUnavailable, LeaseLost, and LakeUnavailable: also where the folder has no lake, or a file of it can't be
    read.
    """
    manifest, storage = lake.manifest, lake.storage
    lease = manifest.take(storage.url, by_force=True)
    marked = read_mark(storage)
    there = [path for path in storage.listed() if is_file_of_ours(path) and path.endswith(".parquet")]
    assert lease is not None, "it is taken by force"
    if marked is None and not there:
        manifest.release()
        raise LakeUnavailable("there is no lake at lake.url")
    if marked is None:
        marked = Mark(lease.lake, lease.position)
    known = {file.path for file in manifest.live()}
    new = [_described(lake, path) for path in there if path not in known]
    mark = Mark(marked.lake, max(marked.position, lease.position))
    write_mark(storage, mark)  # if there was none
    with manifest.holding() as connection:
        manifest.begin_anew(connection, Lease(mark.lake, storage.url, mark.position), new, there)
        # Much of it may be in the new files: what is not is found below.
        connection.execute(delete(lake_queue).where(lake_queue.c.kind != "erasure"))
    doubled = _made_single(lake)
    queued = CatchingUp(database, lake).run(by_counts=False)
    lake.clear_up()
    manifest.release()
    return Adopted(len(new), sum(file.rows for file in new), doubled, queued)


def _described(lake: Lake, path: str) -> LakeFile:
    """What the manifest says of a file, from the file."""
    file, rows, first, last = file_at(path), 0, 2**62, 0
    for table in lake.read(file, [TABLES[file.table].time]):
        lake.manifest.keep()
        if table.num_rows:
            ends = pc.min_max(table.column(0).cast(pa.int64())).as_py()
            rows, first, last = rows + table.num_rows, min(first, ends["min"] * 1000), max(last, ends["max"] * 1000)
    return replace(file, rows=rows, bytes=lake.storage.size(path), first=first if rows else 0, last=last)


def _made_single(lake: Lake) -> int:
    """How many rows were there twice."""
    partitions: dict[tuple[str, str, str], list[LakeFile]] = defaultdict(list)
    for file in lake.manifest.live():
        partitions[file.table, file.day, file.tenant].append(file)
    doubled = 0
    for (table, _, _), files in partitions.items():
        if len(files) > 1:
            names = NAMED_BY[table]
            distinct: set[tuple[object, ...]] = set()
            for file in files:
                lake.manifest.keep()
                distinct.update(name for some in lake.read(file, names) for name in _named(some, names))
            if len(distinct) < sum(file.rows for file in files):
                doubled += lake.rewrite(files, partial(_first_of_each, names, set()))
    return doubled


def _first_of_each(names: Sequence[str], seen: set[tuple[object, ...]], table: pa.Table) -> pa.Table:
    new = []
    for name in _named(table, names):
        new.append(name not in seen)
        seen.add(name)
    return table.filter(pa.array(new, pa.bool_()))


def _named(table: pa.Table, names: Sequence[str]) -> list[tuple[object, ...]]:
    return list(zip(*(table.column(name).to_pylist() for name in names), strict=True))
