"""Copies of calls to shadow targets: after the caller has its answer, beside everything, and never in the way."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import random

from gateway.chat import ChatRequest, Request
from gateway.errors import GatewayError
from gateway.exchange import Exchange
from gateway.providers.protocol import Chunks
from gateway.routing.beside import told
from gateway.routing.dispatch import Calls


class Shadowed:
    """`primary` answers; each of `shadows` gets a copy of a share of what went well, and both are on record.

    At most `concurrency` copies run at once and `per_day` (UTC) are made; beyond that they are left out, not queued.
    """

    def __init__(
        self, primary: Calls, shadows: dict[str, Calls], *, share: float, concurrency: int, per_day: int
    ) -> None:
        self._primary = primary
        self._shadows = shadows
        self._share = share
        self._concurrency = concurrency
        self._per_day = per_day
        self._running: set[asyncio.Task[None]] = set()
        self._day: datetime.date | None = None
        self._made = 0

    async def call(self, request: Request, exchange: Exchange) -> Chunks:
        if isinstance(request, ChatRequest) and random.random() < self._share:
            copied = request.whole()  # now: the caller's own may be changed on its way to the target
            exchange.at_end(lambda ended: self._mirror(copied, ended))
        return await self._primary.call(request, exchange)

    def _mirror(self, request: ChatRequest, ended: Exchange) -> None:
        if ended.outcome != "ok":
            return
        for arm, calls in self._shadows.items():
            if len(self._running) >= self._concurrency or not self._within_the_day():
                return
            made = ended.beside("shadow")
            made.arm = arm
            ended.mirrors.append(made.call_id)
            task = asyncio.get_running_loop().create_task(self._run(calls, request, made))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    async def _run(self, calls: Calls, request: ChatRequest, made: Exchange) -> None:
        with contextlib.suppress(GatewayError):  # it is in the record, and no caller's concern
            await told(calls, request, made)

    def _within_the_day(self) -> bool:
        today = datetime.datetime.now(datetime.UTC).date()
        if today != self._day:
            self._day, self._made = today, 0
        self._made += 1
        return self._made <= self._per_day
