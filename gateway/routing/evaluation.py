"""What another policy would have earned, from the log of what this one did: off-policy evaluation.

Each logged choice has its propensity, so its reward can be weighted by how much likelier the other policy would have
made it (inverse propensity), with the weights normalised (SNIPS: lower variance, a little bias), or used only to
correct a model of the rewards (doubly robust). Dudík, Langford and Li, Doubly Robust Policy Evaluation and Learning,
ICML 2011; Swaminathan and Joachims, The Self-Normalized Estimator, NeurIPS 2015.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

Policy = Mapping[str, float]
"""Each arm's probability."""


@dataclass(frozen=True, slots=True)
class Logged:
    """One choice of the past: the arm, how likely it was, and what it earned, 0 to 1."""

    arm: str
    propensity: float
    reward: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """A policy's mean reward with its 95 % bootstrap interval, by one estimator."""

    method: str
    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Evaluation:
    """`effective` is how many plain observations the weighted ones are worth (Kish)."""

    estimates: tuple[Estimate, ...]
    calls: int
    effective: float


def evaluate(log: Sequence[Logged], policy: Policy, *, rounds: int = 500, seed: int = 0) -> Evaluation:
    """What `policy` would have earned. Raises ValueError where the log can't tell: an arm that it never saw."""
    seen = {entry.arm for entry in log}
    if missing := sorted(arm for arm, share in policy.items() if share > 0 and arm not in seen):
        raise ValueError(f"the log has no rewarded call of {', '.join(missing)}")
    if any(not 0 < entry.propensity <= 1 for entry in log):
        raise ValueError("a logged propensity is not above 0 and at most 1")
    weights = [policy.get(entry.arm, 0.0) / entry.propensity for entry in log]
    squares = sum(weight * weight for weight in weights)
    effective = sum(weights) ** 2 / squares if squares else 0.0
    draw = random.Random(seed)
    samples = [[draw.randrange(len(log)) for _ in log] for _ in range(rounds)]
    estimates = []
    for method, estimator in (("ips", _ips), ("snips", _snips), ("dr", _doubly_robust)):
        value = estimator(log, weights, policy, range(len(log)))
        drawn = sorted(estimator(log, weights, policy, sample) for sample in samples)
        low, high = drawn[int(rounds * 0.025)], drawn[min(rounds - 1, int(rounds * 0.975))]
        estimates.append(Estimate(method, value, low, high))
    return Evaluation(tuple(estimates), len(log), effective)


Estimator = Callable[[Sequence[Logged], Sequence[float], Policy, Sequence[int]], float]


def _ips(log: Sequence[Logged], weights: Sequence[float], policy: Policy, chosen: Sequence[int]) -> float:
    return sum(weights[n] * log[n].reward for n in chosen) / len(chosen)


def _snips(log: Sequence[Logged], weights: Sequence[float], policy: Policy, chosen: Sequence[int]) -> float:
    whole = sum(weights[n] for n in chosen)
    return sum(weights[n] * log[n].reward for n in chosen) / whole if whole else 0.0


def _doubly_robust(log: Sequence[Logged], weights: Sequence[float], policy: Policy, chosen: Sequence[int]) -> float:
    """The reward model is each arm's mean; an arm that a sample lacks has the mean of all."""
    totals: dict[str, list[float]] = {}
    for n in chosen:
        total = totals.setdefault(log[n].arm, [0.0, 0.0])
        total[0] += log[n].reward
        total[1] += 1
    overall = sum(total[0] for total in totals.values()) / len(chosen)
    means = {arm: total[0] / total[1] for arm, total in totals.items()}
    base = sum(share * means.get(arm, overall) for arm, share in policy.items())
    return base + sum(weights[n] * (log[n].reward - means[log[n].arm]) for n in chosen) / len(chosen)
