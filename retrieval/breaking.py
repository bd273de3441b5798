"""Not asking a store that has just failed: whoever waits for it would wait for nothing."""

from __future__ import annotations

import time

from retrieval.passages import RetrievalUnavailable


class Tripped(RetrievalUnavailable):
    """Not asked: it has just failed several times."""


class Breaker:
    """Spares calls the wait for a store that has failed `failures` times in a row: for `pause` seconds nobody asks.

    After each pause one call tries; when it finds something, all do again.
    """

    def __init__(self, failures: int = 3, pause: float = 1.0) -> None:
        self._most = failures
        self._pause = pause
        self._failures = 0
        self._closed_until = 0.0

    def check(self) -> None:
        """Raises Tripped."""
        if self._failures < self._most:
            return
        now = time.monotonic()
        if now < self._closed_until:
            raise Tripped("it did not answer the calls before this one")
        self._closed_until = now + self._pause

    def worked(self) -> None:
        self._failures = 0

    def failed(self) -> None:
        self._failures += 1
        self._closed_until = time.monotonic() + self._pause
