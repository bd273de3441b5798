"""What this process has seen of a target lately: how soon it begins to answer, how many calls it has."""

from __future__ import annotations

import math
import time
from collections import deque
from typing import Final

_HALF_LIFE: Final = 30.0  # seconds after which a measurement counts half
_LEAST: Final = 0.05  # what a measurement counts at least
_OFTEN: Final = -_HALF_LIFE * math.log2(1.0 - _LEAST)  # seconds between measurements, below which each counts that
_KEPT: Final = 200


class Observed:
    """First-content times of one target, smoothed, and the calls in flight. Belongs to the event loop."""

    __slots__ = ("_at", "_recent", "in_flight", "latency")

    def __init__(self) -> None:
        self.in_flight = 0
        self.latency: float | None = None  # seconds to the first content, exponentially weighted by age
        self._at = 0.0
        self._recent: deque[float] = deque(maxlen=_KEPT)

    def answered(self, seconds: float) -> None:
        """Note how long the first content of an answer took."""
        now = time.monotonic()
        self._recent.append(seconds)
        if self.latency is None:
            self.latency = seconds
        else:
            # Calls that come thick and fast share one half-life, rare ones replace what is old.
            age = now - self._at
            weight = _LEAST if age < _OFTEN else 1.0 - math.exp(-age * math.log(2) / _HALF_LIFE)
            self.latency += weight * (seconds - self.latency)
        self._at = now

    def p95(self) -> float | None:
        """Of the last 200 first-content times, in seconds; None while there are fewer than 20."""
        recent = sorted(self._recent)
        return recent[int(len(recent) * 0.95)] if len(recent) >= 20 else None
