"""The audit log, to be read."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query

from gateway.api.administration import Administration, asked, visible_tenants
from gateway.config.access import Moment
from gateway.records.audit_log import AuditLog
from gateway.records.keys import KeyStore
from gateway.values import Caller


def router(administration: Administration, log: AuditLog, store: KeyStore) -> APIRouter:
    routes = APIRouter(prefix="/admin/audit", tags=["audit"], route_class=administration.route)
    sees = administration.allowed("viewer", everywhere=False)

    @routes.get("", name="audit.list")
    async def entries(
        action: str | None = None,
        key: str | None = None,
        target: str | None = None,
        tenant: str | None = None,
        outcome: Literal["done", "refused", "failed"] | None = None,
        since: Moment | None = None,
        until: Moment | None = None,
        before: Annotated[int, Query(ge=1, lt=2**63)] | None = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        who: Caller = sees,
    ) -> dict[str, Any]:
        """What was done, refused or failed, newest first: who (`key` is a key's id), what, before and after.

        `action` is like keys.create, or keys for all of them; `target` is what it was done to. `before`, the
        `last_id` of a page, goes on where that one ended. Who reads for a tenant sees what was done in it.
        """
        visible = await visible_tenants(store, who)
        if tenant is not None:
            visible = frozenset({tenant}) if visible is None or tenant in visible else frozenset()
        found = await asked(
            log.entries, tenants=visible, key_id=key, action=action, object=target, outcome=outcome,
            since=since, until=until, before=before, limit=limit + 1,
        )  # fmt: skip
        page = found[:limit]
        return {
            "object": "list",
            "data": page,
            "has_more": len(found) > limit,
            "last_id": page[-1]["id"] if page else None,
        }

    return routes
