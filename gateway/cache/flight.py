"""One upstream call shared by all who ask the same at the same time.

The call runs in a task of its own, so that no caller's disconnect ends it for the others; when the last one
has gone, it is cut off. It goes no faster than its fastest reader. An answer too large to be kept whole is no
longer shared with newcomers, goes no faster than its slowest reader, and what all have read of it is forgotten.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from gateway.chunks import Chunk
from gateway.exchange import Exchange
from gateway.providers.protocol import Chunks

_AHEAD: Final = 1_000_000  # bytes that may wait for the reader who sets the pace
_WHOLE: Final = 8_000_000  # bytes of the largest answer that is kept whole


class Flight:
    def __init__(
        self,
        begin: Callable[[], Awaitable[Chunks]],
        landed: Callable[[list[Chunk]], Awaitable[None]],
        ended: Callable[[], None],
        taken_over: Callable[[Exchange, Exchange], None],
        exchange: Exchange,
        *,
        stream: bool,
    ) -> None:
        """`landed` gets the whole answer, once it has come without a fault, is small enough and is on its way to all
        who read it; newcomers may still join meanwhile. `ended` is called in every case, as soon as they may not.
        `taken_over` is told who has left an answer that goes on, and whose it is now.

        `exchange` is the first caller's: it carries the attempts, and the target that the others are told too.
        """
        self.exchange = exchange
        self.payer = exchange  # whose answer it is: the first caller's, or when that has left another reader's
        self.stream = stream
        self.abandoned = False  # nobody waits for it any more
        self._begin = begin
        self._landed = landed
        self._ended = ended
        self._taken_over = taken_over
        self._chunks: list[Chunk] = []
        self._readers: set[FlightReader] = set()
        self._size = 0  # bytes of all chunks so far
        self._forgotten = 0  # how many chunks are no longer in `_chunks`
        self._moved = asyncio.Event()
        self._done = False
        self._error: BaseException | None = None
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def join(self, exchange: Exchange) -> FlightReader:
        """A reader of this flight for a call, once its answer has begun. Raises what the call raised."""
        reader = FlightReader(self, exchange)
        self._readers.add(reader)
        if self._task is None:
            self._task = asyncio.create_task(self._fly())
        try:
            while not self._chunks and not self._done:
                await self._next_news()
            if self._error is not None and not self._chunks:
                raise self._error
        except BaseException:
            reader.close()
            raise
        return reader

    async def _fly(self) -> None:
        chunks: Chunks | None = None
        try:
            try:
                chunks = await self._begin()
                while burst := await chunks.next():
                    self._chunks += burst
                    self._size += sum([len(chunk.data) for chunk in burst])
                    self._tell()
                    if self._size > _AHEAD:
                        await self._keep_pace()
            except BaseException as error:
                self._error = error
                if not isinstance(error, Exception):
                    raise
            finally:
                if chunks is not None:
                    chunks.close()
                self._done = True
                self._tell()
            if self._error is None and self._size <= _WHOLE:
                await self._landed(self._chunks)
        finally:
            self._ended()

    async def _keep_pace(self) -> None:
        """Wait until the reader who sets the pace has caught up; forget what nobody can ask for any more."""
        pace = max
        if self._size > _WHOLE:
            pace = min
            self._ended()
        while self._readers and self._size - pace(reader.taken for reader in self._readers) > _AHEAD:
            self._moved.clear()
            await self._moved.wait()
        if self._size > _WHOLE and self._readers:
            read = min(reader.read for reader in self._readers)
            del self._chunks[: read - self._forgotten]
            self._forgotten = read

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    async def _next_news(self) -> None:
        await self._news.wait()

    def _leave(self, reader: FlightReader) -> None:
        self._readers.discard(reader)
        self._moved.set()
        if self._readers:
            if reader.exchange is self.payer and not self._done and not reader.exchange.ended:
                self.payer = next(iter(self._readers)).exchange
                self._taken_over(reader.exchange, self.payer)
            return
        if self._done:
            self._error = None  # it holds the frames it passed, and with them this flight
        elif self._task is not None:
            self.abandoned = True
            self._ended()
            self._task.cancel()


class FlightReader:
    """One caller's view of a flight, from its first chunk on."""

    def __init__(self, flight: Flight, exchange: Exchange) -> None:
        self.exchange = exchange
        self.read = 0  # chunks
        self.taken = 0  # bytes
        self._flight = flight
        self._closed = False

    async def next(self) -> list[Chunk]:
        flight = self._flight
        while self.read == flight._forgotten + len(flight._chunks):
            if flight._done:
                if flight._error is not None:
                    raise flight._error
                return []
            await flight._next_news()
        chunks = flight._chunks[self.read - flight._forgotten :]
        self.read += len(chunks)
        self.taken += sum([len(chunk.data) for chunk in chunks])
        flight._moved.set()
        return chunks

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._flight._leave(self)
