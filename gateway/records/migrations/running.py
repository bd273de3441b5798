"""Alembic, told in code what its command line reads from alembic.ini. Imported only where a migration runs."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection


def configuration() -> Config:
    made = Config()
    made.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    return made


def migrate(connection: Connection, to: str = "head") -> None:
    """Inside the connection's transaction."""
    made = configuration()
    made.attributes["connection"] = connection
    command.upgrade(made, to)
