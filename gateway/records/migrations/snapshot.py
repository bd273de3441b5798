"""What the migrations make of an empty SQLite file, written down: a new store is there at once, and without Alembic.

After a new version: `python -m gateway.records.migrations.snapshot`. A snapshot that is older is brought up by the
migrations that came after it.
"""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path

from sqlalchemy import Connection, Engine, create_engine

_FILE = Path(__file__).with_name("snapshot.sql")


def apply(connection: Connection) -> None:
    """Make everything in an empty database, inside the connection's transaction."""
    for statement in _FILE.read_text("utf-8").split(";\n"):
        if statement.strip():
            connection.exec_driver_sql(statement)


def taken() -> str:
    """The snapshot as the migrations say it now."""
    from gateway.records.migrations.running import migrate

    with tempfile.TemporaryDirectory() as folder:
        engine = create_engine(f"sqlite:///{folder}/new.db")
        with engine.begin() as connection:
            migrate(connection)
        text = dump(engine)
        engine.dispose()
    return text


def dump(engine: Engine) -> str:
    """A SQLite database as statements, each of which ends a line."""
    with contextlib.closing(engine.raw_connection()) as connection:
        statements = list(connection.iterdump())[1:-1]  # but BEGIN and COMMIT
    return "\n".join(statements) + "\n"


if __name__ == "__main__":
    _FILE.write_text(taken(), "utf-8")
