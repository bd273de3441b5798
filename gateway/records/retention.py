"""What is kept for as long as the configuration, or its tenant, says; and then goes, a little at a time."""

from __future__ import annotations

import json
import logging
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import Connection, delete, select, update

from gateway.config.quantities import duration
from gateway.records.database import Database
from gateway.records.schema import calls, feedback, quality, tenants

log = logging.getLogger(__name__)

EVERY = 3_600.0  # seconds between two sweeps, about
_AT_ONCE = 500  # rows of one transaction: whoever else writes does not wait for long

Kept = float | Literal["forever"]


@dataclass(frozen=True, slots=True)
class Periods:
    """Seconds."""

    calls: Kept = "forever"
    content: Kept = "forever"


class RetentionSweep:
    """Safe to be run by several processes at once. Blocking. Raises StoreUnavailable."""

    def __init__(self, database: Database, periods: Periods) -> None:
        """`periods` hold for tenants that have none of their own."""
        self._database = database
        self._periods = periods

    def run(self) -> dict[str, int]:
        """Remove what is past its time; how many records and contents went."""
        gone = {"calls": 0, "contents": 0}
        for tenant, periods in self._tenants():
            now = time.time()
            if periods.calls != "forever":
                gone["calls"] += self._remove_calls(tenant, int((now - periods.calls) * 1e9))
            if periods.content != "forever":
                gone["contents"] += self._remove_contents(tenant, int((now - periods.content) * 1e9))
        if any(gone.values()):
            self._database.wipe()
            log.info("past their time: %d call records and %d contents were removed", *gone.values())
        return gone

    def _tenants(self) -> list[tuple[str, Periods]]:
        """Everyone who has calls on record, and for how long theirs are kept."""
        with self._database.reading() as connection:
            own = {row.id: json.loads(row.grants).get("retention") for row in connection.execute(select(tenants))}
            named = list(_tenants_with_calls(connection))
        random.shuffle(named)  # so that two processes that sweep at once are seldom at the same tenant
        return [(tenant, _periods(own.get(tenant), self._periods)) for tenant in named]

    def _remove_calls(self, tenant: str, before: int) -> int:
        old = select(calls.c.call_id).where(calls.c.tenant == tenant, calls.c.started_at < before).limit(_AT_ONCE)
        total = 0
        while True:
            with self._database.writing() as connection:
                ids = list(connection.scalars(old.with_for_update()))  # see gateway.records.held
                if ids:
                    connection.execute(delete(feedback).where(feedback.c.tenant == tenant, feedback.c.call_id.in_(ids)))
                    connection.execute(delete(quality).where(quality.c.call_id.in_(ids)))
                    connection.execute(delete(calls).where(calls.c.call_id.in_(ids)))
            total += len(ids)
            if len(ids) < _AT_ONCE:
                return total

    def _remove_contents(self, tenant: str, before: int) -> int:
        has_content = calls.c.content.is_not(None)
        old = select(calls.c.call_id).where(calls.c.tenant == tenant, calls.c.started_at < before, has_content)
        total = 0
        while True:
            with self._database.writing() as connection:
                ids = list(connection.scalars(old.limit(_AT_ONCE)))
                connection.execute(update(calls).where(calls.c.call_id.in_(ids)).values(content=None))
            total += len(ids)
            if len(ids) < _AT_ONCE:
                return total


def periods_by_tenant(database: Database, otherwise: Periods) -> Callable[[str], Periods]:
    """How long each tenant's records are kept, as it is told now; `otherwise` where a tenant says nothing of its own.

    Raises StoreUnavailable.
    """
    with database.reading() as connection:
        own = {row.id: json.loads(row.grants).get("retention") for row in connection.execute(select(tenants))}
    return lambda tenant: _periods(own.get(tenant), otherwise)


def _tenants_with_calls(connection: Connection) -> Iterator[str]:
    """One step of the index for each tenant: `SELECT DISTINCT` would walk all calls."""
    tenant = ""
    while True:
        found = connection.scalar(
            select(calls.c.tenant).where(calls.c.tenant > tenant).order_by(calls.c.tenant).limit(1)
        )
        if found is None:
            return
        yield found
        tenant = found


def _periods(written: dict[str, str] | None, otherwise: Periods) -> Periods:
    """A tenant's own, as it was written; where it says nothing of one, the gateway's."""
    if not written:
        return otherwise

    def of(name: str, other: Kept) -> Kept:
        value = written.get(name)
        return other if value is None else "forever" if value == "forever" else duration(value)

    return Periods(of("calls", otherwise.calls), of("content", otherwise.content))
