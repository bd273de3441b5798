"""`GET /v1/calls` and `GET /v1/calls/{id}`: what happened, told to the tenant that it happened to."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Literal
from weakref import WeakValueDictionary

from fastapi import APIRouter, Depends, Query
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from gateway.access.roles import bound_to
from gateway.api.identity import Identified
from gateway.errors import BadRequest, NotFound
from gateway.records.call_queries import BadCursor, CallFilter, CallQueries
from gateway.runtime import Gateway
from gateway.values import Caller

_Name = Annotated[str | None, Query(min_length=1, max_length=512)]
_Seconds = Annotated[float | None, Query(ge=0, le=9e9)]
_AT_ONCE = 2  # lists of a tenant: one that finds little looks at all of its calls, and others need the store too


def router(identified: Identified, gateway: Gateway, queries: CallQueries) -> APIRouter:
    routes = APIRouter(tags=["calls"])
    caller = Depends(identified)
    turns: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()  # by tenant, while one asks

    @routes.get("/v1/calls")
    async def list_calls(
        who: Caller = caller,
        *,
        model: _Name = None,
        target: _Name = None,
        user: _Name = None,
        key: _Name = None,
        template: _Name = None,
        arm: _Name = None,
        outcome: Literal["ok", "error", "cancelled", "blocked"] | None = None,
        error_code: _Name = None,
        cache: Literal["hit", "semantic", "miss", "off"] | None = None,
        label: _Name = None,
        max_score: Annotated[float | None, Query(ge=0, le=1)] = None,
        rated: bool | None = None,
        since: _Seconds = None,
        until: _Seconds = None,
        made_for: _Name = None,
        limit: Annotated[int, Query(ge=1, le=100)] = 20,
        after: Annotated[str | None, Query(max_length=100)] = None,
    ) -> dict[str, Any]:
        """Calls of your tenant, newest first; a key of one user's sees that user's, unless it has a role.

        `since` and `until` in seconds since the epoch; `template` is `NAME` or `NAME@VERSION`; `label`, `max_score` and
        `rated` are of feedback. Calls that the gateway made of its own are listed by their purpose: `made_for`. The
        next page is asked for with `after`, which is this one's `next`.
        """
        own = bound_to(who)
        wanted = CallFilter(
            tenant=who.tenant, user=own if own is not None else user, key=key, model=model, target=target,
            outcome=outcome, error_code=error_code, cache=cache, template=template, arm=arm, label=label,
            max_score=max_score, rated=rated, since=_ns(since), until=_ns(until), made_for=made_for,
        )  # fmt: skip
        if own is not None and user is not None and user != own:
            return {"object": "list", "data": [], "has_more": False, "next": None}
        turn = turns.setdefault(who.tenant, asyncio.Semaphore(_AT_ONCE))
        try:
            async with turn:
                await run_in_threadpool(gateway.journal.flush)
                page = await run_in_threadpool(queries.page, wanted, limit, after)
        except BadCursor as fault:
            raise BadRequest(f"Invalid value for 'after': {fault}.", param="after") from None
        return {"object": "list", "data": page.calls, "has_more": page.next is not None, "next": page.next}

    @routes.get("/v1/calls/{call_id}")
    async def get_call(call_id: str, who: Caller = caller) -> JSONResponse:
        """What one call of your tenant did: prompt, features, passages, verdicts, target, usage, times, feedback.

        A key of one user's is not told of another user's calls, unless it has a role. `call_id` is the answer's `x-gateway-call-id`, its `x-request-id` or its `id`.
        """
        await run_in_threadpool(gateway.journal.flush)
        call = await run_in_threadpool(gateway.journal.find, call_id, who.tenant, bound_to(who))
        if call is None:
            raise NotFound(f"No call '{call_id}' is recorded for your tenant.", param="call_id")
        return JSONResponse(call)

    return routes


def _ns(seconds: float | None) -> int | None:
    return int(seconds * 1e9) if seconds is not None else None
