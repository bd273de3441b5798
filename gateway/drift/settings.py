"""What the watch for drift is told, and what it tells the metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from gateway.config.lake import Drift


class Watching(msgspec.Struct, frozen=True):
    """Drift; seconds, and thresholds by kind."""

    every: float
    window: float
    reference: float
    alpha: float
    min_calls: int
    thresholds: dict[str, float]


def watching(settings: Drift) -> Watching:
    return Watching(
        settings.every,
        settings.window,
        settings.reference,
        settings.alpha,
        settings.min_calls,
        settings.thresholds.model_dump(),
    )


class Level(msgspec.Struct, frozen=True):
    """One thing that is watched for drift. `score` from 0 to 1."""

    kind: str
    name: str
    score: float
    threshold: float
    drifted: bool
