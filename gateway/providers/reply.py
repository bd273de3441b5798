"""An answer as a provider reads it, whichever HTTP brought it: bytes by segment, one deadline that moves, one end."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Protocol

from mypy_extensions import mypyc_attr

from gateway.errors import UpstreamTimeout

if TYPE_CHECKING:
    from gateway.providers.origin import Origin

HIGH_WATER: Final = 262_144  # unread bytes of an answer before the provider is slowed
MAX_HEADERS: Final = 65_536  # bytes of an answer's headers
DRAIN: Final = 1.0  # seconds for the end of a stream to come after its last event
STALL: Final = 0.1  # seconds that a timer may fire late before the lateness is held to be this process's own


class Stale(Exception):
    """Nothing of the request was answered, and the provider can't have worked on it: asking again is harmless."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Reply:
    """One answer: `status` and `headers` (names in lower case), then its body's segments.

    What the wire brings is put in by a subclass: `_put` for bytes, `_end` when it is whole, `_fail` for a fault.
    """

    __slots__ = (
        "_armed_at",
        "_complete",
        "_deadline",
        "_draining",
        "_error",
        "_lent",
        "_loop",
        "_segments",
        "_timer",
        "_timer_due",
        "_timer_name",
        "_unread",
        "_waiter",
        "headers",
        "status",
    )  # fmt: skip

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_name = "total"
        self._complete = True
        self._draining = False
        self._error: Exception | None = None
        self._lent = False  # to a call: what is closed twice must not be given back twice

    def _begin(self, deadline: float, timer: str) -> None:
        self._segments: list[bytes] = []
        self._unread = 0
        self._complete = False
        self._error = None
        self._lent = True
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self._armed_at = self._loop.time()
        self.expect_by(deadline, timer)

    async def started(self) -> None:
        """Wait for `status` and `headers`. Raises UpstreamFailed, UpstreamTimeout or Stale."""
        while not self.status:
            if self._error is not None:
                raise self._error
            await self._wait()

    def expect_by(self, deadline: float, timer: str) -> None:
        """The next bytes are due by `deadline` (loop time). Cheap: the running timer looks again when it fires."""
        self._deadline = deadline
        self._timer_name = timer
        if self._timer is None:
            self._arm()
        elif deadline < self._timer_due:
            self._timer.cancel()
            self._arm()

    async def segment(self) -> bytes:
        """The answer's next bytes, as many as have come; b"" at its end. Raises UpstreamError."""
        while not self._segments:
            if self._error is not None:
                raise self._error
            if self._complete:
                return b""
            await self._wait()
        segments = self._segments
        segment = segments[0] if len(segments) == 1 else b"".join(segments)
        segments.clear()
        self._unread = 0
        self._taken()
        return segment

    def finish(self) -> None:
        """Done, and the answer's last event has come: wait aside for the few bytes that end it, then be reused."""
        if self._complete or self._error is not None:
            self.close()
        else:
            self._draining = True
            self.expect_by(self._loop.time() + DRAIN, "total")

    def close(self) -> None:
        """Done with this answer; one that is not read whole is cut off at once. A second time does nothing."""
        if not self._lent:
            return
        self._lent = False
        self._draining = False
        if not self._release():
            self._disarm()

    # -- for the wire ------------------------------------------------------------------------------------
    def _put(self, body: bytes) -> None:
        self._segments.append(body)
        self._unread += len(body)
        self._wake()

    def _end(self) -> None:
        self._complete = True
        self._wake()

    def _fail(self, error: Exception) -> None:
        if not self._complete and self._error is None:
            self._error = error
            self._wake()

    def _taken(self) -> None:
        """All that had come was read: let more come."""
        raise NotImplementedError

    def _release(self) -> bool:
        """Closed: give back what carried the answer, or cut it off. Whether this will carry another one: its timer runs
        on then, and finds nothing due, which is cheaper than one timer a call.
        """
        raise NotImplementedError

    # -- waiting -----------------------------------------------------------------------------------------
    async def _wait(self) -> None:
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
        elif self._draining and (self._complete or self._error is not None):
            self.close()

    def _arm(self) -> None:
        self._armed_at = self._loop.time()
        self._timer_due = self._deadline  # kept here, since uvloop's handle of a time gone by does not know it
        self._timer = self._loop.call_at(self._deadline, self._due)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _due(self) -> None:
        now = self._loop.time()
        late = now - self._timer_due
        if late > STALL:
            # The loop itself was held up (a heavy import, a busy machine), so the answer may lie there unread:
            # the provider gets the time back in which nobody was looking.
            self._deadline = max(self._deadline, now + late)
        if self._complete:
            self._timer = None
        elif now + 0.001 < self._deadline:
            self._arm()
        elif self._segments and self._timer_name != "total":
            # It has come and was not read: whoever reads slowly has no cause to blame the provider.
            self._deadline = now + (self._deadline - self._armed_at)
            self._arm()
        else:
            self._timer = None
            code = f"upstream_timeout_{self._timer_name}"
            self._fail(UpstreamTimeout(f"The provider did not answer in time ({self._timer_name}).", code=code))


class Transport(Protocol):
    """The connections to one origin."""

    origin: Origin

    async def post(self, path: bytes, extra: bytes, body: bytes, deadline: float, timer: str) -> Reply:
        """POST `body` and return the answer, its headers read. `extra` are whole header lines, each with CRLF.

        `deadline` (loop time) is for the headers, and named `timer` in the error. The caller must `close` what it gets.
        Raises UpstreamError; then nothing is left open.
        """

    async def aclose(self) -> None:
        """Take no further calls, and drop each connection when its calls have ended."""

    async def drained(self) -> None:
        """Wait until no call runs any more; after `aclose`."""
