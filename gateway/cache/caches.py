"""All caches of one process: they are made here, counted and purged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakSet

from gateway.cache.memory import MemoryEntries
from gateway.cache.meter import CacheMeter
from gateway.cache.protocol import Purge

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gateway.cache.encoding import Seal
    from gateway.cache.protocol import Entries, Purgeable
    from gateway.cache.redis_entries import RedisEntries
    from gateway.state import RedisState

_LARGEST = 1_000_000  # bytes; of no matter where entries are only purged and counted


class SemanticOverview(Protocol):
    """What operators see of semantic caches."""

    async def here(self) -> dict[str, Any]:
        """What this process alone has kept and counted, as JSON can hold it."""

    async def overview(self, workers: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """The same of all workers together, with what all of them share."""


class Caches:
    """Outlives revisions: a purge also reaches what calls of the one before still use."""

    def __init__(self, state: RedisState | None = None, seal: Seal | None = None) -> None:
        """`seal` encrypts what is kept outside of this process."""
        self.meter = CacheMeter()
        self._state = state
        self.seal = seal
        self._memory: WeakSet[MemoryEntries] = WeakSet()
        self._others: WeakSet[Purgeable] = WeakSet()
        self._here: WeakSet[Purgeable] = WeakSet()
        self.semantic: SemanticOverview | None = None

    def in_memory(self, max_bytes: int, max_entry: int) -> Entries:
        """A store of its own."""
        made = MemoryEntries(max_bytes, max_entry)
        self._memory.add(made)
        return made

    def in_redis(self, max_entry: int) -> Entries:
        """The store that all share who share the Redis."""
        made = self._redis(max_entry)
        assert made is not None, "the configuration's references were checked"
        return made

    def add(self, other: Purgeable) -> None:
        """What keeps answers elsewhere, where all workers see them; it is purged for as long as it lives."""
        self._others.add(other)

    def add_here(self, other: Purgeable) -> None:
        """What keeps answers in this process's memory alone; likewise."""
        self._here.add(other)

    async def announce(self) -> None:
        """Before a purge: what any worker makes just now is kept nowhere that all share. Raises CacheUnavailable."""
        redis = self._redis(_LARGEST)
        if redis is not None:
            await redis.announce()

    async def purge_shared(self, what: Purge) -> int:
        """Of what all workers share; how many answers went. Raises CacheUnavailable, after which some may be left."""
        gone = 0
        for store in (self._redis(_LARGEST), *self._others):
            gone += await store.purge(what) if store is not None else 0
        return gone

    async def purge_here(self, what: Purge) -> int:
        """Of this process's memory; how many answers went."""
        return sum([await store.purge(what) for store in (*self._memory, *self._here)])

    async def purge_told(self, said: dict[str, Any]) -> int:
        """The same, as another worker of this gateway asks for it: `spelled`."""
        return await self.purge_here(read(said))

    async def here(self, _: object = None) -> dict[str, Any]:
        """What this process alone has kept and counted, for the worker that is asked for an `overview`."""
        memory = {"answers": self._answers(), "bytes": self._bytes()}
        return {"memory": memory, "semantic": await self.semantic.here() if self.semantic is not None else None}

    async def overview(self, workers: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Answers and bytes by store, and what semantic caches have found, of all workers: `here` of each.

        Raises CacheUnavailable.
        """
        memory = [worker["memory"] for worker in workers]
        stores = {"memory": {name: sum([each[name] for each in memory]) for name in ("answers", "bytes")}}
        redis = self._redis(_LARGEST)
        if redis is not None:
            answers, size = await redis.size()
            stores["redis"] = {"answers": answers, "bytes": size}
        if self.semantic is None:
            return {"stores": stores}
        semantic = [worker["semantic"] for worker in workers if worker["semantic"] is not None]
        return {"stores": stores, "semantic": await self.semantic.overview(semantic)}

    def tell(self, gauge: Callable[..., None]) -> None:
        """Have the metrics look here when scraped: gateway.telemetry.metrics.Metrics.gauge."""
        meter = self.meter
        told: tuple[tuple[str, str, Callable[[], int]], ...] = (
            ("failures", "Times that a call asked the store of kept answers and it was away.", lambda: meter.failures),
            ("stale_hits", "Kept answers given after their time, while a new one was made.", lambda: meter.stale),
            ("rejected", "Kept answers that the output guardrails did not let out again.", lambda: meter.rejected),
            ("memory_answers", "Answers kept in memory.", self._answers),
            ("memory_bytes", "Bytes of the answers kept in memory.", self._bytes),
        )
        for name, help_, value in told:
            gauge(f"rag_gateway_cache_{name}", help_, value, how="sum")

    def _redis(self, max_entry: int) -> RedisEntries | None:
        if self._state is None:
            return None
        from gateway.cache.redis_entries import RedisEntries

        return RedisEntries(self._state, max_entry, self.seal)

    def _answers(self) -> int:
        return sum([store.size()[0] for store in self._memory])

    def _bytes(self) -> int:
        return sum([store.size()[1] for store in self._memory])


def spelled(what: Purge) -> dict[str, Any]:
    """As JSON can hold it."""
    told = {name: getattr(what, name) for name in ("model", "tenant", "user", "collection", "document")}
    return {**told, "key": what.key.hex() if what.key is not None else None}


def read(said: dict[str, Any]) -> Purge:
    key = said["key"]
    return Purge(**{**said, "key": bytes.fromhex(key) if key is not None else None})
