"""Circuit breakers: one for each target, so that a faulty one is out soon and back by itself.

    closed ──5 failures in a row, or nothing but failures for 2 s──> open
    open ──its pause is over──> half open: one call probes, the others go elsewhere
    half open ──the probe succeeds──> closed      ──it fails──> open, for twice as long

A target that says when to come back (`Retry-After`) is left alone until then. What is told here is advice: the
dispatcher asks a target that is out all the same when there is no other.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

State = Literal["closed", "open", "half_open"]


@dataclass(frozen=True, slots=True)
class Patience:
    """When a target is held to be faulty. Times in seconds; a pause doubles from `pause` to `longest`."""

    failures: int = 5
    within: float = 2.0
    pause: float = 1.0
    longest: float = 8.0


class Circuit:
    """One target's health. Not thread-safe: it belongs to the event loop."""

    __slots__ = ("_clock", "_failing_since", "_failures", "_patience", "_pause", "_probe_until", "_reopens", "reason")

    def __init__(self, patience: Patience = Patience(), clock: Callable[[], float] = time.monotonic) -> None:
        self._patience = patience
        self._clock = clock
        self._failures = 0
        self._failing_since = 0.0
        self._pause = patience.pause
        self._reopens: float | None = None  # None while closed
        self._probe_until = 0.0
        self.reason: str | None = None

    @property
    def closed(self) -> bool:
        return self._reopens is None

    @property
    def state(self) -> State:
        if self._reopens is None:
            return "closed"
        return "open" if self._clock() < self._reopens else "half_open"

    @property
    def reopens_in(self) -> float:
        """Seconds until a probe is let through; 0 when one would be now."""
        return 0.0 if self._reopens is None else max(0.0, self._reopens - self._clock())

    def admits(self) -> bool:
        """Whether a call may go to the target now. A True while half open is the probe: it must be answered for."""
        if self._reopens is None:
            return True
        now = self._clock()
        if now < self._reopens or now < self._probe_until:
            return False
        # A probe that is never answered for, such as one that its client broke off, blocks the next for a while only.
        self._probe_until = now + max(self._pause, 1.0)
        return True

    def succeeded(self) -> None:
        if self._failures or self._reopens is not None:
            self._failures = 0
            self._pause = self._patience.pause
            self._reopens = None
            self._probe_until = 0.0
            self.reason = None

    def failed(self, reason: str, retry_after: float | None = None) -> None:
        """One more failure; with `retry_after`, the target itself has said for how many seconds to stay away."""
        now = self._clock()
        if retry_after is not None:
            self._open(now, min(retry_after, 60.0), reason)
            return
        self._failures += 1
        if self._failures == 1:
            self._failing_since = now
        patience = self._patience
        if self._reopens is not None:
            if now >= self._reopens:  # the probe; what was sent before the circuit opened proves nothing new
                self._pause = min(self._pause * 2, patience.longest)
                self._open(now, self._pause, reason)
        elif self._failures >= patience.failures or (
            self._failures > 1 and now - self._failing_since >= patience.within
        ):
            self._open(now, self._pause, reason)

    def _open(self, now: float, pause: float, reason: str) -> None:
        self._reopens = max(self._reopens or 0.0, now + pause)
        self._probe_until = 0.0
        self.reason = reason
