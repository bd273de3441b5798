"""Organisations and their tenants: made, shown, changed, suspended."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import Field

from gateway.access.granting import known_tenants, tokens_name_tenants
from gateway.access.roles import is_over
from gateway.api.administration import Administration, asked, logged
from gateway.config.access import TenantGrants, TenantName, unknown_models
from gateway.config.section import Section
from gateway.errors import BadRequest, Conflict, Forbidden, NotFound
from gateway.records.keys import KeyStore
from gateway.runtime import Gateway
from gateway.tenancy import Organisation, Tenant
from gateway.values import Caller

Name = Annotated[str, Field(min_length=1, max_length=200)]


class NewOrganisation(Section):
    id: TenantName
    name: Name | None = None


class NewTenant(TenantGrants):
    """`models` is what its keys may use at most, `limits` what they may use up together."""

    id: TenantName
    name: Name | None = None
    organisation: TenantName | None = None


class TenantChange(TenantGrants):
    """What shall be otherwise; the rest stays as it is. A tenant's keys are refused while it is `suspended`."""

    name: Name | None = None
    organisation: TenantName | None = None
    suspended: bool | None = None


def router(administration: Administration, gateway: Gateway, store: KeyStore) -> APIRouter:
    """After each change this worker goes by it at once; the others do within a second."""
    routes = APIRouter(prefix="/admin", tags=["tenants"], route_class=administration.route)
    everywhere = administration.allowed("admin")
    sees = administration.allowed("viewer", everywhere=False)
    manages = administration.allowed("admin", everywhere=False)

    async def check_organisation(organisation: str | None) -> None:
        if organisation is not None and await asked(store.organisation, organisation) is None:
            raise NotFound(f"There is no organisation '{organisation}'.", param="organisation")

    def check_models(grants: TenantGrants) -> None:
        if unknown := unknown_models(grants.models, gateway.revision.configuration):
            raise BadRequest(f"There is no model '{unknown[0]}'.", param="models")

    @routes.post("/organisations", name="organisations.create", status_code=201)
    async def create_organisation(
        asked_for: NewOrganisation, request: Request, who: Caller = everywhere
    ) -> dict[str, Any]:
        """Make an organisation, which tenants can belong to."""
        actor = administration.actor(request)
        made = Organisation(asked_for.id, asked_for.name or asked_for.id, time.time(), actor.key_name)
        if not await asked(store.add_organisation, made, actor):
            raise Conflict(f"There is an organisation '{made.id}' already.", param="id")
        logged(request)
        return made.told()

    @routes.get("/organisations", name="organisations.list")
    async def list_organisations(who: Caller = sees) -> dict[str, Any]:
        """Those that the caller's role is over."""
        organisations = await asked(store.organisations)
        own = [one for one in organisations if who.scope == "gateway" or one.id == who.organisation]
        return {"object": "list", "data": [one.told() for one in own]}

    @routes.post("/tenants", name="tenants.create", status_code=201)
    async def create_tenant(asked_for: NewTenant, request: Request, who: Caller = manages) -> dict[str, Any]:
        """Make a tenant. Nobody but who administers the gateway can, or the organisation that it is to belong to."""
        organisation = asked_for.organisation
        if who.scope != "gateway":
            organisation = organisation or who.organisation
            if who.scope != "organisation" or organisation is None or organisation != who.organisation:
                raise Forbidden("This needs a key with the role `admin` over the whole gateway or the organisation.")
            # Who makes a tenant is over it: none that has keys or tokens already may be taken so.
            if tokens_name_tenants(gateway.revision.configuration):
                raise Forbidden("Tokens may name any tenant here: one is made by who administers the whole gateway.")
            held = await asked(store.keys, of_tenants=frozenset({asked_for.id}), limit=1)
            if held or asked_for.id in known_tenants(gateway.revision.configuration):
                raise Conflict(f"There is a tenant '{asked_for.id}' already.", param="id")
        await check_organisation(organisation)
        check_models(asked_for)
        actor = administration.actor(request)
        written = await _written(request)
        made = Tenant(
            asked_for.id, asked_for.name or asked_for.id, organisation, written,
            TenantGrants.model_validate(written), time.time(), actor.key_name,
        )  # fmt: skip
        if not await asked(store.add_tenant, made, actor):
            raise Conflict(f"There is a tenant '{made.id}' already.", param="id")
        logged(request)
        await gateway.revision.keyring.refresh()
        return made.told()

    @routes.get("/tenants", name="tenants.list")
    async def list_tenants(who: Caller = sees) -> dict[str, Any]:
        """Those that the caller's role is over; also those that only the configuration's keys name."""
        tenants = await asked(store.tenants)
        told = {tenant.id: tenant.told() for tenant in tenants if is_over(who, tenant.id, tenant.organisation)}
        for name in known_tenants(gateway.revision.configuration):
            if is_over(who, name, None):
                told.setdefault(name, {"id": name, "object": "tenant", "source": "configuration"})
        return {"object": "list", "data": [told[name] for name in sorted(told)]}

    async def found(tenant_id: str, who: Caller) -> Tenant:
        tenant = await asked(store.tenant, tenant_id)
        if tenant is None or not is_over(who, tenant.id, tenant.organisation):
            raise NotFound(f"There is no tenant '{tenant_id}' in the record store.", param="tenant_id")
        return tenant

    @routes.get("/tenants/{tenant_id}", name="tenants.show")
    async def show(tenant_id: str, who: Caller = sees) -> dict[str, Any]:
        return (await found(tenant_id, who)).told()

    @routes.patch("/tenants/{tenant_id}", name="tenants.change")
    async def change(
        tenant_id: str, asked_for: TenantChange, request: Request, who: Caller = manages
    ) -> dict[str, Any]:
        """Change what is named in the body. A tenant's own admin can't: it is what bounds them."""
        await found(tenant_id, who)
        if who.scope == "tenant" or (who.scope == "organisation" and tenant_id == who.tenant):
            raise Forbidden("Who administers a tenant can't change what bounds it: ask who administers what it is in.")
        named = asked_for.model_fields_set
        if "organisation" in named and who.scope != "gateway":
            raise Forbidden("This needs a key with the role `admin` over the whole gateway.")
        await check_organisation(asked_for.organisation)
        check_models(asked_for)
        given = await _written(request)

        def changes(before: Tenant) -> Tenant:
            written = {**before.written, **given}
            suspended_at = before.suspended_at
            if asked_for.suspended is not None:
                suspended_at = (suspended_at or time.time()) if asked_for.suspended else None
            return replace(
                before,
                name=asked_for.name or before.name,
                organisation=asked_for.organisation if "organisation" in named else before.organisation,
                written=written,
                grants=TenantGrants.model_validate(written),
                suspended_at=suspended_at,
            )

        after = await asked(store.change_tenant, tenant_id, changes, administration.actor(request))
        if after is None:
            raise NotFound(f"There is no tenant '{tenant_id}'.", param="tenant_id")
        logged(request)
        await gateway.revision.keyring.refresh()
        return after.told()

    return routes


async def _written(request: Request) -> dict[str, Any]:
    """What the body grants, as it was written: what is stored."""
    body: dict[str, Any] = await request.json()
    return {name: value for name, value in body.items() if name in TenantGrants.model_fields}
