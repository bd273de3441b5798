"""A canary's plan: whether it may grow, must wait, or goes back to nothing, by what was counted of it and the stable arm.

Each limit is on an increase against the stable arm in the same time. The canary goes back as soon as it is shown to
exceed one: when even the lower end of the increase's confidence interval lies above the limit. It grows when its
step has enough calls and no observed increase exceeds its limit. Between the two it waits, up to five times as long
as its step asks; a canary that has not come within its limits by then goes back too.

The counts are looked at again and again, so the confidence is shared out among looks that are ever further apart
(each at 1.3 times the calls of the one before; the k-th gets 1/(k(k+1)) of the error that may be made), and among
limits and steps: over a whole plan, a canary that is no worse than the limits is sent back with at most
1 - `confidence` probability.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

from gateway.records.routing import Event
from gateway.routing.state import LATENCY_BOUNDS, ArmStats, ModelState, Rollout

if TYPE_CHECKING:
    from gateway.config.routing import Plan

_FEWEST = 20  # calls of each arm before anything is concluded
_LOOKS = 1.3
_LONGEST = 5


@dataclass(frozen=True, slots=True)
class Increase:
    """By how much the canary exceeds the stable arm in one respect, at most and at least, and what it may."""

    what: str
    observed: float
    least: float
    limit: float
    said: str


def decide(plan: Plan, model: str, arms: tuple[str, str], state: ModelState, now: float) -> list[Event]:
    """Take `state` on by one step of the plan where its counts allow or demand that; what was done, if anything.

    `arms`: the stable one and the canary. `now` in seconds since the epoch.
    """
    stable, canary = arms
    if state.rollout is None:
        state.rollout = Rollout(step=0, since=now)
        state.shares = {stable: 1.0 - plan.steps[0], canary: plan.steps[0]}
        return [
            Event(model, "rollout", "begin", "the plan's first step", "as configured", _share(plan.steps[0], canary))
        ]
    rollout = state.rollout
    if rollout.status != "running":
        return []
    before = rollout.stats.get(stable, ArmStats())
    after = rollout.stats.get(canary, ArmStats())
    if after.calls < _FEWEST or (before.calls < _FEWEST and plan.steps[rollout.step] < 1.0):
        return []
    increases = list(_increases(plan, before, after))
    said = "; ".join(increase.said for increase in increases) + f" ({after.calls} against {before.calls} calls)"
    share = _share(plan.steps[rollout.step], canary)
    worse = [increase for increase in increases if increase.least > increase.limit]
    beyond = [increase for increase in increases if increase.observed > increase.limit]
    too_long = after.calls >= _LONGEST * plan.calls_per_step
    if worse or (beyond and too_long):
        state.shares = {stable: 1.0, canary: 0.0}
        rollout.status = "rolled_back"
        reason = (
            f"{worse[0].what} is worse than allowed: {said}"
            if worse
            else f"{beyond[0].what} did not come within its limit in {after.calls} calls: {said}"
        )
        return [Event(model, "rollout", "rollback", reason, share, _share(0.0, canary))]
    if beyond or after.calls < plan.calls_per_step:
        return []
    if rollout.step + 1 == len(plan.steps):
        rollout.status = "promoted"
        state.shares = {stable: 0.0, canary: 1.0} if plan.steps[-1] == 1.0 else state.shares
        return [Event(model, "rollout", "promote", f"the last step held: {said}", share, share)]
    rollout.step += 1
    rollout.since = now
    rollout.stats = {}
    following = plan.steps[rollout.step]
    state.shares = {stable: 1.0 - following, canary: following}
    return [Event(model, "rollout", "advance", said, share, _share(following, canary))]


def decider(plan: Plan, model: str, arms: tuple[str, str]) -> Callable[[ModelState, float], list[Event]]:
    """`decide` for one model."""
    return lambda state, now: decide(plan, model, arms, state, now)


def _share(share: float, canary: str) -> str:
    return f"{canary} {share:.4g}"


def _increases(plan: Plan, before: ArmStats, after: ArmStats) -> Iterator[Increase]:
    z = _z(plan, after.calls)
    yield _of_rates(
        "the error rate", before.errors, before.calls, after.errors, after.calls, z, plan.max_error_increase
    )
    yield _of_rates(
        "the rate of guardrail findings",
        before.violations, before.calls, after.violations, after.calls, z, plan.max_guardrail_increase,
    )  # fmt: skip
    threshold = before.latency(0.95)
    if threshold is not None and after.latencies:
        # A p95 that grows by more than the limit is the same as more than a twentieth of calls above the old p95 so
        # much increased: a question about two rates, whose answer needs no assumption about how times are spread.
        allowed = threshold * (1 + plan.max_latency_increase)
        increase = _of_rates(
            "p95 of the first token",
            *_above(before, allowed), *_above(after, allowed), z, 0.05 - _rate(*_above(before, allowed)),
        )  # fmt: skip
        told = after.latency(0.95) or 0.0
        said = f"p95 of the first token {threshold:.2f} -> {told:.2f} s"
        yield Increase(increase.what, increase.observed, increase.least, max(increase.limit, 0.0), said)
    if plan.max_cost_increase is not None and before.priced >= _FEWEST and after.priced >= _FEWEST:
        mean = before.cost / before.priced
        yield _of_means(
            "the cost of a call",
            (before.cost, before.cost_squares, before.priced),
            (after.cost, after.cost_squares, after.priced),
            z,
            mean * plan.max_cost_increase,
            lambda value: f"{value:.6f} USD",
        )
    if plan.max_feedback_drop is not None and before.rated >= _FEWEST and after.rated >= _FEWEST:
        yield _of_means(
            "feedback",
            (-before.feedback, before.feedback_squares, before.rated),
            (-after.feedback, after.feedback_squares, after.rated),
            z,
            plan.max_feedback_drop,
            lambda value: f"{-value:.3f}",
        )


def _z(plan: Plan, calls: int) -> float:
    """How many standard errors this look's share of the error probability allows, one-sided."""
    look = 1 + int(math.log(max(1.0, calls / _FEWEST)) / math.log(_LOOKS))
    alpha = (1 - plan.confidence) / (5 * len(plan.steps)) / (look * (look + 1))
    return NormalDist().inv_cdf(1 - alpha)


