"""The ASGI application: hot paths in front, FastAPI behind, errors alike on both."""

from __future__ import annotations

from fastapi import FastAPI

from gateway.api import documentation, errors
from gateway.api.front import Front
from gateway.api.routes import Health, router
from gateway.runtime import Gateway


def create_app(gateway: Gateway, health: Health) -> Front:
    app = FastAPI(
        title="rag-gateway",
        description="One OpenAI-compatible door in front of every language model.",
        docs_url="/docs",
        redoc_url=None,
        redirect_slashes=False,  # it would send clients to whatever the Host header says
    )
    errors.install(app)
    app.include_router(router(gateway, health))
    documentation.install(app)
    return Front(app, gateway)
