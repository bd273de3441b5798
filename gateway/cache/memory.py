"""Kept answers in this process's memory, bounded by age and by bytes; the least recently used go first."""

from __future__ import annotations

import time
from typing import NamedTuple

from cachetools import TLRUCache

from gateway.cache.protocol import Kept, Purge

_OVERHEAD = 500  # bytes of an entry beside its answer, about


class _Held(NamedTuple):
    kept: Kept
    until: float  # time.monotonic()
    size: int


class MemoryEntries:
    def __init__(self, max_bytes: int, max_entry: int) -> None:
        self._max_entry = min(max_entry, max_bytes)
        self._held: TLRUCache[bytes, _Held] = TLRUCache(
            max_bytes, lambda key, held, now: held.until, timer=time.monotonic, getsizeof=lambda held: held.size
        )
        self._purges = 0

    async def find(self, key: bytes) -> Kept | None:
        try:
            return self._held[key].kept  # `get` would look twice
        except KeyError:
            return None

    async def lead(self, key: bytes, patience: float, after: float) -> Kept | _Lead:
        """Always the right: whoever asks in this process meanwhile shares the flight, and no other process is asked."""
        return _Lead(self, key, self._purges)

    async def purge(self, what: Purge) -> int:
        self._purges += 1
        if what.key is not None:
            held = self._held.get(what.key)
            going = [what.key] if held is not None and what.fits(held.kept.origin) else []
        else:
            going = [key for key, held in self._held.items() if what.fits(held.kept.origin)]
        for key in going:
            self._held.pop(key, None)
        return len(going)

    async def forget(self, key: bytes) -> None:
        self._held.pop(key, None)

    def size(self) -> tuple[int, int]:
        """Answers, and their bytes."""
        self._held.expire()
        return len(self._held), int(self._held.currsize)

    def _keep(self, key: bytes, kept: Kept, life: float, purges: int) -> bool:
        size = len(kept.completion.data) + _OVERHEAD
        if purges != self._purges or size > self._max_entry:
            return False
        self._held[key] = _Held(kept, time.monotonic() + life, size)
        return True


class _Lead:
    sole = True

    def __init__(self, entries: MemoryEntries, key: bytes, purges: int) -> None:
        self._entries = entries
        self._key = key
        self._purges = purges

    async def keep(self, kept: Kept, life: float) -> bool:
        return self._entries._keep(self._key, kept, life, self._purges)

    async def purged(self) -> bool:
        return self._purges != self._entries._purges

    def end(self, *, unshared: bool) -> None:
        pass
