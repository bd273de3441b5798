"""Keeps this process's view of routing in step with the record store: counts go out, changes come in.

One round takes a transaction for each model that has something to add, and one query. When the store is away, calls
go on as they are routed now, and what was counted waits.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from gateway.records.database import StoreUnavailable
from gateway.records.routing import Change, Event
from gateway.routing.arms import Shared
from gateway.routing.rewards import Rated, Waiting, count_unrated
from gateway.routing.state import ArmStats, decode, encode

log = logging.getLogger(__name__)


class Store(Protocol):
    def since(self, sequence: int) -> tuple[int, dict[str, bytes]]: ...

    def change(self, model: str, change: Change) -> bytes: ...


@dataclass(slots=True)
class _Taken:
    """One model's share of a round."""

    delta: dict[str, ArmStats]
    expired: list[Waiting]


class RoutingSync:
    def __init__(self, store: Store, shared: Mapping[str, Shared], rated: Rated, every: float = 0.5) -> None:
        """`shared` may grow while this runs; `every` is the seconds between rounds."""
        self._store = store
        self._rated = rated
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

    def _taken(self) -> dict[str, _Taken]:
        """What was counted since the last round; taken in the event loop, where it is counted."""
        taken = {}
        for model, shared in self._shared.items():
            expired = shared.rewards.expired(time.time()) if shared.rewards is not None else []
            if shared.pending or expired or shared.decide is not None:
                taken[model], shared.pending = _Taken(shared.pending, expired), {}
        return taken

    def _round(self, taken: dict[str, _Taken]) -> None:
        try:
            while taken:
                model, took = next(iter(taken.items()))
                if took.expired:
                    count_unrated(took.expired, self._rated, took.delta)
                    took.expired = []
                if took.delta or self._has_to_decide(model):
                    self._store.change(model, self._merging(model, took.delta))
                del taken[model]
            self._sequence, changed = self._store.since(self._sequence)
        except StoreUnavailable as error:
            if self.healthy:
                log.error("the routing state can't be read or written, calls go on as before: %s", error)
            self.healthy = False
            for model, took in taken.items():
                for waiting in took.expired:  # whether they were rated is unknown: they count as they are
                    stats = took.delta.setdefault(waiting.arm, ArmStats())
                    stats.add(ArmStats(reward=waiting.reward, rewarded=1))
                for arm, stats in took.delta.items():
                    self._shared[model].count(arm).add(stats)
            return
        if not self.healthy:
            log.warning("the routing state is in step again")
        self.healthy = True
        for model, document in changed.items():
            shared = self._shared.get(model)
            if shared is not None:
                state = decode(document)
                if shared.prepare is not None:
                    shared.prepare(state)
                shared.state = state

    def _has_to_decide(self, model: str) -> bool:
        shared = self._shared[model]
        if shared.decide is None:
            return False
        return bool(shared.decide(decode(encode(shared.state)), time.time()))

    def _merging(self, model: str, delta: dict[str, ArmStats]) -> Change:
        shared = self._shared[model]
        decide = shared.decide

        def change(document: bytes | None) -> tuple[bytes, list[Event]]:
            state = decode(document)
            shared.merge(state, delta)
            events = decide(state, time.time()) if decide is not None else []
            for event in events:
                log.info("%s: %s, %s -> %s: %s", event.model, event.action, event.before, event.after, event.reason)
            return encode(state), events

        return change
