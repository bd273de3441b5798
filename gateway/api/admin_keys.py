"""Keys of the record store: made, shown, changed, rotated, revoked. Those of the configuration are shown beside them.

One who administers a tenant or an organisation does so with its own keys only; what others have is not there for them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Body, Query, Request

from gateway.access.granting import (
    bounded,
    check_known,
    check_may_change,
    check_may_hold,
    check_place,
    configured_keys,
    end_of,
    known_tenants,
)
from gateway.access.keys import new_key, revoked, rotated, without_secrets
from gateway.access.roles import is_over
from gateway.api.administration import Administration, asked, logged, visible_tenants
from gateway.api.key_requests import KeyChange, NewKey, Revocation, Rotation
from gateway.config.access import StoredGrants
from gateway.errors import BadRequest, Forbidden, NotFound
from gateway.records.keys import KeyStore
from gateway.runtime import Gateway
from gateway.tenancy import StoredKey
from gateway.values import Caller

_MOST = 1_000  # keys of a page


def router(administration: Administration, gateway: Gateway, store: KeyStore) -> APIRouter:
    """After each change this worker goes by it at once; the others do within a second."""
    routes = APIRouter(prefix="/admin/keys", tags=["keys"], route_class=administration.route)
    sees = administration.allowed("viewer", everywhere=False)
    manages = administration.allowed("admin", everywhere=False)

    async def found(key_id: str, who: Caller) -> StoredKey:
        """The key, if it is there for them. Raises NotFound, and BadRequest for one of the configuration."""
        key = await asked(store.key, key_id)
        if key is None or not await _is_over(store, who, key.tenant):
            if key is None and who.scope == "gateway" and key_id in configured_keys(gateway.revision.configuration):
                raise BadRequest("This key is written in the configuration file: change it there, and reload.")
            raise NotFound(f"There is no key '{key_id}'.", param="key_id")
        return key

    async def change(
        key_id: str, action: str, make: Callable[[StoredKey], StoredKey], request: Request, reason: str = ""
    ) -> StoredKey:
        after = await asked(store.change_key, key_id, action, make, administration.actor(request), reason)
        if after is None:
            raise NotFound(f"There is no key '{key_id}'.", param="key_id")
        logged(request)
        await gateway.revision.keyring.refresh()
        return after

    @routes.post("", name="keys.create", status_code=201)
    async def create(asked_for: NewKey, request: Request, who: Caller = manages) -> dict[str, Any]:
        """Make a key. Its secret, `key`, is in this answer and nowhere else."""
        tenant = asked_for.tenant or (who.tenant if who.scope != "gateway" else "default")
        await _check_tenant(store, who, tenant, gateway)
        written = bounded(who, await _written(request))  # first, so that no model is told of whom it is hidden from
        check_known(asked_for, gateway.revision.configuration)
        check_place(who, asked_for, tenant)
        actor, end = administration.actor(request), end_of(who, asked_for, asked_for.end)
        secret, key = new_key(written, tenant=tenant, created_by=actor.key_name, name=asked_for.name, expires_at=end)
        await asked(store.add_key, key, actor)
        logged(request)
        await gateway.revision.keyring.refresh()
        return {"key": secret, **key.told(time.time())}

    @routes.get("", name="keys.list")
    async def list_keys(
        tenant: str | None = None,
        after: str | None = None,
        limit: Annotated[int, Query(ge=1, le=_MOST)] = 100,
        who: Caller = sees,
    ) -> dict[str, Any]:
        """By their age, the oldest first; the first page begins with the configuration's, beside its `limit`."""
        visible = await visible_tenants(store, who)
        if tenant is not None:
            visible = frozenset({tenant}) if visible is None or tenant in visible else frozenset()
        keys = await asked(store.keys, of_tenants=visible, after=after, limit=limit + 1)
        now = time.time()
        configured = [
            told
            for told in configured_keys(gateway.revision.configuration).values()
            if after is None and (visible is None or told["tenant"] in visible)
        ]
        page = keys[:limit]
        return {
            "object": "list",
            "data": [*configured, *(key.told(now) for key in page)],
            "has_more": len(keys) > limit,
            "last_id": page[-1].id if page else None,
        }

    @routes.get("/{key_id}", name="keys.show")
    async def show(key_id: str, who: Caller = sees) -> dict[str, Any]:
        """One key: what it may do, and what became of it."""
        configured = configured_keys(gateway.revision.configuration).get(key_id)
        if configured is not None and await _is_over(store, who, configured["tenant"]):
            return configured
        return (await found(key_id, who)).told(time.time())

    @routes.patch("/{key_id}", name="keys.change")
    async def patch(key_id: str, asked_for: KeyChange, request: Request, who: Caller = manages) -> dict[str, Any]:
        """Change what is named in the body. In force in every worker within a second."""
        await found(key_id, who)
        if who.key_id == key_id and who.scope != "gateway":
            raise Forbidden("A key can't change itself: ask who administers the whole gateway.")
        given = await _written(request)
        bounded(who, given)
        check_known(asked_for, gateway.revision.configuration)
        named = asked_for.model_fields_set

        def changes(before: StoredKey) -> StoredKey:
            check_may_change(who, before.grants)
            written = bounded(who, {**before.written, **given})
            grants = StoredGrants.model_validate(written)
            check_place(who, grants, before.tenant)
            end = asked_for.end if named & {"expires_at", "expires_in"} else before.expires_at
            if named & {"expires_at", "expires_in", "role"}:
                end = end_of(who, grants, end)
            return replace(
                before,
                name=asked_for.name or before.name,
                written=written,
                grants=grants,
                expires_at=end,
            )

        return (await change(key_id, "keys.change", changes, request)).told(time.time())

    @routes.post("/{key_id}/rotate", name="keys.rotate")
    async def rotate(
        key_id: str, request: Request, asked_for: Annotated[Rotation, Body()] = Rotation(), who: Caller = manages
    ) -> dict[str, Any]:
        """A new secret for the key, in this answer alone; the one before works for the `overlap` more."""
        tenant = await asked(store.tenant, (await found(key_id, who)).tenant)
        bound = tenant.grants.models if tenant is not None else None
        made: list[str] = []

        def changes(before: StoredKey) -> StoredKey:
            check_may_hold(who, before.grants, before.tenant, bound)
            if before.status(time.time()) != "active":
                raise BadRequest(f"The key '{key_id}' is {before.status(time.time())}: make a new one.")
            secret, after = rotated(before, asked_for.overlap)
            made.append(secret)
            return after

        after = await change(key_id, "keys.rotate", changes, request)
        return {"key": made[-1], **after.told(time.time())}

    @routes.post("/{key_id}/revoke", name="keys.revoke")
    async def revoke(
        key_id: str, request: Request, asked_for: Annotated[Revocation, Body()] = Revocation(), who: Caller = manages
    ) -> dict[str, Any]:
        """The key is dead, for good: in this worker now, in every worker within a second."""
        await found(key_id, who)
        by = administration.actor(request).key_name

        def changes(before: StoredKey) -> StoredKey:
            check_may_change(who, before.grants)
            return before if before.revoked_at is not None else revoked(before, by)

        return (await change(key_id, "keys.revoke", changes, request, without_secrets(asked_for.reason))).told(
            time.time()
        )

    return routes


async def _written(request: Request) -> dict[str, Any]:
    """What the body grants, as it was written: what is stored."""
    body: dict[str, Any] = await request.json()
    return {name: value for name, value in body.items() if name in StoredGrants.model_fields}


async def _is_over(store: KeyStore, who: Caller, tenant: str) -> bool:
    if who.scope != "organisation":
        return is_over(who, tenant, None)
    known = await asked(store.tenant, tenant)
    return is_over(who, tenant, known.organisation if known is not None else None)


async def _check_tenant(store: KeyStore, who: Caller, tenant: str, gateway: Gateway) -> None:
    """Raises NotFound alike for a tenant that is not and one that is not the caller's."""
    there = tenant in known_tenants(gateway.revision.configuration) or await asked(store.tenant, tenant) is not None
    if not there or not await _is_over(store, who, tenant):
        raise NotFound(f"There is no tenant '{tenant}'. POST /admin/tenants makes one.", param="tenant")
