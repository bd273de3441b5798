"""The lake as whoever fills it sees it: files are written, and take effect, in changes that are whole or not at all."""

from __future__ import annotations

import contextlib
import json
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from sqlalchemy import Connection

from gateway.lake.manifest import LakeFile, Manifest, new_file
from gateway.lake.schema import TABLES, VERSION, LakeTable
from gateway.lake.storage import LakeUnavailable, Storage

log = logging.getLogger(__name__)

ROW_GROUP = 65_536  # rows
_MARK = "_lake.json"
_OURS = re.compile(r"(calls|feedback|quality|contents|vectors)/.*-[0-9a-f]{32}\.parquet(\.pending)?")


class UnreadableFile(LakeUnavailable):
    """A file of the lake is damaged."""


class Lake:
    """For the process that has the lease. Blocking. Raises StoreUnavailable, LakeUnavailable and LeaseLost."""

    def __init__(self, storage: Storage, manifest: Manifest) -> None:
        self.storage = storage
        self.manifest = manifest
        self._told: set[str] = set()

    def open(self) -> bool:
        """Take the lease and clear up what a dead predecessor left; False while somebody else fills the lake.

        Raises LakeUnavailable where the folder belongs to another record store.
        """
        taken = self.manifest.take(self.storage.url)
        if taken is None:
            return False
        lake, url = taken
        if url != self.storage.url:
            lake = self.manifest.moved(self.storage.url, with_files=self._marked() == lake)
        self._mark(lake)
        self.clear_up()
        self._compare()
        return True

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
            self.clear_up()

    def rewrite(self, old: Sequence[LakeFile], rows: Callable[[pa.Table], pa.Table]) -> int:
        """All of `old`, of one partition, as one file with what `rows` leaves of them; how many rows went."""
        before = sum(file.rows for file in old)
        (file,) = announced = [new_file(old[0].table, old[0].day, old[0].tenant)]
        self.manifest.announce(announced)
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

    def _mark(self, lake: str) -> None:
        """The folder says whose it is, since what it has and the manifest does not know is removed."""
        found = self._marked()
        if found is None:
            with self.storage.writing(_MARK) as file:
                file.write(json.dumps({"lake": lake, "version": VERSION}).encode())
        elif found != lake:
            raise LakeUnavailable("the lake's folder belongs to another record store: name another one in lake.url")

    def _marked(self) -> str | None:
        found = self.storage.read_small(_MARK)
        try:
            return None if found is None else str(json.loads(found)["lake"])
        except (ValueError, TypeError, KeyError):
            raise LakeUnavailable(f"the lake's {_MARK}, which says whose it is, can't be read") from None

    def _compare(self) -> None:
        """What the folder has and nobody knows goes; what is known and not there is said, and filled in again."""
        live = {file.path: file for file in self.manifest.live()}
        there = set()
        for path in self.storage.listed():
            there.add(path)
            if path not in live and _OURS.fullmatch(path):
                self.storage.remove(path.removesuffix(".pending"))
        lost = [file for path, file in live.items() if path not in there]
        if lost:
            log.error("%d files of the lake are gone; what the record store still has is written again", len(lost))
            self.manifest.forget(lost)


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
