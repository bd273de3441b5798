"""Kept answers as operators see them: how many there are, and away with those that should not be given any more."""

from __future__ import annotations

from typing import Annotated, Any, Self

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field, model_validator

from gateway.api.administration import Administration, note, visible_tenants
from gateway.cache.caches import Caches, spelled
from gateway.cache.protocol import CacheUnavailable, Purge
from gateway.errors import Forbidden, StageFailed
from gateway.records.keys import KeyStore
from gateway.runtime import Gateway
from gateway.tenancy import Deed, user_label
from gateway.values import Caller

_Name = Annotated[str, Field(min_length=1, max_length=1000)]


class PurgeRequest(BaseModel):
    """Answers that fit all of what is named here; `everything` where nothing is. `reason` is kept in the log.

    `key` is the one that a call's record shows, `model` a public model, `document` a document's id.
    """

    model_config = ConfigDict(extra="forbid")

    key: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    model: _Name | None = None
    tenant: _Name | None = None
    user: _Name | None = None
    collection: _Name | None = None
    document: _Name | None = None
    everything: bool = False
    reason: Annotated[str, Field(max_length=1000)] = ""

    @property
    def named(self) -> dict[str, str]:
        return {
            name: value
            for name in ("key", "model", "tenant", "user", "collection", "document")
            if (value := getattr(self, name)) is not None
        }

    @model_validator(mode="after")
    def _says_what(self) -> Self:
        if not self.named and not self.everything:
            raise ValueError(
                "name what is to go by key, model, tenant, user, collection or document, or say `everything: true`"
            )
        if self.named and self.everything:
            raise ValueError(f"`everything` leaves nothing to choose by {next(iter(self.named))}: say one of them")
        return self


def router(administration: Administration, gateway: Gateway, caches: Caches, keys: KeyStore) -> APIRouter:
    routes = APIRouter(prefix="/admin/cache", tags=["admin"], route_class=administration.route)
    sees, operates = administration.allowed("viewer"), administration.allowed("operator", everywhere=False)

    @routes.get("", dependencies=[sees])
    async def overview() -> dict[str, Any]:
        """How many answers are kept, by store; those in memory of all workers together.

        `semantic` is what the semantic caches of all workers have found since each was started, by model, where there
        are any.
        """
        told = await gateway.siblings.ask("cache.told")
        try:
            return {"object": "cache", **await caches.overview([*told.values()] or [await caches.here()])}
        except CacheUnavailable as away:
            raise StageFailed(f"The cache can't be looked into: {away}.", code="cache_unavailable") from None

    @routes.post("/purge", name="cache.purge")
    async def purge(asked: PurgeRequest, request: Request, who: Caller = operates) -> dict[str, Any]:
        """Let go of kept answers, exact and semantic, in every worker; also of what is being made just now.

        A role over one tenant or organisation purges what is theirs.
        """
        key = bytes.fromhex(asked.key) if asked.key is not None else None
        seen = await visible_tenants(keys, who)
        if seen is not None and asked.tenant is not None and asked.tenant not in seen:
            raise Forbidden(f"The role of this key is over its {who.scope}, not over the tenant '{asked.tenant}'.")
        tenants = [asked.tenant] if asked.tenant is not None or seen is None else sorted(seen)
        gone = 0
        for tenant in tenants:
            gone += await purge_everywhere(
                Purge(key, asked.model, tenant, asked.user, asked.collection, asked.document), caches, gateway
            )
        told = {**asked.named, "user": user_label(asked.tenant or "", asked.user)} if asked.user else asked.named
        named = ", ".join(f"{name} {value}" for name, value in told.items()) or "everything"
        note(request, Deed("cache.purge", named[:256], asked.tenant, None, {"answers": gone}, asked.reason))
        return {"object": "cache.purge", "purged": gone}

    return routes


async def purge_everywhere(what: Purge, caches: Caches, gateway: Gateway) -> int:
    """In all workers and whatever they share; how many answers went. Raises StageFailed where some that should go may be left.

    Redis hears of it first, then each worker's memory, what they share last: so whoever keeps an answer after it was
    looked for there learns from Redis, or from its own memory, that it may have been meant.
    """
    siblings = gateway.siblings
    failure: CacheUnavailable | None = None
    try:
        await caches.announce()
    except CacheUnavailable as away:
        failure = away
    told = await siblings.ask("cache.purge", spelled(what))
    here = sum(told.values()) if told else await caches.purge_here(what)
    silent = [number for number, state in siblings.states.items() if state == "ready" and int(number) not in told]
    gone = here
    try:
        gone += await caches.purge_shared(what)
    except CacheUnavailable as away:
        failure = away
    if failure is not None:
        raise StageFailed(
            f"Not everything could be purged ({failure}). Try again shortly.", code="cache_unavailable", retry_after="1"
        )
    if silent:
        raise StageFailed(
            "Not everything could be purged: a worker did not answer. Try again shortly.",
            code="cache_unavailable",
            retry_after="1",
        )
    return gone
