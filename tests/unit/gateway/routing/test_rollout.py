"""A canary grows when it is as good as the stable arm, and goes back when it is shown to be worse."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from gateway.config.routing import Plan
from gateway.routing.rollout import decide
from gateway.routing.state import ArmStats, ModelState

ARMS = ("stable", "canary")
PLAN = Plan(steps=[0.05, 0.25, 1.0], calls_per_step=200, max_error_increase=0.02)


def run(
    plan: Plan, seed: int, errors: float = 0.01, seconds: float = 0.5, score: float = 0.8, most: int = 60_000
) -> tuple[str, list[str]]:
    """A roll-out over simulated calls; the stable arm errs in 1 % of them, takes 0.5 s and is rated 0.8.

    How it ended and what was said on the way.
    """
    draw = random.Random(seed)
    state, told = ModelState(), []
    delta: dict[str, ArmStats] = {}
    for number in range(most):
        share = (state.shares or {"canary": 0.0})["canary"]
        arm = "canary" if draw.random() < share else "stable"
        stats = delta.setdefault(arm, ArmStats())
        rate, time, liked = (errors, seconds, score) if arm == "canary" else (0.01, 0.5, 0.8)
        stats.calls += 1
        stats.errors += draw.random() < rate
        stats.took(draw.lognormvariate(0, 0.5) * time)
        if draw.random() < 0.3:
            rated = float(draw.random() < liked)
            stats.rated += 1
            stats.feedback += rated
            stats.feedback_squares += rated
        if number % 50 == 49:
            state.merge(delta)
            delta = {}
            told += [f"{event.action}: {event.reason}" for event in decide(plan, "m", ARMS, state, float(number))]
            assert state.rollout is not None
            if state.rollout.status != "running":
                return state.rollout.status, told
    return "running", told


@pytest.mark.parametrize("seed", range(3))
def test_an_equal_canary_is_promoted_step_by_step(seed: int) -> None:
    status, told = run(PLAN, seed)
    assert (status, [line.split(":")[0] for line in told]) == ("promoted", ["begin", "advance", "advance", "promote"])


@pytest.mark.parametrize(
    "worse", [{"errors": 0.15}, {"seconds": 1.5}, {"score": 0.3}], ids=["errors", "slow", "disliked"]
)
@pytest.mark.parametrize("seed", range(3))
def test_a_worse_canary_goes_back_and_the_reason_is_told_in_figures(worse: dict[str, float], seed: int) -> None:
    status, told = run(PLAN, seed, **worse)
    assert status == "rolled_back"
    what = {"errors": "the error rate", "seconds": "p95 of the first token", "score": "feedback"}[next(iter(worse))]
    assert told[-1].startswith(f"rollback: {what}")
    assert "->" in told[-1]


def test_a_broken_canary_goes_back_within_its_first_calls() -> None:
    status, told = run(PLAN, 0, errors=1.0)
    assert status == "rolled_back"
    assert len(told) == 2, "it began and went back; it never grew"


def test_false_alarms_over_200_plans_are_at_most_5_percent() -> None:
    ended = [run(Plan(steps=[0.25, 1.0], calls_per_step=200), seed)[0] for seed in range(200)]
    print(f"\n{ended.count('rolled_back')} of 200 equal canaries were sent back")
    assert ended.count("rolled_back") <= 10


def test_an_operators_decision_is_not_overruled() -> None:
    state = ModelState()
    decide(PLAN, "m", ARMS, state, 0.0)
    assert state.rollout is not None
    state.rollout.status = "paused"
    state.merge({"stable": ArmStats(calls=1000), "canary": ArmStats(calls=1000, errors=1000)})
    assert decide(PLAN, "m", ARMS, state, 1.0) == []


def halves() -> Iterator[ArmStats]:
    for seed in range(2):
        draw, stats = random.Random(seed), ArmStats(calls=500, errors=seed, cost=0.1, priced=3)
        for _ in range(500):
            stats.took(draw.lognormvariate(0, 1))
        yield stats


def test_two_workers_counts_add_up() -> None:
    one, other = halves()
    both = ArmStats()
    both.add(one)
    both.add(other)
    assert (both.calls, both.errors, sum(both.latencies.values()), both.priced) == (1000, 1, 1000, 6)
    assert both.latency(0.5) == pytest.approx(1.0, rel=0.15)
    assert both.latency(0.95) == pytest.approx(5.18, rel=0.25)
