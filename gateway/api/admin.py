"""What operators do while the gateway runs: look at targets, move calls between arms, see what was done and why."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from gateway.api.administration import Administration, asked, note
from gateway.config.faults import ConfigError
from gateway.errors import BadRequest
from gateway.routing.control import Action, RoutingControl
from gateway.routing.fleet import Fleet
from gateway.runtime import Gateway
from gateway.tenancy import Deed
from gateway.values import Caller


class RoutingChange(BaseModel):
    """`shares` go with `set_shares`, `arm` with `activate`; `reason` is kept in the log."""

    model_config = ConfigDict(extra="forbid")

    action: Action
    shares: dict[str, float] | None = None
    arm: str | None = None
    reason: Annotated[str, Field(max_length=1000)] = ""


def router(administration: Administration, control: RoutingControl, fleet: Fleet, gateway: Gateway) -> APIRouter:
    """Targets and arms, which all tenants share: to look at for viewers, to change for operators."""
    routes = APIRouter(prefix="/admin", tags=["admin"], route_class=administration.route)
    sees, operates = administration.allowed("viewer"), administration.allowed("operator")

    @routes.get("/targets", dependencies=[sees])
    async def targets() -> dict[str, Any]:
        """Every target that was configured or called: its circuit, why it is open and for how long.

        Of several workers each has seen its own calls: then there is a row for each `worker`.
        """
        told = await gateway.siblings.ask("targets")
        if not told:
            return {"object": "list", "data": fleet.overview()}
        rows = [{"worker": number, **row} for number, rows in told.items() for row in rows]
        return {"object": "list", "data": sorted(rows, key=lambda row: (row["target"], row["worker"]))}

    @routes.get("/routing", dependencies=[sees])
    async def routing() -> dict[str, Any]:
        """Each model with arms: their shares, what was counted of them, how a roll-out stands."""
        return {"object": "list", "data": [control.overview(model) for model in control.models()]}

    @routes.get("/routing/{model:path}", dependencies=[sees])
    async def routing_of(model: str) -> dict[str, Any]:
        """One model with arms."""
        return control.overview(model)

    @routes.post("/routing/{model:path}", name="routing.change")
    async def change(model: str, change: RoutingChange, request: Request, who: Caller = operates) -> dict[str, Any]:
        """Move calls between arms; in force in every worker within a second, and logged with who and why."""
        before = _decided(control.overview(model))
        after = await asked(
            control.act,
            model,
            change.action,
            actor=who.key_name,
            reason=change.reason,
            shares=change.shares,
            arm=change.arm,
        )
        action = f"routing.{change.action}"
        note(request, Deed(action, model, None, before, _decided(after), change.reason))
        return after

    @routes.get("/rollouts", dependencies=[sees])
    async def rollouts(model: str | None = None, limit: Annotated[int, Query(ge=1, le=1000)] = 100) -> dict[str, Any]:
        """What was done to routing, newest first: by whom, why, what it was before and after."""
        return {"object": "list", "data": await asked(control.events, model, limit)}

    @routes.post("/reload", name="configuration.reload")
    async def reload(request: Request, who: Caller = operates) -> dict[str, Any]:
        """Read the configuration file again, all or nothing, in every worker: as SIGHUP does, and with an answer."""
        before = gateway.revision.name
        try:
            after = await gateway.reload()
        except (ConfigError, ValueError) as fault:
            raise BadRequest(f"Revision {before} stays: {fault}", code="configuration_refused") from None
        note(request, Deed("configuration.reload", after, None, {"revision": before}, {"revision": after}))
        return {"object": "revision", "revision": after, "before": before}

    return routes


def _decided(overview: dict[str, Any]) -> dict[str, Any]:
    """What can be decided of a model's arms."""
    return {name: overview[name] for name in ("shares", "active", "rollout")}
