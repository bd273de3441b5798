"""What the log says of a policy that never ran is what that policy does."""

from __future__ import annotations

import random

import pytest

from gateway.routing.evaluation import Logged, evaluate

TRUTH = {"a": 0.3, "b": 0.6, "c": 0.5}
RAN = {"a": 0.6, "b": 0.1, "c": 0.3}


def log(calls: int, seed: int) -> list[Logged]:
    draw = random.Random(seed)
    arms = draw.choices(list(RAN), list(RAN.values()), k=calls)
    return [Logged(arm, RAN[arm], float(draw.random() < TRUTH[arm])) for arm in arms]


@pytest.mark.parametrize("policy", [{"b": 1.0}, {"a": 0.5, "b": 0.5}, {"a": 0.2, "b": 0.3, "c": 0.5}])
def test_every_estimator_finds_the_truth(policy: dict[str, float]) -> None:
    truth = sum(share * TRUTH[arm] for arm, share in policy.items())
    told = evaluate(log(8000, 1), policy, rounds=200)
    for estimate in told.estimates:
        print(
            f"\n{policy}: {estimate.method} {estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}], truth {truth:.3f}"
        )
        assert estimate.low < estimate.value < estimate.high
        assert estimate.value == pytest.approx(truth, abs=0.05)
    assert 0 < told.effective <= told.calls


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    covered = {"ips": 0, "snips": 0, "dr": 0}
    for seed in range(60):
        for estimate in evaluate(log(600, seed), {"b": 1.0}, rounds=100, seed=seed).estimates:
            covered[estimate.method] += estimate.low <= TRUTH["b"] <= estimate.high
    print(f"\nof 60 intervals for 95 %: {covered}")
    assert all(count >= 50 for count in covered.values())


def test_the_policy_that_ran_is_its_own_mean() -> None:
    entries = log(2000, 3)
    mean = sum(entry.reward for entry in entries) / len(entries)
    told = {estimate.method: estimate.value for estimate in evaluate(entries, RAN, rounds=20).estimates}
    assert told == {"ips": pytest.approx(mean), "snips": pytest.approx(mean), "dr": pytest.approx(mean, abs=0.02)}


def test_what_was_never_tried_can_not_be_judged() -> None:
    with pytest.raises(ValueError, match="no rewarded call of d"):
        evaluate(log(100, 0), {"d": 1.0})
