"""Calls to a cache's stage without a gateway round it: an upstream that answers when it is let, and what callers say."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

from features.vector import FeatureVector
from gateway.cache.answers import AnswerCache, CacheTerms
from gateway.cache.memory import MemoryEntries
from gateway.cache.meter import CacheMeter
from gateway.cache.protocol import Entries
from gateway.cache.rechecking import Screen
from gateway.cache.wishes import wish
from gateway.chat import ChatRequest
from gateway.chunks import Chunk
from gateway.exchange import Exchange
from gateway.providers.protocol import Chunks
from gateway.providers.replay import Replayed
from gateway.values import Caller, Target
from retrieval.passages import Passage

TARGET = Target("mock", "gpt-mock")


def answer(text: str | None = "hello", finish: str = "stop", **more: Any) -> Chunk:
    choice = {"index": 0, "message": {"role": "assistant", "content": text, **more}, "finish_reason": finish}
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    document = {"id": "chatcmpl-1", "object": "chat.completion", "model": "gpt-mock", "choices": [choice]}
    return Chunk(json.dumps({**document, "usage": usage}).encode())


class Upstream:
    """Counts calls; answers when let."""

    def __init__(self, chunk: Chunk | None = None, *, go: bool = True) -> None:
        self.calls = 0
        self.cancelled = 0
        self.go = asyncio.Event()
        if go:
            self.go.set()
        self.chunk = chunk or answer()
        self.error: Exception | None = None
        self.degraded: list[str] = []
        self.made: list[Exchange] = []

    async def __call__(self, request: object, exchange: Exchange) -> Chunks:
        self.calls += 1
        self.made.append(exchange)
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.error is not None:
            raise self.error
        exchange.target = TARGET
        exchange.degraded += self.degraded
        return Replayed([self.chunk])


def cache_of(
    entries: Entries | None = None, *, scope: str = "m", meter: CacheMeter | None = None, **terms: Any
) -> AnswerCache:
    if entries is None:
        entries = MemoryEntries(100_000, 50_000)
    return AnswerCache(scope, CacheTerms(**terms), entries, meter or CacheMeter())


def exchange_for(
    *,
    tenant: str = "a",
    user: str | None = None,
    sensitivity: str | None = None,
    passages: Sequence[Passage] = (),
    features: FeatureVector | None = None,
    cache_control: str | None = None,
    own: str | None = None,
) -> Exchange:
    exchange = Exchange("chat.completions")
    exchange.model = "m"
    exchange.caller = Caller("key", tenant, user, sensitivity=sensitivity)
    exchange.passages = passages
    exchange.features = features
    exchange.cache_wish = wish(cache_control.encode() if cache_control else None, own.encode() if own else None)
    return exchange


def request_of(**fields: Any) -> ChatRequest:
    return ChatRequest(json.dumps({"model": "m", "messages": [{"role": "user", "content": "q"}], **fields}).encode())


async def told(
    cache: AnswerCache,
    upstream: Upstream,
    *,
    exchange: Exchange | None = None,
    screen: Screen | None = None,
    fields: dict[str, Any] | None = None,
    **who: Any,
) -> tuple[str, str, Exchange]:
    """What the header would say, the text, and the exchange."""
    exchange = exchange or exchange_for(**who)
    chunks = await cache.answer(request_of(**fields or {}), exchange, upstream, screen)
    text = ""
    while burst := await chunks.next():
        for chunk in burst:
            for choice in chunk.facts.choices or ():
                part = choice.delta or choice.message
                text += (part.content or "") if part is not None else ""
    chunks.close()
    return exchange.cache, text, exchange


async def ask(cache: AnswerCache, upstream: Upstream, **who: Any) -> str:
    """What the header would say."""
    return (await told(cache, upstream, **who))[0]
