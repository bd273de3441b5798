"""`POST /v1/feedback`: what somebody thought of an answer, kept with the call and learnt from."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field, model_validator
from starlette.concurrency import run_in_threadpool

from gateway.access.roles import bound_to
from gateway.api.identity import Identified
from gateway.errors import Conflict, NotFound
from gateway.records.feedback import Feedback, FeedbackStore, NoSuchCall, TooMuchFeedback
from gateway.routing.arms import Shared
from gateway.runtime import Gateway
from gateway.values import Caller


class FeedbackRequest(BaseModel):
    """`call_id` is the answer's `x-gateway-call-id`, its `x-request-id` or its `id`; `score` is from 0 to 1."""

    model_config = ConfigDict(extra="forbid")

    call_id: Annotated[str, Field(min_length=1, max_length=200)]
    score: Annotated[float, Field(ge=0, le=1)] | None = None
    label: Annotated[str, Field(max_length=100)] | None = None
    comment: Annotated[str, Field(max_length=10_000)] | None = None
    correction: Annotated[str, Field(max_length=100_000)] | None = None

    @model_validator(mode="after")
    def _says_something(self) -> FeedbackRequest:
        if self.score is None and not (self.label or self.comment or self.correction):
            raise ValueError("say at least one of score, label, comment and correction")
        return self


def router(identified: Identified, gateway: Gateway, store: FeedbackStore, routing: dict[str, Shared]) -> APIRouter:
    """`routing` is where scores are counted for the arm that answered."""
    routes = APIRouter(tags=["feedback"])
    caller = Depends(identified)

    @routes.post("/v1/feedback", status_code=201)
    async def give(said: FeedbackRequest, who: Caller = caller) -> dict[str, Any]:
        """Rate a call of your own tenant. Each thing that is said of it is kept, and the same thing once."""
        unknown = NotFound(f"No call '{said.call_id}' is recorded for your tenant.", param="call_id")
        call = await _recorded(gateway, said.call_id, who)
        if call is None:
            raise unknown
        feedback = Feedback(call["id"], who.tenant, who.user, said.score, said.label, said.comment, said.correction)
        first = not await run_in_threadpool(store.rated, [call["id"]])
        try:
            new = await run_in_threadpool(store.add, feedback)
        except NoSuchCall:  # it was erased just now
            raise unknown from None
        except TooMuchFeedback:
            raise Conflict("You have said all of this call that is kept of it.", param="call_id") from None
        if new and gateway.rated is not None:
            gateway.rated(who.tenant, call["caller"]["user"], said.score)
        if new and gateway.evaluations is not None:
            gateway.evaluations.rated(call, said.score, said.label)
        if new and said.score is not None:
            gateway.metrics.rated(call["model"], said.score)
        shared = routing.get(call["model"])
        if new and first and said.score is not None and call["arm"] is not None and shared is not None:
            stats = shared.count(call["arm"]["name"])
            stats.rated += 1
            stats.feedback += said.score
            stats.feedback_squares += said.score**2
            if shared.rewards is not None:
                shared.rewards.rated(call, said.score, stats)
        return {"object": "feedback", "call_id": call["id"]}

    return routes


async def _recorded(gateway: Gateway, call_id: str, who: Caller) -> dict[str, Any] | None:
    """The call's record. Another worker may have answered it just now, and writes in groups: it is waited for, up to 1.5 s."""
    await run_in_threadpool(gateway.journal.flush)
    for pause in (0.0, 0.05, 0.1, 0.2, 0.4, 0.8):
        await asyncio.sleep(pause)
        call = await run_in_threadpool(gateway.journal.find, call_id, who.tenant, bound_to(who))
        if call is not None:
            return call
    return None
