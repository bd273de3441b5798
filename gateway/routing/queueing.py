"""A fair queue in front of a server of our own, which gets so many calls at a time and no more.

A model server that is given more than it can hold does not do more: it swaps, recomputes and answers all of it late.
What it has no room for waits here, for a bounded time and in a bounded number, and in a fair order (`fairness`); what
would wait too long is refused at once, while its caller can still do something else.

One queue a provider, since the server has the capacity, whatever its models. It belongs to the event loop, outlives
reloads, and is this process's: of several workers each has its part.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from gateway.errors import QueueFull
from gateway.routing.fairness import FairOrder, Flow
from gateway.routing.retries import seconds_of

if TYPE_CHECKING:
    from gateway.chunks import Chunk
    from gateway.config.queueing import ServerQueue as Settings
    from gateway.exchange import Exchange
    from gateway.providers.protocol import Chunks
    from gateway.values import Priority

Reason = Literal["wait", "length", "late"]
"""Why a call was refused: it would have waited too long, too many wait, or it has waited too long."""

_BESIDE = frozenset({"shadow"})  # own calls that nobody waits for


class _Turn:
    """A call that waits. `told`: None when its turn has come, or why it never will."""

    __slots__ = ("come", "flow", "left", "told")

    def __init__(self, flow: Flow[_Turn], told: asyncio.Future[Reason | None]) -> None:
        self.flow = flow
        self.told = told
        self.come = False
        self.left = False


class Slot:
    """One of the calls that the server has; until it is released, which may be done more than once."""

    __slots__ = ("_began", "_call_id", "_flow", "_queue")

    def __init__(self, queue: ServerQueue, flow: Flow[_Turn] | None, call_id: str) -> None:
        self._queue = queue
        self._flow = flow
        self._call_id = call_id
        self._began = queue.clock()

    def release(self, _: object = None) -> None:
        flow, self._flow = self._flow, None
        if flow is not None:
            self._queue.ended(flow, self._call_id, self._queue.clock() - self._began)


class Queued:
    """An answer whose end frees its slot: at its last chunk, or where it is cut off. See Chunks."""

    __slots__ = ("_chunks", "_slot", "_whole")

    def __init__(self, chunks: Chunks, slot: Slot, *, whole: bool) -> None:
        """`whole`: it comes as one chunk."""
        self._chunks = chunks
        self._slot = slot
        self._whole = whole

    async def next(self) -> list[Chunk]:
        burst = await self._chunks.next()
        if self._whole or not burst:
            self._slot.release()
        return burst

    def close(self) -> None:
        self._chunks.close()
        self._slot.release()


class ServerQueue:
    """The queue of one provider."""

    def __init__(
        self, name: str, settings: Settings, part: tuple[int, int], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`part`: which worker this is, and of how many. Raises ValueError where they can't share so little."""
        self.name = name
        self.clock = clock
        self._order: FairOrder[_Turn] = FairOrder(settings.shares)
        self._holders: Counter[str] = Counter()  # the calls that have slots, by their ids
        self.running = 0
        self.shed: Counter[Reason] = Counter()
        self.observe: Callable[[float], None] = _unobserved
        self._configure(settings, part)

    @property
    def waiting(self) -> int:
        return self._order.waiting

    def by_class(self) -> dict[Priority, int]:
        return self._order.by_class()

    def told(self) -> dict[str, int]:
        """How full it is, for operators."""
        return {"concurrency": self.concurrency, "running": self.running, "waiting": self.waiting}

    def configure(self, settings: Settings, part: tuple[int, int]) -> None:
        """Other bounds, from now on; those who wait keep theirs."""
        self._configure(settings, part)
        self._order.reweigh(settings.shares)
        self._go_on()

    def _configure(self, settings: Settings, part: tuple[int, int]) -> None:
        self.concurrency = part_of(self.name, settings.concurrency, part)
        self._max_length = -(-settings.max_length // part[1])
        self._max_wait = settings.max_wait

    # -- a call's way through ------------------------------------------------------------------------------
    def check(self, exchange: Exchange) -> None:
        """Raises QueueFull where this call could not wait here now; it has not been put into the queue."""
        flow = self._flow(exchange)
        if (reason := self._against(flow, self._max_wait)) is not None:
            raise self._refused(flow, reason)

    async def enter(self, exchange: Exchange, deadline: float) -> Slot:
        """Wait for a slot, until `deadline` (loop time) at most. Raises QueueFull, at once where that can be known.

        What the gateway asks the same server on behalf of a call that has a slot runs in that one: if it waited for
        another, calls could hold all of the slots and wait for each other.
        """
        made_for = exchange.made_for
        if made_for is not None and made_for[1] in self._holders:
            return Slot(self, None, exchange.call_id)
        began = time.perf_counter_ns()
        flow = self._flow(exchange)
        if self.running >= self.concurrency or self._order.waiting:
            await self._wait(flow, deadline, exchange, began)
        else:
            self._order.begin(flow)
            self.running += 1
        self._waited(exchange, began)
        self._holders[exchange.call_id] += 1
        return Slot(self, flow, exchange.call_id)

    def ended(self, flow: Flow[_Turn], call_id: str, seconds: float) -> None:
        """A call has given its slot back."""
        self._holders[call_id] -= 1
        if not self._holders[call_id]:
            del self._holders[call_id]
        self._freed(flow, seconds)

    # ----------------------------------------------------------------------------------------------------
    def _flow(self, exchange: Exchange) -> Flow[_Turn]:
        caller, made_for = exchange.caller, exchange.made_for
        assert caller is not None, "who calls is known before it is known where to"
        unawaited = made_for is not None and made_for[0] in _BESIDE
        return self._order.flow("low" if unawaited else caller.priority, caller.tenant)

    async def _wait(self, flow: Flow[_Turn], deadline: float, exchange: Exchange, began: int) -> None:
        loop = asyncio.get_running_loop()
        most = min(self._max_wait, deadline - loop.time())
        if (reason := self._against(flow, most)) is not None:
            raise self._refused(flow, reason)
        if self._order.waiting >= self._max_length and (out := self._order.newest_of_most(flow)) is not None:
            self._turn_away(out[1], "length")
        turn = _Turn(flow, loop.create_future())
        self._order.add(flow, turn)
        timer = loop.call_later(most, self._turn_away, turn, "late")
        try:
            told = await turn.told
        except asyncio.CancelledError:
            if turn.come:
                self._freed(flow, None)  # at the very moment at which its caller left
            elif turn.told.cancelled():
                self._leave(turn)
            self._waited(exchange, began)
            raise
        finally:
            timer.cancel()
        if told is not None:
            self._waited(exchange, began)
            raise self._refused(flow, told)

    def _against(self, flow: Flow[_Turn], most: float) -> Reason | None:
        """Why a call that waits for `most` seconds at most can't do so here."""
        order = self._order
        if self.running < self.concurrency and not order.waiting:
            return None
        expected = order.expected(flow, self.concurrency)
        if most <= 0 or (expected is not None and expected > most):
            return "wait"
        if order.waiting >= self._max_length and order.newest_of_most(flow) is None:
            return "length"
        return None

    def _refused(self, flow: Flow[_Turn], reason: Reason) -> QueueFull:
        self.shed[reason] += 1
        expected = self._order.expected(flow, self.concurrency)
        seconds = max(1, math.ceil(expected or 0.0))
        return QueueFull(
            f"The model's server is busy, and the queue before it too long. Try again in {seconds} s.",
            retry_after=str(seconds),
        )

    def _turn_away(self, turn: _Turn, reason: Reason) -> None:
        if not turn.told.done():
            turn.told.set_result(reason)
            self._leave(turn)
        elif turn.told.cancelled() and not turn.come:
            self._leave(turn)  # its caller is just leaving by itself

    def _leave(self, turn: _Turn) -> None:
        if not turn.left:
            turn.left = True
            self._order.leave(turn.flow, turn)

    def _freed(self, flow: Flow[_Turn], seconds: float | None) -> None:
        """`seconds`: how long a slot was used; None where it was not."""
        self.running -= 1
        self._order.end(flow, seconds)
        self._go_on()

    def _go_on(self) -> None:
        while self._order.waiting and self.running < self.concurrency:
            turn = self._order.take()
            self.running += 1
            turn.come = True
            if not turn.told.done():  # else its caller is just leaving, and hands it on
                turn.told.set_result(None)

    def _waited(self, exchange: Exchange, began: int) -> None:
        exchange.stage("queue", began)
        self.observe((exchange.stages[-1][2] - began) / 1e9)


def part_of(name: str, concurrency: int, part: tuple[int, int]) -> int:
    """A worker's part of a server's concurrency. Raises ValueError where that is nothing."""
    number, count = part
    if concurrency < count:
        raise ValueError(
            f"providers.{name}.queue: {count} workers can't share a concurrency of {concurrency}: run at most "
            f"{concurrency}, or let the server have {count} calls at a time"
        )
    return concurrency // count + (number <= concurrency % count)


def sooner(one: QueueFull, other: QueueFull) -> QueueFull:
    """Whichever is over first."""
    return min(one, other, key=lambda full: seconds_of(full.retry_after) or 0.0)


def _unobserved(seconds: float) -> None:
    pass
