"""One upstream call shared by all who ask the same at the same time.

The call runs in a task of its own, so that no caller's disconnect ends it for the others; when the last one
has gone, it is cut off.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from gateway.chat import Chunk
from gateway.exchange import Exchange
from gateway.providers.protocol import Chunks


class Flight:
    def __init__(
        self,
        begin: Callable[[], Awaitable[Chunks]],
        landed: Callable[[list[Chunk]], None],
        ended: Callable[[], None],
        exchange: Exchange,
        *,
        stream: bool,
    ) -> None:
        """`landed` gets the whole answer, once it has come without a fault; `ended` is called in every case.

        `exchange` is the first caller's: it carries the attempts, and the target that the others are told too.
        """
        self.exchange = exchange
        self.stream = stream
        self._begin = begin
        self._landed = landed
        self._ended = ended
        self._chunks: list[Chunk] = []
        self._readers = 0
        self._done = False
        self._error: BaseException | None = None
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def join(self) -> FlightReader:
        """A reader of this flight, once its answer has begun. Raises what the call raised."""
        reader = FlightReader(self)
        self._readers += 1
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
            chunks = await self._begin()
            while burst := await chunks.next():
                self._chunks += burst
                self._tell()
            self._landed(self._chunks)
        except BaseException as error:
            self._error = error
            if not isinstance(error, Exception):
                raise
        finally:
            if chunks is not None:
                chunks.close()
            self._done = True
            self._ended()
            self._tell()

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    async def _next_news(self) -> None:
        await self._news.wait()

    def _leave(self) -> None:
        self._readers -= 1
        if self._readers == 0 and not self._done and self._task is not None:
            self._ended()
            self._task.cancel()


class FlightReader:
    """One caller's view of a flight, from its first chunk on."""

    def __init__(self, flight: Flight) -> None:
        self._flight = flight
        self._read = 0
        self._closed = False

    async def next(self) -> list[Chunk]:
        flight = self._flight
        while self._read == len(flight._chunks):
            if flight._done:
                if flight._error is not None:
                    raise flight._error
                return []
            await flight._next_news()
        chunks = flight._chunks[self._read :]
        self._read = len(flight._chunks)
        return chunks

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._flight._leave()
