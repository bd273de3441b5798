"""The lake for those who ask: its live files as datasets in this version's schema."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa
import pyarrow.dataset as ds

from gateway.lake.manifest import Manifest
from gateway.lake.schema import TABLES
from gateway.lake.storage import Storage

_PARTITIONS = pa.schema([pa.field("date", pa.date32()), pa.field("tenant", pa.string())])


def datasets(storage: Storage, manifest: Manifest) -> Mapping[str, ds.Dataset]:
    """By table. A file that is merged with others while it is read is no longer there: ask again then.

    Raises StoreUnavailable.
    """
    return {name: _dataset(storage, name, [file.path for file in manifest.live(name)]) for name in TABLES}


def schema_of(name: str) -> pa.Schema:
    """A table's columns as they are queried: the partition's date, too."""
    return pa.schema([_PARTITIONS.field("date"), *TABLES[name].schema])


def _dataset(storage: Storage, name: str, paths: list[str]) -> ds.Dataset:
    return ds.dataset(
        [storage.full(path) for path in paths],
        schema=schema_of(name),
        format="parquet",
        filesystem=storage.filesystem,
        partitioning=ds.partitioning(_PARTITIONS, flavor="hive"),
        partition_base_dir=storage.full(name),
    ) if paths else ds.dataset(schema_of(name).empty_table())  # fmt: skip
