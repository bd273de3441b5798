"""A record store, SQLite's or, where a test asks for both, PostgreSQL's too; and a lake in a folder of this machine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.dataset as ds
import pytest
from postgres_process import PostgresProcess

from gateway.lake.catching_up import CatchingUp
from gateway.lake.filling import Filling
from gateway.lake.lake import Lake
from gateway.lake.manifest import Manifest
from gateway.lake.query import Queries
from gateway.lake.reading import datasets
from gateway.lake.schema import TABLES
from gateway.lake.signals import Signals
from gateway.lake.storage import Storage
from gateway.lake.upkeep import Compaction, Erasures
from gateway.records.contents import Contents
from gateway.records.database import Database


@dataclass
class Filled:
    """A lake with what fills it."""

    database: Database
    url: str
    contents: Contents = field(default_factory=Contents)
    keep_contents: bool = False
    options: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.storage = Storage(self.url, self.options)
        self.manifest = Manifest(self.database)
        self.lake = Lake(self.storage, self.manifest)
        assert self.lake.open()

    def fill(self, **more: Any) -> int:
        filling = Filling(self.database, self.lake, self.contents, Signals(), keep_contents=self.keep_contents, **more)
        total = 0
        while (filled := filling.step()) is not None:
            total += filled.calls
        return total

    def erase(self) -> int:
        return Erasures(self.database, self.lake).run()

    def catch_up(self) -> int:
        return CatchingUp(self.database, self.lake).run()

    def compact(self, file_size: int = 128_000_000) -> int:
        return Compaction(self.lake, file_size).run()

    def rows(self, sql: str) -> list[dict[str, Any]]:
        found = Queries(lambda: datasets(self.storage, self.manifest)).run(sql)
        return list(found.to_pylist())

    def ids(self) -> list[str]:
        return sorted(row["call_id"] for row in self.rows("SELECT call_id FROM calls"))

    def globbed(self, table: str = "calls") -> list[dict[str, Any]]:
        """What somebody sees who reads the folder and knows no manifest."""
        folder = Path(self.storage.root) / table
        return list(ds.dataset(folder, partitioning="hive").to_table().to_pylist()) if folder.exists() else []

    def everything(self) -> str:
        """All that is in the lake's files, as text."""
        return json.dumps([self.globbed(name) for name in TABLES], default=repr)


@pytest.fixture
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    if getattr(request, "param", "sqlite") == "sqlite":
        url = f"sqlite:///{tmp_path / 'records.db'}"
    else:
        server: PostgresProcess = request.getfixturevalue("postgres_server")
        url = server.database()
    made = Database(url)
    made.upgrade()
    yield made
    made.close()


@pytest.fixture
def filled(database: Database, tmp_path: Path) -> Filled:
    return Filled(database, (tmp_path / "lake").as_uri())
