"""The ASGI application: hot paths in front, FastAPI behind, errors alike on both."""

from __future__ import annotations

from fastapi import FastAPI

from gateway.api import (
    admin,
    admin_audit,
    admin_cache,
    admin_keys,
    admin_privacy,
    admin_prompts,
    admin_tenants,
    admin_users,
    calls,
    documentation,
    errors,
    feedback,
    limits,
    page,
    stored_responses,
)
from gateway.api.administration import Administration
from gateway.api.completions import Completions
from gateway.api.cors import ForBrowsers
from gateway.api.front import Front
from gateway.api.identity import identifier, speaker
from gateway.api.inbound import Inbound
from gateway.api.messages import Messages, counting
from gateway.api.responses import Responses
from gateway.api.routes import Health, router
from gateway.assembly import Records, Services
from gateway.records.audit_log import AuditLog
from gateway.records.keys import KeyStore
from gateway.records.known_users import KnownUsers
from gateway.records.prompts import PromptStore
from gateway.routing.control import RoutingControl
from gateway.routing.fleet import Fleet
from gateway.runtime import Gateway
from gateway.user_data import UserData


def create_app(
    gateway: Gateway,
    records: Records,
    fleet: Fleet,
    health: Health,
    services: Services,
) -> Front:
    app = FastAPI(
        title="rag-gateway",
        description="One OpenAI-compatible door in front of every language model.",
        docs_url="/docs",
        redoc_url=None,
        redirect_slashes=False,  # it would send clients to whatever the Host header says
    )
    errors.install(app)
    caller = identifier(gateway)
    app.include_router(router(gateway, caller, health))
    app.include_router(calls.router(caller, gateway, records.queries))
    app.include_router(feedback.router(caller, gateway, records.feedback, fleet.routing))
    keys, audit = KeyStore(records.database), AuditLog(records.database)
    administration = Administration(gateway, caller, audit)
    app.include_router(admin.router(administration, RoutingControl(records.routing, fleet.routing), fleet, gateway))
    app.include_router(admin_keys.router(administration, gateway, keys))
    app.include_router(admin_tenants.router(administration, gateway, keys))
    app.include_router(admin_users.router(administration, gateway, keys, KnownUsers(records.database)))
    prompts = PromptStore(records.database)
    app.include_router(admin_prompts.router(administration, gateway, keys, prompts, services.prompts))
    app.include_router(admin_audit.router(administration, audit, keys))
    app.include_router(admin_cache.router(administration, gateway, services.caches, keys))
    app.include_router(limits.router(administration, gateway, speaker(gateway)))
    user_data = UserData(
        records.users,
        KnownUsers(records.database),
        gateway.journal,
        lambda what: admin_cache.purge_everywhere(what, services.caches, gateway),
        services.features,
        lambda: gateway.revision.configuration.user_entities,
        services.vector_stores,
        lake=records.analyst is not None,
    )
    app.include_router(admin_privacy.router(administration, user_data, records.users, keys))
    if services.features is not None:
        from gateway.api import features

        app.include_router(features.router(caller, gateway, services.features, keys))
        gateway.rated = services.features.rated
    if services.vector_stores is not None:
        from gateway.api import knowledge

        app.include_router(knowledge.router(gateway, services.vector_stores))
    app.include_router(counting(gateway, caller))
    if records.responses is not None:
        app.include_router(stored_responses.router(speaker(gateway), records.responses))
    app.include_router(page.router(gateway))
    documentation.install(app)
    # The APIs other than OpenAI's chat and embeddings, by path: each is one line here.
    inbound: dict[str, Inbound] = {
        "/v1/completions": Completions(),
        "/v1/messages": Messages(),
        "/v1/responses": Responses(records.responses),
    }
    return Front(ForBrowsers(app, gateway), gateway, inbound)
