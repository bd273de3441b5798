"""What operators do while the gateway runs: look at targets, move calls between arms, see what was done and why."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from gateway.routing.control import Action, RoutingControl
from gateway.routing.fleet import Fleet
from gateway.runtime import require_admin
from gateway.values import Caller


class RoutingChange(BaseModel):
    """`shares` go with `set_shares`, `arm` with `activate`; `reason` is kept in the log."""

    model_config = ConfigDict(extra="forbid")

    action: Action
    shares: dict[str, float] | None = None
    arm: str | None = None
    reason: Annotated[str, Field(max_length=1000)] = ""


def router(identified: Callable[..., Caller], control: RoutingControl, fleet: Fleet) -> APIRouter:
    """Routes under /admin; every one of them needs an admin key. `identified` finds the caller of a request."""
    caller = Depends(identified)

    def admin(who: Caller = caller) -> Caller:
        require_admin(who)
        return who

    routes = APIRouter(prefix="/admin", tags=["admin"])
    allowed = Depends(admin)

    @routes.get("/targets", dependencies=[allowed])
    async def targets() -> dict[str, Any]:
        """Every target that was configured or called: its circuit, why it is open and for how long."""
        data = [
            {
                "target": label,
                "state": circuit.state,
                "reason": circuit.reason,
                "reopens_in": round(circuit.reopens_in, 3),
            }
            for label, circuit in sorted(fleet.circuits().items())
        ]
        return {"object": "list", "data": data}

    @routes.get("/routing", dependencies=[allowed])
    async def routing() -> dict[str, Any]:
        """Each model with arms: their shares, what was counted of them, how a roll-out stands."""
        return {"object": "list", "data": [control.overview(model) for model in control.models()]}

    @routes.get("/routing/{model:path}", dependencies=[allowed])
    async def routing_of(model: str) -> dict[str, Any]:
        """One model with arms."""
        return control.overview(model)

    @routes.post("/routing/{model:path}")
    async def change(model: str, change: RoutingChange, who: Caller = allowed) -> dict[str, Any]:
        """Move calls between arms; in force in every worker within a second, and logged with who and why."""
        return await run_in_threadpool(
            control.act,
            model,
            change.action,
            actor=who.key_name,
            reason=change.reason,
            shares=change.shares,
            arm=change.arm,
        )

    @routes.get("/rollouts", dependencies=[allowed])
    async def rollouts(model: str | None = None, limit: Annotated[int, Query(ge=1, le=1000)] = 100) -> dict[str, Any]:
        """What was done to routing, newest first: by whom, why, what it was before and after."""
        return {"object": "list", "data": await run_in_threadpool(control.events, model, limit)}

    return routes
