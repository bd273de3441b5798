"""What has been spent, by whom and in which period: added up in the same transaction as the calls themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from sqlalchemy import Connection, select

from gateway.records.database import Database
from gateway.records.schema import spend

_ADD = """
    INSERT INTO spend (subject, period, usd, calls, tokens) VALUES ({0}, {0}, {0}, {0}, {0})
    ON CONFLICT (subject, period) DO UPDATE SET
        usd = spend.usd + excluded.usd, calls = spend.calls + excluded.calls, tokens = spend.tokens + excluded.tokens
"""


class Charged(Protocol):
    """A call and what it is charged to; `usd` and `tokens` are added to each of its (subject, period)."""

    @property
    def charges(self) -> Sequence[tuple[str, str]]: ...

    @property
    def usd(self) -> float: ...

    @property
    def tokens(self) -> int: ...


class SpendStore:
    """Blocking; any thread may. The words for subjects and periods are those of whoever charges."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def spent(self, subject: str, period: str) -> float:
        """USD of all calls in the store that were charged to `subject` in `period`. Raises StoreUnavailable.

        What this and other processes have not brought to the store yet is not in it.
        """
        asked = select(spend.c.usd).where(spend.c.subject == subject, spend.c.period == period)
        with self._database.reading() as connection:
            return float(connection.execute(asked).scalar_one_or_none() or 0.0)


def add_spend(connection: Connection, calls: Sequence[Charged]) -> None:
    """Add calls to what is spent, in the transaction of `connection`."""
    sums: dict[tuple[str, str], tuple[float, int, int]] = {}
    for call in calls:
        for subject, period in call.charges:
            usd, count, tokens = sums.get((subject, period), (0.0, 0, 0))
            sums[subject, period] = (usd + call.usd, count + 1, tokens + call.tokens)
    if sums:
        mark = "?" if connection.dialect.name == "sqlite" else "%s"
        # In one order everywhere: processes that lock the same rows in different orders would block each other.
        connection.exec_driver_sql(_ADD.format(mark), [(*key, *added) for key, added in sorted(sums.items())])
