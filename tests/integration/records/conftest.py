"""Each test of a store runs over a new SQLite file and over a new database of a real PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from postgres_process import PostgresProcess

from gateway.records.database import Database


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of a database that has nothing in it yet."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'records.db'}"
    server: PostgresProcess = request.getfixturevalue("postgres_server")
    return server.database()


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    """With its tables."""
    made = Database(url)
    made.upgrade()
    yield made
    made.close()
