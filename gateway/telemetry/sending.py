"""What waits for a collector, bounded, and the thread that brings it there."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from gateway.telemetry.collectors import Collector, NotTaken

log = logging.getLogger(__name__)

_MOST_SPANS = 2_048  # in one request …
_MOST_BYTES = 2_000_000  # … of about so many bytes: collectors take 4 MB by gRPC unless they are told otherwise
_PATIENCE = 60.0  # seconds for which one request is tried again
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 8.0
_LAST = 3.0  # seconds at the end


class Sender:
    """`put` never waits: beyond `most_bytes` that wait, what comes is dropped and counted."""

    def __init__(
        self,
        collector: Collector,
        request: Callable[[Sequence[bytes]], bytes],
        *,
        every: float,
        most_bytes: int,
        patience: float = _PATIENCE,
        what: str = "spans",
    ) -> None:
        """`request` makes one export request of several parts. `every`: seconds that parts gather before they go.
        `what` they hold, in log lines.
        """
        self._collector = collector
        self._request = request
        self._every = every
        self._most_bytes = most_bytes
        self._patience = patience
        self._what = what
        self._waiting: deque[tuple[bytes, int]] = deque()  # what is encoded, and how many spans that is
        self._bytes = 0
        self._guard = threading.Lock()
        self._awake = threading.Event()
        self._closing = threading.Event()
        self._well = True
        self.sent = 0
        self.dropped = 0
        self._thread = threading.Thread(target=self._run, name=f"{what}-sender", daemon=True)
        self._thread.start()

    @property
    def waiting_bytes(self) -> int:
        return self._bytes

    def put(self, part: bytes, spans: int) -> None:
        """From any thread."""
        with self._guard:
            if self._bytes + len(part) > self._most_bytes:
                self.dropped += spans
                return
            self._waiting.append((part, spans))
            self._bytes += len(part)
        self._awake.set()

    def close(self) -> None:
        """Send what waits, for some seconds at most: a collector that is away must not hold up the end."""
        self._closing.set()
        self._awake.set()
        self._thread.join(_LAST)

    def _run(self) -> None:
        while True:
            self._awake.wait()
            self._awake.clear()
            self._closing.wait(self._every)
            while (taken := self._take())[1]:
                self._bring(*taken)
            if self._closing.is_set():
                self._collector.close()
                return

    def _take(self) -> tuple[list[bytes], int]:
        parts: list[bytes] = []
        spans = size = 0
        with self._guard:
            while self._waiting and spans < _MOST_SPANS and size < _MOST_BYTES:
                part, count = self._waiting.popleft()
                parts.append(part)
                spans, size = spans + count, size + len(part)
            self._bytes -= size
        return parts, spans

    def _bring(self, parts: list[bytes], spans: int) -> None:
        """One request, tried again for as long as that may help; then it is given up and counted."""
        request = self._request(parts)
        given_up, pause = time.monotonic() + self._patience, _FIRST_PAUSE
        while True:
            try:
                refused = self._collector.send(request)
            except NotTaken as failure:
                if not self._well_before(failure):
                    log.warning("the collector does not take %s: %s", self._what, failure)
                wait = pause * random.uniform(0.7, 1.3)
                if failure.after is not None:  # never at once: that would be all that this thread, and a core, does
                    wait = max(failure.after, _FIRST_PAUSE)
                over = time.monotonic() + wait > given_up
                if not failure.again or over or self._closing.wait(wait):
                    self.dropped += spans
                    return
                pause = min(pause * 2, _LONGEST_PAUSE)
            except Exception as failure:  # whatever it is, the next request may do better
                self.dropped += spans
                log.exception("%d %s were left out: %s", spans, self._what, type(failure).__name__)
                return
            else:
                if not self._well:
                    self._well = True
                    log.warning("the collector takes %s again", self._what)
                refused = min(refused, spans)  # whatever it says: counters don't fall
                self.sent += spans - refused
                self.dropped += refused
                return

    def _well_before(self, failure: NotTaken) -> bool:
        """Whether this was told already."""
        told, self._well = not self._well, False
        return told
