"""Models with arms: which arm a call takes, and what is counted of it.

An arm is a whole pipeline of its own (target, template), so it is chosen before anything else is done for the call.
The choice reads a document that all workers share and change (`state`), through `Shared`, this process's view of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from gateway.chat import Request
from gateway.exchange import Exchange
from gateway.records.routing import Event
from gateway.routing.rewards import Rewards
from gateway.routing.state import ArmStats, ModelState
from gateway.routing.stickiness import Sticky, place
from gateway.values import FROM_CACHE

T = TypeVar("T")
Decide = Callable[[ModelState, float], list[Event]]
"""What is to be done about a model's state at a time (seconds since the epoch): it changes the state and says what."""


@dataclass(slots=True)
class Shared:
    """One model's state as last read from the record store, and what this process has counted since it last wrote.

    It outlives reloads; the rest is the revision's in force: the arms, what a roll-out decides, how a bandit merges
    what was counted and is told of a new state (in any thread), and what its choices earn.
    """

    arms: tuple[str, ...] = ()
    state: ModelState = field(default_factory=ModelState)
    pending: dict[str, ArmStats] = field(default_factory=dict)
    decide: Decide | None = None
    fade: Callable[[ModelState, dict[str, ArmStats]], None] | None = None
    prepare: Callable[[ModelState], None] | None = None
    rewards: Rewards | None = None

    def merge(self, state: ModelState, delta: dict[str, ArmStats]) -> None:
        state.merge(delta)
        if self.fade is not None:
            self.fade(state, delta)

    def count(self, arm: str) -> ArmStats:
        """Where this process counts what it sees of `arm`."""
        stats = self.pending.get(arm)
        if stats is None:
            stats = self.pending[arm] = ArmStats()
        return stats


class Chooser(Protocol):
    def choose(self, state: ModelState, request: Request, exchange: Exchange) -> tuple[str, float]:
        """An arm, and how likely it was to be chosen."""


class Arms(Generic[T]):
    """Chooses among `branches`, one for each arm, and counts how they do."""

    def __init__(self, chooser: Chooser, shared: Shared, branches: Mapping[str, T], targets: Mapping[str, str]) -> None:
        """`targets`: the label of each arm's own target; an answer by another one is a failure of the arm."""
        self._chooser = chooser
        self._shared = shared
        self._branches = branches
        self._targets = targets

    def mapped(self, change: Callable[[T], T]) -> Arms[T]:
        """The same choice among what `change` makes of the branches."""
        branches = {name: change(branch) for name, branch in self._branches.items()}
        return Arms(self._chooser, self._shared, branches, self._targets)

    def choose(self, request: Request, exchange: Exchange) -> T:
        """A tester's own choice, an arm or its target, is counted for no arm."""
        if exchange.wanted is not None and (named := self._named(exchange.wanted)) is not None:
            exchange.arm = named
            return self._branches[named]
        arm, propensity = self._chooser.choose(self._shared.state, request, exchange)
        exchange.arm, exchange.propensity = arm, propensity
        exchange.at_end(self._ended)
        return self._branches[arm]

    def _named(self, wanted: str) -> str | None:
        if wanted in self._branches:
            return wanted
        return next((arm for arm, target in self._targets.items() if target == wanted), None)

    def _ended(self, exchange: Exchange) -> None:
        """Calls that a cache answered, or that never came to a target, say nothing of an arm."""
        if exchange.cache in FROM_CACHE or not exchange.attempts:
            return
        assert exchange.arm is not None
        stats = self._shared.count(exchange.arm)
        stats.calls += 1
        own = self._targets[exchange.arm]
        refused = exchange.target is None and exchange.status < 500  # the request was at fault
        if not refused and (exchange.target is None or exchange.target.label != own or exchange.outcome == "error"):
            stats.errors += 1
        else:
            stats.took(exchange.attempts[-1].ms / 1000)
        if any(stage == "output" and verdict.findings for stage, verdict in exchange.verdicts):
            stats.violations += 1
        if self._shared.rewards is not None:
            self._shared.rewards.ended(exchange, stats)
        if exchange.cost is not None:
            stats.cost += exchange.cost
            stats.cost_squares += exchange.cost**2
            stats.priced += 1


class ByShare:
    """Canary and A/B: each arm but the first takes its share of the places, the first takes what is left."""

    def __init__(self, model: str, shares: Mapping[str, float], sticky: Sticky) -> None:
        """`shares` of all arms, adding up to 1, as configured."""
        self._model = model
        self._configured = dict(shares)
        self._first = next(iter(shares))
        self._sticky = sticky

    def choose(self, state: ModelState, request: Request, exchange: Exchange) -> tuple[str, float]:
        shares = self.shares(state)
        left = place(self._model, self._sticky, request, exchange)
        for arm, share in shares.items():
            if arm != self._first:
                if left < share:
                    return arm, share
                left -= share
        return self._first, shares[self._first]

    def shares(self, state: ModelState) -> dict[str, float]:
        """Each arm's share now. What was set for arms that are there no more falls to the first."""
        if state.shares is None:
            return self._configured
        shares = {arm: state.shares.get(arm, 0.0) for arm in self._configured}
        shares[self._first] = max(0.0, 1.0 - sum(share for arm, share in shares.items() if arm != self._first))
        return shares


class BySwitch:
    """Blue-green: every call goes to the active arm."""

    def __init__(self, active: str, arms: tuple[str, ...]) -> None:
        self._configured = active
        self._arms = arms

    def choose(self, state: ModelState, request: Request, exchange: Exchange) -> tuple[str, float]:
        return self.active(state), 1.0

    def active(self, state: ModelState) -> str:
        return state.active if state.active in self._arms else self._configured
