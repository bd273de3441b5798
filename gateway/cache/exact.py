"""The exact cache: the same question, shaped by the same things, gets the same answer without a call.

The key holds everything that shaped the answer: tenant, public model, the pipeline's fingerprint (template,
guardrails, targets), and every field of the request as it would go upstream, so rendered messages, features and
passages are in it by construction. Only a whole answer that ended by itself is kept.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Awaitable, Callable
from copy import copy
from typing import TYPE_CHECKING

from cachetools import TTLCache

from gateway.cache.flight import Flight
from gateway.chat import Chunk, Request
from gateway.providers.replay import Replayed, Reshaped, fresh_id, split, under_id, whole

if TYPE_CHECKING:
    from gateway.exchange import Exchange
    from gateway.providers.protocol import Chunks
    from gateway.values import Target

Generate = Callable[[Request, "Exchange"], Awaitable["Chunks"]]

# How an answer travels, who asked and how it is filed do not shape it.
_NOT_SHAPING = frozenset({"stream", "stream_options", "model", "user", "safety_identifier", "metadata", "store"})


class _Entry:
    __slots__ = ("completion", "served_by", "stream")

    def __init__(self, completion: Chunk, served_by: Target | None) -> None:
        self.completion = completion
        self.served_by = served_by
        self.stream: list[Chunk] | None = None  # made when first asked for


class AnswerCache:
    """Answers of one public model, in memory, bounded by age (`ttl`, seconds) and by `max_bytes`.

    `scope` names the model and all of its settings that shape an answer; it is part of every key.
    """

    def __init__(self, scope: str, ttl: float, max_bytes: int) -> None:
        self._scope = scope.encode()
        self._entries: TTLCache[bytes, _Entry] = TTLCache(
            max_bytes, ttl, timer=time.monotonic, getsizeof=lambda entry: len(entry.completion.data) + 500
        )
        self._flights: dict[bytes, Flight] = {}

    def narrowed(self, more: str) -> AnswerCache:
        """The same memory for answers that `more` has shaped too: neither gets the other's."""
        made = copy(self)
        made._scope = self._scope + b"\0" + more.encode()
        return made

    async def answer(self, request: Request, exchange: Exchange, generate: Generate) -> Chunks:
        """A kept answer, the one that is just being made for somebody else, or a new one."""
        wish = exchange.cache_wish
        if wish == "no-store" or (request.rag is not None and request.rag.cache is False):
            return await generate(request, exchange)
        started = time.perf_counter_ns()
        key = self._key(request, exchange)
        entry = self._kept(key) if wish is None else None
        if entry is not None:
            exchange.cache = "hit"
            exchange.target = entry.served_by
            exchange.stage("cache", started)
            return Replayed(_shaped(entry, stream=request.stream))
        flight = self._flights.get(key) if wish is None else None
        exchange.cache = "miss" if flight is None else "hit"
        exchange.stage("cache", started)
        if flight is None:
            flight = self._take_off(key, request, exchange, generate)
        reader = await flight.join()
        exchange.target = flight.exchange.target
        return reader if flight.stream == request.stream else Reshaped(reader, stream=request.stream)

    def _kept(self, key: bytes) -> _Entry | None:
        try:
            return self._entries[key]  # `get` would look twice
        except KeyError:
            return None

    def _take_off(self, key: bytes, request: Request, exchange: Exchange, generate: Generate) -> Flight:
        def landed(chunks: list[Chunk]) -> None:
            completion = whole(chunks)
            entry = _Entry(completion, exchange.target)
            # An answer that a guardrail could not judge was let go for this once.
            unjudged = any(stage.startswith("guardrails.") for stage in exchange.degraded)
            if not unjudged and _may_be_kept(completion) and len(completion.data) + 500 <= self._entries.maxsize:
                self._entries[key] = entry

        def ended() -> None:
            if self._flights.get(key) is flight:
                del self._flights[key]

        flight = Flight(lambda: generate(request, exchange), landed, ended, exchange, stream=request.stream)
        self._flights[key] = flight
        return flight

    def _key(self, request: Request, exchange: Exchange) -> bytes:
        """32 bytes; every part is preceded by its length, so that no two requests can spell the same key."""
        assert exchange.caller is not None
        parts = [exchange.caller.tenant.encode(), self._scope]
        fields = request.fields
        for name in sorted(fields):
            if name not in _NOT_SHAPING:
                parts += (name.encode(), bytes(fields[name]))
        for passage in exchange.passages:  # whose versions the kept answer's sources tell
            parts += (passage.collection.encode(), passage.section_id.encode(), passage.version.encode())
        return hashlib.sha256(b"".join([b"%d:%b" % (len(part), part) for part in parts])).digest()


def _shaped(entry: _Entry, *, stream: bool) -> list[Chunk]:
    new_id = fresh_id()
    if not stream:
        return [under_id(new_id, entry.completion)]
    if entry.stream is None:
        entry.stream = split(entry.completion)
    return [under_id(new_id, chunk) for chunk in entry.stream]


def _may_be_kept(completion: Chunk) -> bool:
    """Only what ended by itself: nothing cut, blocked or calling a tool. Embeddings have no choices."""
    choices = completion.facts.choices
    return choices is None or all(choice.finish_reason == "stop" for choice in choices)
