"""What an operator may do to a model's routing while it runs: shares, switches, roll-outs. All of it is logged.

The change is made in the record store, so that every worker sees it with its next look, and stays after a restart.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from gateway.errors import BadRequest, NotFound
from gateway.records.routing import Event, RoutingStore
from gateway.routing.arms import Shared
from gateway.routing.state import ModelState, Rollout, decode, encode

Action = Literal["set_shares", "activate", "promote", "rollback", "pause", "resume", "reset"]


class RoutingControl:
    """Blocking, but for `overview`: each method is a transaction of the record store."""

    def __init__(self, store: RoutingStore, shared: Mapping[str, Shared]) -> None:
        self._store = store
        self._shared = shared

    def overview(self, model: str) -> dict[str, Any]:
        """How a model's arms stand, as this process knows it. Raises NotFound."""
        shared = self._known(model)
        state = shared.state
        return {
            "model": model,
            "arms": {arm: _summary(state, arm) for arm in shared.arms},
            "shares": state.shares,
            "active": state.active,
            "rollout": None if state.rollout is None else {"step": state.rollout.step, "status": state.rollout.status},
        }

    def models(self) -> list[str]:
        return [model for model, shared in self._shared.items() if shared.arms]

    def events(self, model: str | None, limit: int) -> list[dict[str, Any]]:
        return self._store.events(model, limit)

    def act(
        self,
        model: str,
        action: Action,
        *,
        actor: str,
        reason: str = "",
        shares: Mapping[str, float] | None = None,
        arm: str | None = None,
    ) -> dict[str, Any]:
        """Do it, log it, and take it over here at once. Raises NotFound or BadRequest; then nothing is changed."""
        shared = self._known(model)
        arms = shared.arms

        def change(document: bytes | None) -> tuple[bytes, list[Event]]:
            state = decode(document)
            before = _said(state)
            if action == "set_shares":
                state.shares = _valid_shares(shares, arms)
                _stop(state, "paused")
            elif action == "activate":
                if arm not in arms:
                    raise BadRequest(f"'{arm}' is not an arm of {model}; there are {', '.join(arms)}.", param="arm")
                state.active = arm
            elif action in ("promote", "rollback"):
                full = action == "promote"
                state.shares = {arms[0]: 0.0 if full else 1.0, arms[1]: 1.0 if full else 0.0}
                _stop(state, "promoted" if full else "rolled_back")
                state.active = arms[1] if full else arms[0]
            elif action == "pause":
                _stop(state, "paused")
            elif action == "resume":
                if state.rollout is None:
                    raise BadRequest(f"{model} has no roll-out to resume.", param="action")
                state.rollout.status = "running"
            else:
                state = ModelState(arms=state.arms)
            return encode(state), [Event(model, actor, action, reason, before, _said(state))]

        shared.state = decode(self._store.change(model, change))
        return self.overview(model)

    def _known(self, model: str) -> Shared:
        shared = self._shared.get(model)
        if shared is None or not shared.arms:
            raise NotFound(f"The model '{model}' has no arms. GET /admin/routing lists those that have.", param="model")
        return shared


def _valid_shares(shares: Mapping[str, float] | None, arms: tuple[str, ...]) -> dict[str, float]:
    if not shares:
        raise BadRequest('Say each arm\'s share, like {"canary": 0.1}.', param="shares")
    for arm, share in shares.items():
        if arm not in arms:
            raise BadRequest(f"'{arm}' is not an arm; there are {', '.join(arms)}.", param="shares")
        if not 0 <= share <= 1:
            raise BadRequest(f"The share of '{arm}' should be from 0 to 1.", param="shares")
    rest = 1.0 - sum(share for arm, share in shares.items() if arm != arms[0])
    if rest < -1e-9 or (arms[0] in shares and abs(shares[arms[0]] - rest) > 1e-6):
        raise BadRequest("The shares should add up to 1.", param="shares")
    return {**dict.fromkeys(arms, 0.0), **shares, arms[0]: max(0.0, rest)}


def _stop(state: ModelState, status: Literal["paused", "promoted", "rolled_back"]) -> None:
    """A roll-out does not go on by itself over what an operator has decided."""
    if state.rollout is None:
        state.rollout = Rollout()
    state.rollout.status = status


def _said(state: ModelState) -> str:
    parts = []
    if state.shares is not None:
        parts.append("shares " + ", ".join(f"{arm} {share:.4g}" for arm, share in state.shares.items()))
    if state.active is not None:
        parts.append(f"active {state.active}")
    if state.rollout is not None:
        parts.append(f"step {state.rollout.step} {state.rollout.status}")
    return "; ".join(parts) or "as configured"


def _summary(state: ModelState, arm: str) -> dict[str, Any]:
    """An arm's counts as rates; None where nothing was counted."""
    stats = state.arms.get(arm)
    if stats is None or not stats.calls:
        return {"calls": 0}
    return {
        "calls": stats.calls,
        "error_rate": stats.errors / stats.calls,
        "violation_rate": stats.violations / stats.calls,
        "first_token_p50": stats.latency(0.5),
        "first_token_p95": stats.latency(0.95),
        "cost_per_call": stats.cost / stats.priced if stats.priced else None,
        "feedback": stats.feedback / stats.rated if stats.rated else None,
        "ratings": stats.rated,
        "reward": stats.reward / stats.rewarded if stats.rewarded else None,
    }
