"""The ASGI application: hot paths in front, FastAPI behind, errors alike on both."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import FastAPI

from gateway.api import admin, documentation, errors, feedback, stored_responses
from gateway.api.completions import Completions
from gateway.api.front import Front
from gateway.api.inbound import Inbound
from gateway.api.messages import Messages, counting
from gateway.api.responses import Responses
from gateway.api.routes import Health, identifier, router, speaker
from gateway.assembly import Records
from gateway.routing.control import RoutingControl
from gateway.routing.fleet import Fleet
from gateway.runtime import Gateway

if TYPE_CHECKING:
    from gateway.vector_stores import VectorStores


def create_app(
    gateway: Gateway, records: Records, fleet: Fleet, health: Health, vector_stores: VectorStores | None = None
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
    app.include_router(feedback.router(caller, gateway, records.feedback, fleet.routing))
    app.include_router(admin.router(caller, RoutingControl(records.routing, fleet.routing), fleet))
    if vector_stores is not None:
        from gateway.api import knowledge

        app.include_router(knowledge.router(gateway, vector_stores))
    app.include_router(counting(gateway, caller))
    if records.responses is not None:
        app.include_router(stored_responses.router(speaker(gateway), records.responses))
    documentation.install(app)
    # The APIs other than OpenAI's chat and embeddings, by path: each is one line here.
    inbound: dict[str, Inbound] = {
        "/v1/completions": Completions(),
        "/v1/messages": Messages(),
        "/v1/responses": Responses(records.responses),
    }
    return Front(app, gateway, inbound)
