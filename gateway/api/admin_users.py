"""Users of a tenant, as far as operators tell the gateway of them: their groups, and who is suspended."""

from __future__ import annotations

import time
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from gateway.access.granting import known_tenants
from gateway.api.administration import Administration, asked, logged, visible_tenants
from gateway.config.access import TenantName
from gateway.errors import NotFound
from gateway.records.keys import KeyStore
from gateway.records.known_users import KnownUsers
from gateway.runtime import Gateway
from gateway.tenancy import User
from gateway.values import Caller

UserId = Annotated[str, Field(min_length=1, max_length=256)]


class KnownUser(BaseModel):
    """All that is to be known of a user. `groups` count for calls in the user's name, beside the key's own."""

    model_config = ConfigDict(extra="forbid")

    id: UserId
    tenant: TenantName | None = None
    name: Annotated[str, Field(max_length=200)] = ""
    groups: list[Annotated[str, Field(min_length=1, max_length=256)]] = []
    suspended: bool = False


def router(administration: Administration, gateway: Gateway, store: KeyStore, users: KnownUsers) -> APIRouter:
    """After each change this worker goes by it at once; the others do within a second."""
    routes = APIRouter(prefix="/admin/users", tags=["users"], route_class=administration.route)
    sees = administration.allowed("viewer", everywhere=False)
    manages = administration.allowed("admin", everywhere=False)

    async def tenant_of(tenant: str | None, who: Caller) -> str:
        """Raises NotFound alike for a tenant that is not and one that is not the caller's."""
        name = tenant or (who.tenant if who.scope != "gateway" else "default")
        visible = await visible_tenants(store, who)
        there = name in known_tenants(gateway.revision.configuration) or await asked(store.tenant, name) is not None
        if not there or (visible is not None and name not in visible):
            raise NotFound(f"There is no tenant '{name}'.", param="tenant")
        return name

    @routes.put("", name="users.put")
    async def put(told: KnownUser, request: Request, who: Caller = manages) -> dict[str, Any]:
        """Tell the gateway of a user, in place of what it was told before."""
        actor, now = administration.actor(request), time.time()
        user = User(
            await tenant_of(told.tenant, who), told.id, told.name, tuple(told.groups), now, actor.key_name,
            now if told.suspended else None,
        )  # fmt: skip
        kept = await asked(users.put, user, actor)
        logged(request)
        await gateway.revision.keyring.refresh()
        return kept.told()

    @routes.get("", name="users.list")
    async def list_users(
        tenant: str | None = None,
        id: str | None = None,
        after: str | None = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        who: Caller = sees,
    ) -> dict[str, Any]:
        """Those of a tenant, by their ids; or the one of that `id`. `after`, an id, goes on where a page ended."""
        name = await tenant_of(tenant, who)
        if id is not None:
            found = await asked(users.user, name, id)
            return {"object": "list", "data": [found.told()] if found is not None else [], "has_more": False}
        page = await asked(
            users.users, of_tenants=frozenset({name}), after=(name, after) if after else None, limit=limit + 1
        )
        data = [user.told() for user in page[:limit]]
        return {
            "object": "list",
            "data": data,
            "has_more": len(page) > limit,
            "last_id": data[-1]["id"] if data else None,
        }

    @routes.delete("", name="users.remove")
    async def remove(
        id: Annotated[str, Query(min_length=1)], request: Request, tenant: str | None = None, who: Caller = manages
    ) -> dict[str, Any]:
        """Forget what was told of a user. What calls in the user's name have left is another matter: /admin/erasures."""
        name = await tenant_of(tenant, who)
        if not await asked(users.remove, name, id, administration.actor(request)):
            raise NotFound("Nothing is known of this user.", param="id")
        logged(request)
        await gateway.revision.keyring.refresh()
        return {"id": id, "object": "user.deleted", "deleted": True}

    return routes
