"""What workers share of one model's routing: what was switched, how a roll-out stands, what each arm has earned.

Plain values that add up: a worker counts what it sees as a delta of its own, and the record store merges the deltas.
"""

from __future__ import annotations

import bisect
from typing import Literal

import msgspec

# Upper bounds of first-content times in seconds, a sixth of a doubling apart: a quantile is told within 12 %.
LATENCY_BOUNDS = tuple(0.01 * 2 ** (step / 6) for step in range(85))


class ArmStats(msgspec.Struct):
    """Counts of one arm. Two of them add up to the counts of both.

    `latencies`: calls by the bucket of their first content's time, `{bucket: calls}`; bucket n ends at
    LATENCY_BOUNDS[n]. `cost` in USD over `priced` calls, `cost_squares` the sum of squares. `feedback` is the sum of `rated` scores from 0 to 1, and
    `feedback_squares` that of their squares. `reward` sums `rewarded` rewards from 0 to 1.
    """

    calls: int = 0
    errors: int = 0
    violations: int = 0
    latencies: dict[int, int] = {}
    cost: float = 0.0
    cost_squares: float = 0.0
    priced: int = 0
    feedback: float = 0.0
    feedback_squares: float = 0.0
    rated: int = 0
    reward: float = 0.0
    rewarded: int = 0

    def add(self, other: ArmStats) -> None:
        for name in self.__struct_fields__:
            if name == "latencies":
                for bucket, calls in other.latencies.items():
                    self.latencies[bucket] = self.latencies.get(bucket, 0) + calls
            else:
                setattr(self, name, getattr(self, name) + getattr(other, name))

    def took(self, seconds: float) -> None:
        """Count one first-content time."""
        bucket = min(bisect.bisect_left(LATENCY_BOUNDS, seconds), len(LATENCY_BOUNDS) - 1)
        self.latencies[bucket] = self.latencies.get(bucket, 0) + 1

    def latency(self, quantile: float) -> float | None:
        """Seconds that `quantile` of the calls stay below, rounded up to a bucket; None without any."""
        left = quantile * sum(self.latencies.values())
        for bucket in sorted(self.latencies):
            left -= self.latencies[bucket]
            if left <= 0:
                return LATENCY_BOUNDS[bucket]
        return None


Status = Literal["running", "promoted", "rolled_back", "paused"]


class Rollout(msgspec.Struct):
    """How a canary's plan stands. `since` is when its step began, in seconds since the epoch; `stats` count from then."""

    step: int = 0
    status: Status = "running"
    since: float = 0.0
    stats: dict[str, ArmStats] = {}


class Earned(msgspec.Struct):
    """What a bandit believes of an arm: sums that fade, so that what was long ago counts little."""

    reward: float = 0.0
    rewarded: float = 0.0
    violations: float = 0.0
    calls: float = 0.0


class ModelState(msgspec.Struct):
    """One model's shared document. Empty, it means: as configured.

    `shares`: each arm's share of calls as an operator or a roll-out has set it. `active`: the arm that a blue-green
    switch points to. `earned`: what a bandit goes by. `arms`: all that was counted of each arm since it was first seen.
    """

    shares: dict[str, float] | None = None
    active: str | None = None
    rollout: Rollout | None = None
    earned: dict[str, Earned] = {}
    arms: dict[str, ArmStats] = {}

    def merge(self, delta: dict[str, ArmStats]) -> None:
        for arm, counted in delta.items():
            self.arms.setdefault(arm, ArmStats()).add(counted)
            if self.rollout is not None and self.rollout.status == "running":
                self.rollout.stats.setdefault(arm, ArmStats()).add(counted)


encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(ModelState).decode


def decode(document: bytes | None) -> ModelState:
    return ModelState() if document is None else _decode(document)
