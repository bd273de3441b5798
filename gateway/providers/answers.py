"""An answer on its way from a provider: whole, or as a stream that a decoder turns into chunks."""

from __future__ import annotations

import asyncio
from typing import ClassVar, Final, Protocol

from gateway.chunks import Chunk, has_content
from gateway.errors import UpstreamFailed
from gateway.providers.reply import Reply

MAX_ANSWER: Final = 32_000_000


class Decoder(Protocol):
    """One stream's bytes, cut anywhere, to the chunks of OpenAI's format that they complete.

    `done` says that the vendor has told the end; `may_end` that the stream may end here without that.
    """

    @property
    def done(self) -> bool: ...

    @property
    def may_end(self) -> bool: ...

    def feed(self, segment: bytes) -> list[Chunk]:
        """The chunks that `segment` completes. Raises UpstreamError for an error told in the stream."""


class PlainAnswer:
    """A whole answer: one chunk."""

    __slots__ = ("_chunks",)

    def __init__(self, chunk: Chunk) -> None:
        """Raises UpstreamFailed for an error that came with a good status."""
        if chunk.facts.error is not None:
            raise UpstreamFailed("The provider answered with an error.")
        self._chunks = [chunk]

    async def next(self) -> list[Chunk]:
        chunks, self._chunks = self._chunks, []
        return chunks

    def close(self) -> None:
        pass


class StreamedAnswer:
    """A stream, its first content already here, so that until then another target could still take over."""

    __slots__ = ("_between", "_deadline", "_decoder", "_done", "_held", "_loop", "_reply")

    def __init__(
        self,
        reply: Reply,
        decoder: Decoder,
        loop: asyncio.AbstractEventLoop,
        between: float,
        deadline: float,
    ) -> None:
        """`between`: seconds that may pass from one event to the next; `deadline`: loop time of the stream's end."""
        self._reply: Reply | _Closed = reply
        self._decoder = decoder
        self._loop = loop
        self._between = between
        self._deadline = deadline
        self._held: list[Chunk] = []
        self._done = False

    async def begin(self, content_type: bytes) -> None:
        """Read up to the first content. Raises UpstreamError; the reply is then the caller's to close."""
        if not self._reply.headers.get(b"content-type", b"").startswith(content_type):
            raise UpstreamFailed("The provider did not answer with a stream.", code="upstream_bad_answer")
        held: list[Chunk] = []
        while not self._done:
            chunks = await self._read()
            held += chunks
            if any(has_content(chunk.facts) for chunk in chunks):
                break
        self._held = held

    async def next(self) -> list[Chunk]:
        if self._held:
            held, self._held = self._held, []
            return held
        return [] if self._done else await self._read()

    async def _read(self) -> list[Chunk]:
        chunks: list[Chunk] = []
        decoder = self._decoder
        while not chunks and not self._done:
            segment = await self._reply.segment()
            if not segment:
                if decoder.may_end:
                    self._done = True  # the provider left out its last word; every choice had its finish_reason
                    self.close()
                    return []
                raise UpstreamFailed("The provider's stream broke off.", code="upstream_disconnected")
            chunks = decoder.feed(segment)
            if decoder.done:
                self._done = True
                self._reply.finish()
                self._reply = _CLOSED
            elif chunks:
                # Only events move the clock: a provider that sends nothing but comments is cut off too.
                due = self._loop.time() + self._between
                if due < self._deadline:
                    self._reply.expect_by(due, "between_tokens")
                else:
                    self._reply.expect_by(self._deadline, "total")
        return chunks

    def close(self) -> None:
        reply, self._reply = self._reply, _CLOSED
        reply.close()


async def whole(reply: Reply, limit: int = MAX_ANSWER) -> bytes:
    """The rest of an answer. Raises UpstreamFailed past `limit` bytes."""
    first = await reply.segment()
    second = await reply.segment() if first else b""
    if not second:
        return first
    parts = [first, second]
    size = len(first) + len(second)
    while part := await reply.segment():
        parts.append(part)
        size += len(part)
        if size > limit:
            raise UpstreamFailed("The provider's answer is too large.", code="upstream_bad_answer")
    return b"".join(parts)


class _Closed:
    """In place of a reply that has been closed."""

    headers: ClassVar[dict[bytes, bytes]] = {}

    async def segment(self) -> bytes:
        return b""

    def expect_by(self, deadline: float, timer: str) -> None:
        pass

    def finish(self) -> None:
        pass

    def close(self) -> None:
        pass


_CLOSED: Final = _Closed()
