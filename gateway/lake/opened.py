"""The lake that a configuration names, for those who read it: the command line's queries, reports, drift."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.lake.manifest import Manifest
from gateway.lake.query import Queries
from gateway.lake.reading import datasets
from gateway.lake.storage import Storage

if TYPE_CHECKING:
    from gateway.records.database import Database


def queries(database: Database, url: str, options: dict[str, str], threads: int | None = None) -> Queries:
    """Raises ValueError for a URL that nothing understands, ImportError where its package is missing."""
    storage, manifest = Storage(url, options), Manifest(database)
    return Queries(lambda: datasets(storage, manifest), threads=threads)
