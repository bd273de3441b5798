"""What becomes of the cache beside hits and misses, counted for the metrics."""

from __future__ import annotations


class CacheMeter:
    """Of one process, since its start.

    `failures`: times that a call asked the store of answers and it was away; `stale`: answers that were given while a new
    one was made; `rejected`: kept answers that the output guardrails did not let out again.
    """

    __slots__ = ("failures", "rejected", "stale")

    def __init__(self) -> None:
        self.failures = 0
        self.stale = 0
        self.rejected = 0
