"""What the gateway holds of a user, for whoever answers that user's request to see it, or to have it erased."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from gateway.api.administration import Administration, asked, note, visible_tenants
from gateway.errors import Forbidden
from gateway.records.keys import KeyStore
from gateway.records.users import UserRecords
from gateway.tenancy import Deed, user_label
from gateway.user_data import UserData
from gateway.values import Caller


class UserRequest(BaseModel):
    """`user` of `tenant`, as calls name them; `reason` is kept in the audit log."""

    model_config = ConfigDict(extra="forbid")

    user: Annotated[str, Field(min_length=1, max_length=256)]
    tenant: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")] = "default"
    reason: Annotated[str, Field(max_length=1000)] = ""


# `features`: those that all tenants share only a role over the whole gateway touches.
def router(administration: Administration, data: UserData, records: UserRecords, keys: KeyStore) -> APIRouter:
    routes = APIRouter(prefix="/admin", tags=["users"], route_class=administration.route)
    manages, sees = (
        administration.allowed("admin", everywhere=False),
        administration.allowed("viewer", everywhere=False),
    )

    async def check(who: Caller, tenant: str) -> None:
        seen = await visible_tenants(keys, who)
        if seen is not None and tenant not in seen:
            raise Forbidden(f"The role of this key is over its {who.scope}, not over the tenant '{tenant}'.")

    @routes.post("/exports", name="users.export")
    async def export(about: UserRequest, request: Request, who: Caller = manages) -> StreamingResponse:
        """All that is kept of a user, as JSON lines: each has its kind under `object`."""
        await check(who, about.tenant)
        everything = data.export(about.tenant, about.user, features=who.scope == "gateway")
        first = await anext(everything, None)  # what can't be had is told by a status, not by half an answer
        note(request, Deed("users.export", user_label(about.tenant, about.user), about.tenant, reason=about.reason))

        async def lines() -> AsyncIterator[bytes]:
            if first is not None:
                yield _line(first)
            async for one in everything:
                yield _line(one)

        return StreamingResponse(lines(), media_type="application/x-ndjson")

    @routes.post("/erasures", name="users.erase")
    async def erase(about: UserRequest, request: Request, who: Caller = manages) -> dict[str, Any]:
        """Erase all that is kept of a user, in records, caches, files, conversations and features; the receipt."""
        await check(who, about.tenant)
        receipt = await data.erase(
            about.tenant, about.user, administration.actor(request), features=who.scope == "gateway"
        )
        told = receipt.told()
        note(request, Deed("users.erase", user_label(about.tenant, about.user), about.tenant, None, told, about.reason))
        return told

    @routes.get("/erasures", name="users.erasures")
    async def erasures(limit: Annotated[int, Query(ge=1, le=1000)] = 100, who: Caller = sees) -> dict[str, Any]:
        """The receipts of what was erased, newest first; they do not name the user."""
        seen = await visible_tenants(keys, who)
        return {"object": "list", "data": await asked(records.receipts, seen, limit)}

    return routes


def _line(told: dict[str, Any]) -> bytes:
    return json.dumps(told, ensure_ascii=True, default=str).encode() + b"\n"
