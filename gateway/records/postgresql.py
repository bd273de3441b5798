"""What PostgreSQL's driver needs to be told: imported only where the record store is there."""

from __future__ import annotations

from psycopg.abc import Buffer
from psycopg.types.string import StrDumper


class NulFree(StrDumper):
    """Text with a NUL, which PostgreSQL can't hold, has the replacement character there."""

    def dump(self, obj: str) -> Buffer | None:
        return super().dump(obj.replace("\0", "\ufffd"))
