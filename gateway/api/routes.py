"""What FastAPI serves: models, health, metrics and the API's documentation."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import APIRouter, Depends, Response
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from gateway.access.roles import require_role
from gateway.api.identity import Identified
from gateway.runtime import Gateway
from gateway.telemetry.metrics import CONTENT_TYPE
from gateway.values import Caller

Health = Callable[[], Awaitable[dict[str, str]]]


def router(gateway: Gateway, caller: Identified, health: Health) -> APIRouter:
    routes = APIRouter()
    identified = Depends(caller)

    @routes.get("/v1/models", tags=["models"])
    async def list_models(who: Caller = identified) -> dict[str, Any]:
        """The public models that this key may use, in the configuration's order."""
        return {"object": "list", "data": [_model(name, gateway) for name in _names(gateway, who)]}

    @routes.get("/v1/models/{name:path}", tags=["models"])
    async def get_model(name: str, who: Caller = identified) -> dict[str, Any]:
        """One public model, or a `provider/model` that this key may use."""
        return _model(gateway.revision.pipeline(name, who).model, gateway)

    @routes.get("/healthz", tags=["health"])
    async def alive() -> dict[str, str]:
        """The process runs. Nothing else is asked."""
        return {"status": "ok"}

    @routes.get("/readyz", tags=["health"])
    async def ready() -> JSONResponse:
        """Whether calls may be sent here, and each component's state. Of several workers it is the one that answers:
        `worker` is its number, and `workers` what the others do.

        503 while starting and while draining. A side service that is away makes the gateway degraded, not
        unready: every replica would see the same outage, and taking them all out would end every call.
        """
        components = await health()
        starting = "starting" in components.values()
        status = "draining" if gateway.draining else "starting" if starting else "ready"
        if status == "ready" and any(state != "ok" for state in components.values()):
            status = "degraded"
        body: dict[str, Any] = {"status": status, "revision": gateway.revision.name, "components": components}
        if states := gateway.siblings.states:
            body |= {"worker": gateway.siblings.number, "workers": dict(states)}
        return JSONResponse(body, 200 if status in ("ready", "degraded") else 503)

    @routes.get("/metrics", tags=["health"])
    async def metrics(who: Caller = identified) -> Response:
        """Prometheus exposition; with a viewer's key once keys are configured."""
        require_role(who, "viewer")
        await run_in_threadpool(gateway.journal.flush)
        together = await gateway.siblings.metrics()
        own = together or await run_in_threadpool(gateway.metrics.exposition)  # calls need not wait for it
        return Response(own, media_type=CONTENT_TYPE)

    return routes


def _names(gateway: Gateway, who: Caller) -> list[str]:
    return [name for name in gateway.revision.pipelines if who.may_use(name)]


def _model(name: str, gateway: Gateway) -> dict[str, Any]:
    """https://platform.openai.com/docs/api-reference/models/object

    A public model also has its `description`, and `endpoints`: what it can be asked for, as a key's `endpoints` name it.
    """
    revision = gateway.revision
    model: dict[str, Any] = {"id": name, "object": "model", "created": 0, "owned_by": "rag-gateway"}
    entry, pipeline = revision.configuration.models.get(name), revision.pipelines.get(name)
    if entry is not None and pipeline is not None:
        model |= {"description": entry.description, "endpoints": sorted(pipeline.endpoints)}
    return model
