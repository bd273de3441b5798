"""A report without a lake: the calls of its time out of the record store, as the lake would have them, in files that go
with the report.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from sqlalchemy import select

from gateway.lake.filling import table_of
from gateway.lake.query import Queries
from gateway.lake.reading import schema_of
from gateway.lake.rows import call_row
from gateway.lake.schema import TABLES
from gateway.lake.signals import Signals
from gateway.records.contents import Contents
from gateway.records.database import Database
from gateway.records.rows import place_of
from gateway.records.schema import calls, feedback

_PAGE = 500  # calls of one query
_GROUP = 10_000  # rows that are held before they are written


@contextlib.contextmanager
def queries_of_store(database: Database, contents: Contents, signals: Signals, since: float) -> Iterator[Queries]:
    """The calls since then (seconds since the epoch) and the feedback on them. Raises StoreUnavailable."""
    with tempfile.TemporaryDirectory(prefix="rag-gateway-report-") as folder:
        _write(Path(folder), "calls", _calls(database, contents, signals, int(since * 1e9)))
        _write(Path(folder), "feedback", _feedback(database, int(since * 1e9)))
        tables = {name: _dataset(Path(folder), name) for name in TABLES}
        yield Queries(lambda: tables)


def _calls(database: Database, contents: Contents, signals: Signals, since: int) -> Iterator[dict[str, Any]]:
    """Page after page by their ids, whose beginnings are times."""
    after = ""
    while True:
        query = select(calls).where(calls.c.started_at >= since, calls.c.call_id > after).order_by(calls.c.call_id)
        with database.reading() as connection:
            rows = [row._asdict() for row in connection.execute(query.limit(_PAGE))]
        for row in rows:
            said = contents.read(row["content"], place_of(row["call_id"]))
            yield call_row(row, said if isinstance(said, Mapping) else None, signals)
        if len(rows) < _PAGE:
            return
        after = rows[-1]["call_id"]


def _feedback(database: Database, since: int) -> Iterator[dict[str, Any]]:
    with database.reading() as connection:
        found = connection.execute(select(feedback).where(feedback.c.at >= since)).all()
    for row in found:
        yield {
            "feedback_id": row.id, "call_id": row.call_id, "tenant": row.tenant, "given_at": row.at // 1000,
            "score": row.score, "label": row.label,
        }  # fmt: skip


def _write(folder: Path, name: str, rows: Iterator[dict[str, Any]]) -> None:
    """With the column that partitions have in their path, since there are none."""
    with pq.ParquetWriter(folder / f"{name}.parquet", schema_of(name), compression="zstd") as writer:
        held: list[dict[str, Any]] = []
        for row in rows:
            held.append(row)
            if len(held) >= _GROUP:
                writer.write_table(_dated(name, held))
                held = []
        writer.write_table(_dated(name, held))


def _dated(name: str, rows: list[dict[str, Any]]) -> pa.Table:
    table = table_of(name, rows)
    return pa.table([table.column(TABLES[name].time).cast(pa.date32()), *table.columns], schema=schema_of(name))


def _dataset(folder: Path, name: str) -> ds.Dataset:
    path = folder / f"{name}.parquet"
    if not path.exists():
        return ds.dataset(schema_of(name).empty_table())
    return ds.dataset(path, format="parquet")
