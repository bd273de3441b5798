"""The lake as whoever fills it sees it: files are written, and take effect, in changes that are whole or not at all."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from sqlalchemy import Connection

from gateway.lake.manifest import LakeFile, Lease, Manifest, new_file
from gateway.lake.mark import Mark, read_mark, write_mark
from gateway.lake.schema import TABLES, LakeTable
from gateway.lake.storage import PENDING, LakeUnavailable, Storage

log = logging.getLogger(__name__)

ROW_GROUP = 65_536  # rows
_WAYS = "name another place in lake.url, or take the files in with `rag-gateway db adopt-lake`; nothing is touched"
_OURS = re.compile(r"(calls|feedback|quality|contents|vectors)/.*-[0-9a-f]{32}\.parquet(\.pending)?")


class UnreadableFile(LakeUnavailable):
    """A file of the lake is damaged."""


class Lake:
    """For the process that has the lease. Blocking. Raises StoreUnavailable, LakeUnavailable and LeaseLost."""

    def __init__(self, storage: Storage, manifest: Manifest) -> None:
        self.storage = storage
        self.manifest = manifest
        self._told: set[str] = set()

    def open(self, *, by_force: bool = False) -> bool:
        """Take the lease and clear up what a dead predecessor left; False while somebody else fills the lake, unless it
        is taken `by_force`.

        Raises LakeUnavailable where the folder belongs to another record store, or is further than this one.
        """
        taken = self.manifest.take(self.storage.url, by_force=by_force)
        if taken is None:
            return False
        try:
            self._enter(taken)
        except LakeUnavailable:
            self.manifest.release()  # somebody else's configuration may be right
            raise
        return True

    def _enter(self, lease: Lease) -> None:
        """Nothing is changed before it is clear that the folder is this store's."""
        marked = read_mark(self.storage)
        _check(marked, Mark(lease.lake, lease.position))
        there = set(self.storage.listed())
        live = {file.path for file in self.manifest.live()}
        strays = [path.removesuffix(PENDING) for path in there if path not in live and is_file_of_ours(path)]
        if marked is None and strays:
            raise LakeUnavailable(f"the lake's folder has files, and no _lake.json that says whose they are: {_WAYS}")
        lake = lease.lake
        if lease.url != self.storage.url:
            lake = self.manifest.moved(self.storage.url, with_files=marked is not None)
        if marked is None:
            write_mark(self.storage, Mark(lake, lease.position))
        for path in strays:  # what dead processes had not finished, or wrote when they had lost the lease
            self.storage.remove(path)
        self.clear_up()
        lost = [file for file in self.manifest.live() if file.path not in there]
        if lost:
            log.error("%d files of the lake are gone; what the record store still has is written again", len(lost))
            self.manifest.forget(lost)

    def announce(self, files: Sequence[LakeFile]) -> None:
        """What is going to be written: the record store knows of it first, and then the folder how far that store is.

        Raises LakeUnavailable where the folder is that far already: another store's process writes to it too.
        """
        lease = self.manifest.announce(files)
        _check(read_mark(self.storage), Mark(lease.lake, lease.position - 1))
        write_mark(self.storage, Mark(lease.lake, lease.position))

    def clear_up(self) -> None:
        """Remove files that are pending or dead."""
        gone = self.manifest.unfinished()
        for file in gone:
            self.storage.remove(file.path)
        if gone:
            self.manifest.forget(gone)

    def write(self, file: LakeFile, tables: Iterable[pa.Table]) -> LakeFile:
        """An announced file's rows, of which no more are held than `tables` gives at a time; the file as it is then."""
        kind = TABLES[file.table]
        rows, first, last = 0, 2**62, 0
        with self.storage.writing(file.path) as sink, parquet_writer(sink, kind) as writer:
            for table in tables:
                self.manifest.keep()
                if not table.num_rows:
                    continue
                writer.write_table(table, row_group_size=ROW_GROUP)
                rows += table.num_rows
                ends = pc.min_max(table.column(kind.time).cast(pa.int64())).as_py()
                first, last = min(first, ends["min"] * 1000), max(last, ends["max"] * 1000)
            writer.close()
            size = sink.tell()
        return replace(file, rows=rows, bytes=size, first=first if rows else 0, last=last)

    def commit(
        self,
        new: Sequence[LakeFile],
        old: Sequence[LakeFile] = (),
        settle: Callable[[Connection], None] | None = None,
    ) -> None:
        """`new` are written: they take the place of `old`, and `settle` is done, in one transaction."""
        with self.manifest.holding() as connection:
            self.manifest.swap(connection, new, old)
            if settle is not None:
                settle(connection)
        if old:
            self.manifest.sync()  # or a loss of power would bring back the old ones' names, and not the files
            self.clear_up()

    def rewrite(self, old: Sequence[LakeFile], rows: Callable[[pa.Table], pa.Table]) -> int:
        """All of `old`, of one partition, as one file with what `rows` leaves of them; how many rows went."""
        before = sum(file.rows for file in old)
        (file,) = announced = [new_file(old[0].table, old[0].day, old[0].tenant)]
        self.announce(announced)
        made = self.write(file, (rows(table) for one in old for table in self.read(one)))
        if made.rows:
            self.commit([made], old)
        else:  # a partition that is empty has no file
            self.commit([], [*old, made])
        return before - made.rows

    def read(self, file: LakeFile, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """Its rows in this version's schema, a row group at a time."""
        wanted = TABLES[file.table].schema
        if columns is not None:
            wanted = pa.schema([wanted.field(name) for name in columns])
        with self.storage.opened(file.path) as source, self._damage(file), pq.ParquetFile(source) as parquet:
            there = set(parquet.schema_arrow.names)
            for group in range(parquet.num_row_groups):
                found = parquet.read_row_group(group, columns=[name for name in wanted.names if name in there])
                yield conformed(found, wanted)

    def unreadable(self, fault: UnreadableFile) -> None:
        """Say so, once of each."""
        if str(fault) not in self._told:
            self._told.add(str(fault))
            log.error("%s", fault)

    @contextlib.contextmanager
    def _damage(self, file: LakeFile) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise
        except (pa.ArrowException, OSError) as fault:
            if isinstance(fault, OSError) and self.storage.local is None:  # what was asked for may not have come
                raise LakeUnavailable(f"the lake's storage: {type(fault).__name__}") from fault
            raise UnreadableFile(
                f"the lake's file {file.path} can't be read ({type(fault).__name__}): remove it and start the gateway "
                "again, and what the record store still has is written anew"
            ) from fault


def is_file_of_ours(path: str) -> bool:
    """Whether it is named like a file of a lake, also one that is not finished."""
    return _OURS.fullmatch(path) is not None


def _check(marked: Mark | None, known: Mark) -> None:
    """Raises LakeUnavailable where the folder is not this store's, or has what this store knows nothing of."""
    if marked is None:
        return
    if marked.lake != known.lake:
        raise LakeUnavailable(f"the lake's folder belongs to another record store: {_WAYS}")
    if marked.position > known.position:
        raise LakeUnavailable(
            "the lake's folder has files that this record store knows nothing of: the store was restored from a backup, "
            f"or is a copy of the one that fills this lake; {_WAYS}"
        )


def parquet_writer(sink: object, kind: LakeTable) -> pq.ParquetWriter:
    """Zstandard, with dictionaries, statistics and a page index; the schema's metadata says its version."""
    return pq.ParquetWriter(
        sink, kind.schema, compression="zstd", compression_level=3, write_page_index=True, version="2.6"
    )


def conformed(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """A table of an older version in this one's columns; what it lacks is null."""
    columns = [
        table.column(field.name).cast(field.type) if field.name in table.column_names
        else pa.nulls(table.num_rows, field.type)
        for field in schema
    ]  # fmt: skip
    return pa.Table.from_arrays(columns, schema=schema)
