"""Who shares an answer: keys, flights, and what is kept."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest

from gateway.cache.exact import AnswerCache
from gateway.chat import ChatRequest, Chunk
from gateway.errors import UpstreamFailed
from gateway.exchange import Exchange
from gateway.providers.protocol import Chunks
from gateway.providers.replay import Replayed
from gateway.values import Caller
from retrieval.passages import Passage


def answer(text: str = "hello", finish: str = "stop") -> Chunk:
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": finish}
    return Chunk(json.dumps({"id": "chatcmpl-1", "choices": [choice]}).encode())


class Upstream:
    """Counts calls; answers when let."""

    def __init__(self, chunk: Chunk | None = None) -> None:
        self.calls = 0
        self.cancelled = 0
        self.go = asyncio.Event()
        self.chunk = chunk or answer()
        self.error: Exception | None = None

    async def __call__(self, request: object, exchange: Exchange) -> Chunks:
        self.calls += 1
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.error is not None:
            raise self.error
        return Replayed([self.chunk])


async def ask(
    cache: AnswerCache, upstream: Upstream, *, tenant: str = "a", passages: Sequence[Passage] = (), **fields: Any
) -> str:
    request = ChatRequest(json.dumps({"model": "m", "messages": [{"role": "user", "content": "q"}], **fields}).encode())
    exchange = Exchange("chat.completions")
    exchange.caller = Caller("key", tenant)
    exchange.passages = passages
    chunks = await cache.answer(request, exchange, upstream)
    while await chunks.next():
        pass
    chunks.close()
    return exchange.cache


async def test_passages_of_other_versions_shape_another_answer() -> None:
    """The prompt may be the same, word for word; the sources that the answer tells are not."""
    cache, upstream = AnswerCache("m", 60, 10_000), Upstream()
    upstream.go.set()

    async def ask_with(version: str) -> str:
        passage = Passage("d", version, "d#0", "c", 0.5, "title", "url", "text")
        return await ask(cache, upstream, passages=[passage])

    assert [await ask_with(version) for version in ("1", "1", "2", "2")] == ["miss", "hit", "miss", "hit"]


async def test_equal_calls_share_and_others_do_not() -> None:
    cache, upstream = AnswerCache("m", 60, 10_000), Upstream()
    upstream.go.set()
    asked = [
        {},
        {},
        {"user": "someone", "metadata": {"a": "b"}},
        {"stream": True},
        {"temperature": 0.5},
        {"tenant": "b"},
        {"messages": [{"role": "user", "content": "Q"}]},
        {"x_unknown": 1},
    ]
    outcomes = [await ask(cache, upstream, **fields) for fields in asked]
    assert outcomes == ["miss", "hit", "hit", "hit", "miss", "miss", "miss", "miss"]


async def test_another_scope_is_another_cache_key() -> None:
    upstream = Upstream()
    upstream.go.set()
    one, other = AnswerCache("template 1", 60, 10_000), AnswerCache("template 2", 60, 10_000)
    other._entries = one._entries
    assert [await ask(one, upstream), await ask(other, upstream)] == ["miss", "miss"]


@pytest.mark.parametrize("finish", ["length", "content_filter", "tool_calls"])
async def test_only_whole_answers_are_kept(finish: str) -> None:
    cache, upstream = AnswerCache("m", 60, 10_000), Upstream(answer(finish=finish))
    upstream.go.set()
    assert [await ask(cache, upstream), await ask(cache, upstream)] == ["miss", "miss"]


async def test_equal_calls_at_once_make_one_call_upstream() -> None:
    cache, upstream = AnswerCache("m", 60, 10_000), Upstream()
    calls = [asyncio.create_task(ask(cache, upstream, stream=bool(n % 2))) for n in range(20)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    calls[0].cancel()  # the first one leaves; the others still get theirs
    upstream.go.set()
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert upstream.calls == 1
    assert outcomes[1:] == ["hit"] * 19


async def test_a_flight_that_nobody_waits_for_is_cut_off() -> None:
    cache, upstream = AnswerCache("m", 60, 10_000), Upstream()
    calls = [asyncio.create_task(ask(cache, upstream)) for _ in range(3)]
    await asyncio.sleep(0.01)
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    await asyncio.sleep(0)
    assert upstream.cancelled == 1
    upstream.go.set()
    assert await ask(cache, upstream) == "miss"


async def test_an_error_reaches_all_and_is_not_kept() -> None:
    cache, upstream = AnswerCache("m", 60, 10_000), Upstream()
    upstream.error = UpstreamFailed("broken")
    upstream.go.set()
    outcomes = await asyncio.gather(*(ask(cache, upstream) for _ in range(3)), return_exceptions=True)
    assert [str(outcome) for outcome in outcomes] == ["broken"] * 3
    upstream.error = None
    assert await ask(cache, upstream) == "miss"


async def test_size_is_bounded() -> None:
    cache, upstream = AnswerCache("m", 60, 2_000), Upstream(answer("x" * 1_900))
    upstream.go.set()
    assert [await ask(cache, upstream), await ask(cache, upstream)] == ["miss", "miss"]
    assert cache._entries.currsize == 0
