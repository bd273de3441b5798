"""The time that limits go by: the wall clock's at the start, and from then on only what has passed since.

A step of the wall clock, forwards or back, neither gives anybody a new quota nor locks anybody out.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial


def _running() -> Callable[[], float]:
    """Seconds that never step. Where the system has it, a clock that also runs while the machine sleeps."""
    boot = getattr(time, "CLOCK_BOOTTIME", None)
    if boot is None:
        return time.monotonic
    return partial(time.clock_gettime, boot)


class SteadyClock:
    """Seconds since the epoch (UTC), as the wall clock would tell them if nobody had set it since the start."""

    __slots__ = ("_offset", "_running")

    def __init__(self, running: Callable[[], float] | None = None, wall: Callable[[], float] = time.time) -> None:
        self._running = running or _running()
        self._offset = wall() - self._running()

    def __call__(self) -> float:
        return self._running() + self._offset

    def move(self, seconds: float) -> None:
        """Agree with another clock that is so far ahead."""
        self._offset += seconds