def _of_rates(what: str, x: int, n: int, y: int, m: int, z: float, limit: float) -> Increase:
    """The increase of a proportion from x of n to y of m, with the lower end of Newcombe's hybrid score interval.

    Newcombe, Interval estimation for the difference between independent proportions, method 10, Stat. Med. 17, 1998.
    """
    p, q = _rate(x, n), _rate(y, m)
    _, upper = _wilson(x, n, z)
    lower, _ = _wilson(y, m, z)
    least = (q - p) - math.sqrt((q - lower) ** 2 + (upper - p) ** 2)
    return Increase(what, q - p, least, limit, f"{what} {p:.1%} -> {q:.1%}")


def _rate(x: int, n: int) -> float:
    return x / n if n else 0.0


def _wilson(x: int, n: int, z: float) -> tuple[float, float]:
    if not n:
        return 0.0, 1.0
    p = x / n
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return middle - half, middle + half


def _above(stats: ArmStats, seconds: float) -> tuple[int, int]:
    """How many calls took longer than `seconds`, by whole buckets, and how many there are."""
    longer = sum(
        calls for bucket, calls in stats.latencies.items() if (LATENCY_BOUNDS[bucket - 1] if bucket else 0.0) >= seconds
    )
    return longer, sum(stats.latencies.values())


def _of_means(
    what: str,
    before: tuple[float, float, int],
    after: tuple[float, float, int],
    z: float,
    limit: float,
    say: Callable[[float], str],
) -> Increase:
    """The increase of a mean, each given as (sum, sum of squares, count); Welch's standard error."""
    means, errors = [], []
    for total, squares, count in (before, after):
        mean = total / count
        means.append(mean)
        errors.append(max(0.0, squares / count - mean * mean) / max(1, count - 1))
    observed = means[1] - means[0]
    said = f"{what} {say(means[0])} -> {say(means[1])}"
    return Increase(what, observed, observed - z * math.sqrt(sum(errors)), limit, said)
