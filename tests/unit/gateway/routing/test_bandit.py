"""Calls move to the arm that earns the best reward, and follow when that changes."""

from __future__ import annotations

import random

import pytest

from gateway.config.routing import Reward
from gateway.routing.bandit import Parts, fade, probabilities, reward
from gateway.routing.state import ArmStats, Earned, ModelState

ARMS = ("one", "two", "three")
_BATCH = 40  # calls between two rounds of the workers' exchange


def simulate(truth: list[dict[str, float]], seed: int, half_life: float = 1000.0) -> tuple[float, list[str]]:
    """Regret against always playing the best arm, and the arms that were played; `truth` is each call's."""
    draw = random.Random(seed)
    state, regret, played = ModelState(), 0.0, []
    delta: dict[str, ArmStats] = {}
    chances = probabilities(state, ARMS, 0.02, 1.0, seed)
    for number, means in enumerate(truth):
        arm = draw.choices(ARMS, [chances[arm] for arm in ARMS])[0]
        played.append(arm)
        regret += max(means.values()) - means[arm]
        stats = delta.setdefault(arm, ArmStats())
        stats.calls += 1
        stats.rewarded += 1
        stats.reward += draw.random() < means[arm]
        if number % _BATCH == _BATCH - 1:
            fade(state, delta, half_life)
            delta = {}
            chances = probabilities(state, ARMS, 0.02, 1.0, number)
    return regret, played


@pytest.mark.parametrize("seed", range(3))
def test_regret_is_clearly_below_that_of_equal_shares(seed: int) -> None:
    means = {"one": 0.6, "two": 0.7, "three": 0.8}
    regret, played = simulate([means] * 5000, seed, half_life=2000)
    uniform = 5000 * (0.8 - 0.7)
    print(
        f"\nseed {seed}: regret {regret:.0f}, equal shares {uniform:.0f}, best arm {played.count('three') / 5000:.0%}"
    )
    assert regret < 0.5 * uniform
    assert played[-1000:].count("three") > 700


def test_it_follows_when_the_arms_change_places() -> None:
    before, after = {"one": 0.6, "two": 0.7, "three": 0.8}, {"one": 0.8, "two": 0.7, "three": 0.6}
    _, played = simulate([before] * 4000 + [after] * 4000, seed=1, half_life=800)
    assert played[3000:4000].count("three") > 600
    assert played[7000:].count("one") > 600


def test_every_arm_keeps_its_floor_and_chances_add_up_to_one() -> None:
    state = ModelState(earned={"one": Earned(reward=900, rewarded=1000, calls=1000), "two": Earned(0, 1000, 0, 1000)})
    chances = probabilities(state, ("one", "two"), 0.05, 1.0)
    assert chances["two"] == 0.05
    assert sum(chances.values()) == pytest.approx(1)


def test_an_arm_with_too_many_violations_is_out_however_well_it_earns() -> None:
    state = ModelState(earned={
        "one": Earned(reward=95, rewarded=100, violations=30, calls=100),
        "two": Earned(reward=50, rewarded=100, violations=1, calls=100),
    })  # fmt: skip
    assert probabilities(state, ("one", "two"), 0.05, max_violations=0.1) == {"one": 0.0, "two": 1.0}
    fade(state, {"two": ArmStats(calls=800)}, 100)  # long enough ago, it may show itself again
    assert probabilities(state, ("one", "two"), 0.05, max_violations=0.1)["one"] > 0


def test_one_violation_of_a_few_calls_proves_nothing() -> None:
    state = ModelState(earned={"one": Earned(violations=1, calls=5), "two": Earned(calls=5)})
    assert probabilities(state, ("one", "two"), 0.05, max_violations=0.1)["one"] > 0


def test_where_all_arms_are_out_all_are_in() -> None:
    bad = Earned(violations=90, calls=100)
    assert probabilities(ModelState(earned={"one": bad, "two": bad}), ("one", "two"), 0.05, 0.1)["one"] > 0


def test_a_reward_is_the_weighted_mean_of_what_is_known() -> None:
    weights = Reward(feedback=0.5, guardrails=0.2, cost=0.2, latency=0.1, cost_reference=0.02, latency_reference="4s")
    assert reward(weights, Parts(1.0, 0.01, 2.0, 1.0)) == pytest.approx(0.5 + 0.2 + 0.1 + 0.05)
    assert reward(weights, Parts(1.0, None, None)) == 1.0
    assert reward(weights, Parts(0.0, 5.0, 60.0, 0.0)) == 0.0
    assert reward(Reward(feedback=1.0), Parts(1.0, 0.01, 2.0)) is None
