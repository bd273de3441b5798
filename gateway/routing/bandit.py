"""Thompson sampling over arms: calls move to the arm that earns the best reward, and follow when that changes.

Each arm's mean reward is believed to be Beta(1 + earned, 1 + missed), where both sums fade by half over `half_life`
rewards of the model (Chapelle and Li, An Empirical Evaluation of Thompson Sampling, 2011; Raj and Kalyani, Taming
Non-stationary Bandits, 2017). An arm's probability is how often it wins when one value is drawn for each, of fixed
draws, so that every call's propensity is exactly known: `floor` for every arm, the rest in proportion to the wins.
An arm whose rate of guardrail findings is credibly above what is allowed has no part in that at all; as its counts
fade too, it comes to be tried again some day.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.chat import Request
from gateway.exchange import Exchange
from gateway.routing.state import ArmStats, Earned, ModelState

if TYPE_CHECKING:
    from gateway.config.routing import Bandit, Reward

_DRAWS = 2_000
_SURE = 0.95


def fade(state: ModelState, delta: Mapping[str, ArmStats], half_life: float) -> None:
    """Add what was counted to what the bandit believes; all that was believed before fades as much as time went by.

    Time is counted in rewards, and in calls where none of them has earned one yet.
    """
    news = max(sum(stats.rewarded for stats in delta.values()), 0)
    calls = sum(stats.calls for stats in delta.values())
    kept, kept_calls = 0.5 ** (news / half_life), 0.5 ** (calls / half_life)
    for earned in state.earned.values():
        earned.reward *= kept
        earned.rewarded *= kept
        earned.violations *= kept_calls
        earned.calls *= kept_calls
    for arm, stats in delta.items():
        earned = state.earned.setdefault(arm, Earned())
        earned.reward += stats.reward
        earned.rewarded += stats.rewarded
        earned.violations += stats.violations
        earned.calls += stats.calls


def probabilities(
    state: ModelState, arms: tuple[str, ...], floor: float, max_violations: float, seed: int = 0
) -> dict[str, float]:
    """How likely each arm is to be chosen; they add up to 1. About 2 ms an arm: for every new state, not every call."""
    draw = random.Random(seed)
    allowed = [arm for arm in arms if _allowed(state.earned.get(arm), max_violations, draw)] or list(arms)
    beliefs = []
    for arm in allowed:
        earned = state.earned.get(arm, Earned())
        beliefs.append((arm, 1.0 + earned.reward, 1.0 + max(0.0, earned.rewarded - earned.reward)))
    wins = dict.fromkeys(allowed, 0)
    for _ in range(_DRAWS):
        best = max(beliefs, key=lambda belief: draw.betavariate(belief[1], belief[2]))
        wins[best[0]] += 1
    lowest = min(floor, 1.0 / len(allowed))
    rest = 1.0 - lowest * len(allowed)
    return {arm: lowest + rest * wins[arm] / _DRAWS if arm in wins else 0.0 for arm in arms}


def _allowed(earned: Earned | None, max_violations: float, draw: random.Random) -> bool:
    if earned is None or max_violations >= 1.0 or not earned.violations:
        return True
    a, b = 1.0 + earned.violations, 1.0 + max(0.0, earned.calls - earned.violations)
    above = sum(draw.betavariate(a, b) > max_violations for _ in range(500)) / 500
    return above < _SURE


@dataclass(frozen=True, slots=True)
class Parts:
    """What one call says of its arm: all from 0, bad, to 1, good; None where nothing is known."""

    passed: float
    cost: float | None
    latency: float | None
    feedback: float | None = None


def reward(weights: Reward, parts: Parts) -> float | None:
    """The weighted mean of what is known, 0 to 1; None where nothing that counts is known."""
    weighed = (
        (weights.feedback, parts.feedback),
        (weights.guardrails, parts.passed),
        (weights.cost, None if parts.cost is None else max(0.0, 1.0 - parts.cost / weights.cost_reference)),
        (weights.latency, None if parts.latency is None else max(0.0, 1.0 - parts.latency / weights.latency_reference)),
    )
    known = [(weight, value) for weight, value in weighed if value is not None and weight > 0]
    whole = sum(weight for weight, _ in known)
    return sum(weight * value for weight, value in known) / whole if whole else None


class ByReward:
    """The chooser of a bandit. `prepare` is called, in any thread, with every new state."""

    def __init__(self, arms: tuple[str, ...], settings: Bandit, state: ModelState) -> None:
        self._arms = arms
        self._settings = settings
        self.prepare(state)

    def prepare(self, state: ModelState) -> None:
        settings = self._settings
        told = probabilities(state, self._arms, settings.floor, settings.max_violations)
        self._probabilities = tuple(told.items())

    def choose(self, state: ModelState, request: Request, exchange: Exchange) -> tuple[str, float]:
        left = random.random()
        for arm, probability in self._probabilities:
            if left < probability:
                return arm, probability
            left -= probability
        return max(self._probabilities, key=lambda one: one[1])
