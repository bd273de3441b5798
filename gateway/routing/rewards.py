"""When a bandit's choice has earned what: at once, when somebody says what the answer was worth, or when nobody has.

Where feedback counts, a call's reward waits for it. What comes is counted wherever it comes in, from the call's
record; a call that nobody has rated in time counts by what is known without, if that is anything.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gateway.exchange import Exchange
from gateway.routing.bandit import Parts, reward
from gateway.routing.state import ArmStats

if TYPE_CHECKING:
    from gateway.config.routing import Reward

_MOST_WAITING = 100_000  # calls; the oldest are forgotten beyond that
Rated = Callable[[Collection[str]], set[str]]
"""Which of some calls have been rated, by the record store. Blocking."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A call whose rating may still come."""

    until: float
    call_id: str
    arm: str
    reward: float


class Rewards:
    """Belongs to the event loop, but for `unrated`."""

    def __init__(self, weights: Reward) -> None:
        self._weights = weights
        self._waiting: deque[Waiting] = deque(maxlen=_MOST_WAITING)

    def ended(self, exchange: Exchange, stats: ArmStats) -> None:
        """A call of an arm is over; `stats` is where the arm is counted."""
        found = any(stage == "output" and verdict.findings for stage, verdict in exchange.verdicts)
        earned = reward(self._weights, Parts(float(not found), exchange.cost, exchange.attempts[-1].ms / 1000))
        if earned is None:
            return
        if self._weights.feedback:
            assert exchange.arm is not None
            until = time.time() + self._weights.wait
            self._waiting.append(Waiting(until, exchange.call_id, exchange.arm, earned))
        else:
            stats.reward += earned
            stats.rewarded += 1

    def rated(self, call: Mapping[str, Any], score: float, stats: ArmStats) -> None:
        """A call, as the call log tells it, was rated for the first time."""
        if not self._weights.feedback:
            return
        found = any(verdict["stage"] == "output" and verdict["findings"] for verdict in call["guardrails"])
        latency = call["attempts"][-1]["ms"] / 1000 if call["attempts"] else None
        earned = reward(self._weights, Parts(float(not found), call.get("cost"), latency, score))
        assert earned is not None, "feedback has a weight"
        stats.reward += earned
        stats.rewarded += 1

    def expired(self, now: float) -> list[Waiting]:
        """The calls whose rating is no longer waited for, and that are now the caller's to count."""
        expired = []
        while self._waiting and self._waiting[0].until <= now:
            expired.append(self._waiting.popleft())
        return expired


def count_unrated(expired: Collection[Waiting], rated: Rated, delta: dict[str, ArmStats]) -> None:
    """Count, into `delta`, the calls that nobody has rated. Blocking. Raises what `rated` raises; then none counts."""
    known = rated([waiting.call_id for waiting in expired])
    for waiting in expired:
        if waiting.call_id not in known:
            stats = delta.setdefault(waiting.arm, ArmStats())
            stats.reward += waiting.reward
            stats.rewarded += 1
