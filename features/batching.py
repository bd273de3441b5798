"""Reads that come together are made together: one look into the store for all calls of a moment."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Generic, TypeVar

from features.vector import FeaturesUnavailable

Row = TypeVar("Row", bound=Hashable)
Result = TypeVar("Result")


class Batcher(Generic[Row, Result]):
    """Gathers what is asked for in one turn of the loop, or while `at_once` reads run, into reads of `most` rows.

    Nobody waits for others to come: a lone read begins with the next turn. Who asks for what somebody else is
    waiting for gets the same answer. A caller that gives up does not disturb the read.
    """

    def __init__(
        self,
        read: Callable[[Sequence[Row]], Awaitable[Sequence[Result]]],
        *,
        most: int = 100,
        at_once: int = 4,
        waiting: int = 2_000,
    ) -> None:
        """`read` answers in the order of its rows. `waiting`: rows that may wait; beyond, callers are refused."""
        self._read = read
        self._most = most
        self._at_once = at_once
        self._room = waiting
        self._asked: dict[Row, list[asyncio.Future[Result]]] = {}
        self._running: set[asyncio.Task[None]] = set()
        self._planned = False

    async def ask(self, row: Row) -> Result:
        """Raises FeaturesUnavailable where too many wait, and what the read raises."""
        if row not in self._asked and len(self._asked) >= self._room:
            raise FeaturesUnavailable("too many reads wait for the online store")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()
        self._asked.setdefault(row, []).append(future)
        if not self._planned and len(self._running) < self._at_once:
            self._planned = True
            loop.call_soon(self._begin)
        return await future

    def _begin(self) -> None:
        self._planned = False
        while self._asked and len(self._running) < self._at_once:
            batch = {}
            for row in list(self._asked)[: self._most]:
                futures = [future for future in self._asked.pop(row) if not future.done()]
                if futures:
                    batch[row] = futures
            if batch:
                task = asyncio.ensure_future(self._run(batch))
                self._running.add(task)
                task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._begin()

    async def _run(self, batch: dict[Row, list[asyncio.Future[Result]]]) -> None:
        try:
            results = await self._read(list(batch))
        except BaseException as failure:
            for futures in batch.values():
                for future in futures:
                    if not future.done():
                        if isinstance(failure, asyncio.CancelledError):
                            future.cancel()
                        else:
                            future.set_exception(failure)
            if not isinstance(failure, Exception):
                raise
            return
        for futures, result in zip(batch.values(), results, strict=True):
            for future in futures:
                if not future.done():
                    future.set_result(result)

    async def ended(self) -> None:
        """Wait for what was asked for until now."""
        while self._asked or self._running:
            await asyncio.gather(*self._running, return_exceptions=True)
            await asyncio.sleep(0)

    async def aclose(self) -> None:
        for task in list(self._running):
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
