"""What FastAPI serves: models, calls, health, metrics and the API's documentation."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from gateway.errors import NotFound
from gateway.runtime import Gateway, require_admin
from gateway.values import Caller

Health = Callable[[], Awaitable[dict[str, str]]]


def identifier(gateway: Gateway) -> Callable[[Request], Caller]:
    """What finds a request's caller, for FastAPI's `Depends`. It raises Unauthenticated."""

    def caller(request: Request) -> Caller:
        credential = request.headers.get("authorization")
        if credential is None and (key := request.headers.get("x-api-key")) is not None:
            credential = f"Bearer {key}"
        return gateway.revision.keyring.identify(credential.encode("latin-1") if credential else None)

    return caller


def speaker(gateway: Gateway) -> Callable[[Request], Caller]:
    """The same, or the user whom a trusted key speaks for by the configured header."""
    identified = identifier(gateway)

    def caller(request: Request) -> Caller:
        who, revision = identified(request), gateway.revision
        name = revision.user_header
        claimed = request.headers.get(name.decode()) if name is not None else None
        return revision.keyring.speaking_for(who, claimed)

    return caller


def router(gateway: Gateway, caller: Callable[[Request], Caller], health: Health) -> APIRouter:
    routes = APIRouter()
    identified = Depends(caller)

    @routes.get("/v1/models", tags=["models"])
    async def list_models(who: Caller = identified) -> dict[str, Any]:
        """The public models that this key may use, in the configuration's order."""
        return {"object": "list", "data": [_model(name) for name in _names(gateway, who)]}

    @routes.get("/v1/models/{name:path}", tags=["models"])
    async def get_model(name: str, who: Caller = identified) -> dict[str, Any]:
        """One public model, or a `provider/model` that this key may use."""
        return _model(gateway.revision.pipeline(name, who).model)

    @routes.get("/v1/calls/{call_id}", tags=["calls"])
    async def get_call(call_id: str, who: Caller = identified) -> JSONResponse:
        """What one call of your tenant did: prompt, features, passages, verdicts, target, usage, times.

        `call_id` is the answer's `x-gateway-call-id`, its `x-request-id` or its `id`.
        """
        await run_in_threadpool(gateway.journal.flush)
        call = await run_in_threadpool(gateway.journal.find, call_id, who.tenant)
        if call is None:
            raise NotFound(f"No call '{call_id}' is recorded for your tenant.", param="call_id")
        return JSONResponse(call)

    @routes.get("/healthz", tags=["health"])
    async def alive() -> dict[str, str]:
        """The process runs. Nothing else is asked."""
        return {"status": "ok"}

    @routes.get("/readyz", tags=["health"])
    async def ready() -> JSONResponse:
        """Whether calls may be sent here, and each component's state.

        503 while starting and while draining. A side service that is away makes the gateway degraded, not
        unready: every replica would see the same outage, and taking them all out would end every call.
        """
        components = await health()
        starting = "starting" in components.values()
        status = "draining" if gateway.draining else "starting" if starting else "ready"
        if status == "ready" and any(state != "ok" for state in components.values()):
            status = "degraded"
        body = {"status": status, "revision": gateway.revision.name, "components": components}
        return JSONResponse(body, 200 if status in ("ready", "degraded") else 503)

    @routes.get("/metrics", tags=["health"])
    async def metrics(who: Caller = identified) -> Response:
        """Prometheus exposition; with an admin key once keys are configured."""
        require_admin(who)
        await run_in_threadpool(gateway.journal.flush)
        content, content_type = gateway.metrics.exposition()
        return Response(content, media_type=content_type)

    return routes


def _names(gateway: Gateway, who: Caller) -> list[str]:
    return [name for name in gateway.revision.pipelines if who.may_use(name)]


def _model(name: str) -> dict[str, Any]:
    """https://platform.openai.com/docs/api-reference/models/object"""
    return {"id": name, "object": "model", "created": 0, "owned_by": "rag-gateway"}
