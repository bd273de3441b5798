"""What is left of limits and budgets."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Depends

from gateway.access.standing import own_standings, standings
from gateway.api.administration import Administration
from gateway.api.identity import Identified
from gateway.runtime import Gateway
from gateway.values import Caller


def router(administration: Administration, gateway: Gateway, caller: Identified) -> APIRouter:
    routes = APIRouter()
    identified = Depends(caller)

    async def of_this_worker(asked: Any) -> Any:
        limits = gateway.revision.limits
        return [] if limits is None else await standings(limits, asked)

    gateway.siblings.answer("limits", of_this_worker)

    @routes.get("/admin/limits", tags=["admin"], dependencies=[administration.allowed("viewer")])
    async def all_limits(
        key: str | None = None, user: str | None = None, tenant: str | None = None, model: str | None = None
    ) -> dict[str, Any]:
        """Each limit and budget that is being used up, and by whom: a thousand of them at most, so name a subject.

        `key` is a key's id. `used` has what is reserved for calls that run in it; money is in USD.
        """
        asked = {"key": key, "user": user, "tenant": tenant, "model": model}
        wanted = {name: value for name, value in asked.items() if value is not None}
        told = await gateway.siblings.ask("limits", wanted)
        rows = [row for rows in told.values() for row in rows] if told else await of_this_worker(wanted)
        once = {str((row["limit"], row["of"], row["when"])): row for row in rows}
        return {"object": "list", "data": list(once.values())}

    @routes.get("/v1/limits", tags=["limits"])
    async def own_limits(who: Caller = identified) -> dict[str, Any]:
        """The limits and budgets that hold for calls with this key, and what is left of them."""
        revision = gateway.revision
        if revision.limits is None:
            return {"object": "list", "data": []}
        models = [name for name in revision.pipelines if who.may_use(name)]
        return {"object": "list", "data": await own_standings(revision.limits, who, models)}

    return routes
