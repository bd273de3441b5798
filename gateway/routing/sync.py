"""Keeps this process's view of routing in step with the record store: counts go out, changes come in.

One round takes a transaction for each model that has something to add, and one query. When the store is away, calls
go on as they are routed now, and what was counted waits.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import Mapping
from typing import Protocol

from gateway.records.routing import Change, Event
from gateway.routing.arms import Shared
from gateway.routing.state import ArmStats, decode, encode

log = logging.getLogger(__name__)


class Store(Protocol):
    def since(self, sequence: int) -> tuple[int, dict[str, bytes]]: ...

    def change(self, model: str, change: Change) -> bytes: ...


class RoutingSync:
    def __init__(self, store: Store, shared: Mapping[str, Shared], every: float = 0.5) -> None:
        """`shared` may grow while this runs; `every` is the seconds between rounds."""
        self._store = store
        self._shared = shared
        self._every = every
        self._sequence = 0
        self.healthy = True

    async def run(self) -> None:
        """Rounds until cancelled, and one last when it is."""
        try:
            while True:
                await self.round()
                await asyncio.sleep(self._every)
        finally:
            self._round(self._taken())

    async def round(self) -> None:
        if self._shared:
            await asyncio.to_thread(self._round, self._taken())

    def _taken(self) -> dict[str, dict[str, ArmStats]]:
        """What was counted since the last round; taken in the event loop, where it is counted."""
        taken = {}
        for model, shared in self._shared.items():
            if shared.pending or shared.decide is not None:
                taken[model], shared.pending = shared.pending, {}
        return taken

    def _round(self, taken: dict[str, dict[str, ArmStats]]) -> None:
        try:
            while taken:
                model, delta = next(iter(taken.items()))
                if delta or self._has_to_decide(model):
                    self._store.change(model, self._merging(model, delta))
                del taken[model]
            self._sequence, changed = self._store.since(self._sequence)
        except sqlite3.Error as error:
            if self.healthy:
                log.error("the routing state can't be read or written, calls go on as before: %s", error)
            self.healthy = False
            for model, delta in taken.items():
                for arm, stats in delta.items():
                    self._shared[model].count(arm).add(stats)
            return
        if not self.healthy:
            log.warning("the routing state is in step again")
        self.healthy = True
        for model, document in changed.items():
            if model in self._shared:
                self._shared[model].state = decode(document)

    def _has_to_decide(self, model: str) -> bool:
        shared = self._shared[model]
        if shared.decide is None:
            return False
        return bool(shared.decide(decode(encode(shared.state)), time.time()))

    def _merging(self, model: str, delta: dict[str, ArmStats]) -> Change:
        decide = self._shared[model].decide

        def change(document: bytes | None) -> tuple[bytes, list[Event]]:
            state = decode(document)
            state.merge(delta)
            events = decide(state, time.time()) if decide is not None else []
            for event in events:
                log.info("%s: %s, %s -> %s: %s", event.model, event.action, event.before, event.after, event.reason)
            return encode(state), events

        return change
