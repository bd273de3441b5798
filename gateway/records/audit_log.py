"""Who did what to the gateway, before and after: rows that are only ever added.

The table's triggers refuse to change or delete a row, whoever asks. What is changed in the record store is logged in the
same transaction: neither is there without the other.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any, Literal

from sqlalchemy import Connection, select

from gateway.records.database import Database
from gateway.records.schema import audit_log
from gateway.tenancy import Actor, Deed

Outcome = Literal["done", "refused", "failed"]


def append(connection: Connection, actor: Actor, deed: Deed, outcome: Outcome = "done") -> None:
    """Add a row, in the transaction of `connection`."""
    connection.execute(
        audit_log.insert().values(
            at=time.time_ns(),
            key_id=actor.key_id,
            key_name=actor.key_name,
            key_tenant=actor.tenant,
            address=actor.address,
            request_id=actor.request_id,
            action=deed.action,
            object=deed.object,
            tenant=deed.tenant,
            outcome=outcome,
            reason=deed.reason,
            before=_json(deed.before),
            after=_json(deed.after),
        )
    )


class AuditLog:
    """Blocking; any thread may. Raises StoreUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, actor: Actor, deed: Deed, outcome: Outcome = "done") -> None:
        with self._database.writing() as connection:
            append(connection, actor, deed, outcome)

    def entries(
        self,
        *,
        tenants: frozenset[str] | None = None,
        key_id: str | None = None,
        action: str | None = None,
        object: str | None = None,
        outcome: Outcome | None = None,
        since: float | None = None,
        until: float | None = None,
        before: int | None = None,
        limit: int = 100,
    ) -> list[dict[str, Any]]:
        """The newest first. `tenants`: what was done in these alone; `action` may be the part before the dot;
        `since` and `until` in seconds since the epoch; `before`, an entry's id, goes on where a page ended."""
        query = select(audit_log).order_by(audit_log.c.id.desc()).limit(limit)
        if tenants is not None:
            query = query.where(audit_log.c.tenant.in_(sorted(tenants)))
        for column, wanted in (("key_id", key_id), ("object", object), ("outcome", outcome)):
            if wanted is not None:
                query = query.where(audit_log.c[column] == wanted)
        if action is not None:
            query = query.where(
                audit_log.c.action == action
                if "." in action
                else audit_log.c.action.startswith(action + ".", autoescape=True)
            )
        if since is not None:
            query = query.where(audit_log.c.at >= _ns(since))
        if until is not None:
            query = query.where(audit_log.c.at < _ns(until))
        if before is not None:
            query = query.where(audit_log.c.id < before)
        with self._database.reading() as connection:
            return [_told(row._mapping) for row in connection.execute(query)]


def _told(row: Mapping[Any, Any]) -> dict[str, Any]:
    who = {"key_id": row["key_id"], "key_name": row["key_name"], "tenant": row["key_tenant"], "address": row["address"]}
    return {
        "id": row["id"],
        "object": "audit.entry",
        "at": row["at"] / 1e9,
        "actor": who,
        "action": row["action"],
        "target": row["object"],
        "tenant": row["tenant"],
        "outcome": row["outcome"],
        "reason": row["reason"],
        "before": json.loads(row["before"]) if row["before"] is not None else None,
        "after": json.loads(row["after"]) if row["after"] is not None else None,
        "request_id": row["request_id"],
    }


def _ns(seconds: float) -> int:
    """Of what an integer of the database can hold, which ends in the year 2262."""
    return min(int(seconds * 1e9), 2**63 - 1)


def _json(what: Mapping[str, Any] | None) -> str | None:
    return json.dumps(what, ensure_ascii=False) if what is not None else None
