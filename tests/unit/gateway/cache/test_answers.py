"""Who shares an answer: flights, what is kept, and for how long it is given."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from cache_asking import TARGET, Upstream, answer, ask, cache_of, exchange_for, request_of, told

from gateway.cache.memory import MemoryEntries
from gateway.cache.meter import CacheMeter
from gateway.cache.protocol import Kept, Purge
from gateway.chat import Request
from gateway.chunks import Chunk
from gateway.errors import NotCached, UpstreamFailed
from gateway.exchange import Exchange
from gateway.providers.protocol import Chunks
from gateway.values import Target


async def test_equal_calls_share_and_others_do_not() -> None:
    cache, upstream = cache_of(), Upstream()
    asked: list[dict[str, Any]] = [
        {},
        {},
        {"user": "someone", "metadata": {"a": "b"}, "prompt_cache_key": "k", "store": True},
        {"stream": True},
        {"temperature": 0.5},
        {"messages": [{"role": "user", "content": "Q"}]},
        {"x_unknown": 1},
    ]
    outcomes = [await ask(cache, upstream, fields=fields) for fields in asked]
    assert outcomes == ["miss", "hit", "hit", "hit", "miss", "miss", "miss"]


async def test_narrowed_caches_share_nothing() -> None:
    cache, upstream = cache_of(), Upstream()
    others = [cache.narrowed("guardrail 1"), cache.narrowed("guardrail 2")]
    assert [await ask(each, upstream) for each in (cache, *others)] == ["miss"] * 3


async def test_a_hit_tells_its_age_its_target_and_its_share_of_the_price() -> None:
    cache, upstream = cache_of(charge=0.25), Upstream()
    await ask(cache, upstream)
    _, _, exchange = await told(cache, upstream)
    assert (exchange.cache_age or 0) < 5
    assert exchange.cache_age is not None
    assert (exchange.target, exchange.cost_share) == (TARGET, 0.25)
    assert exchange.cache_key is not None


@pytest.mark.parametrize("chunk", [
    answer(finish="length"), answer(finish="content_filter"), answer(finish="tool_calls"), answer(text=""),
    answer(text=None), answer(tool_calls=[{"id": "1"}]), Chunk(b'{"choices": []}'), Chunk(b'{"other": "shape"}'),
])  # fmt: skip
async def test_what_is_no_whole_answer_is_not_kept(chunk: Chunk) -> None:
    """F4."""
    cache, upstream = cache_of(), Upstream(chunk)
    assert [await ask(cache, upstream), await ask(cache, upstream)] == ["miss", "miss"]


async def test_an_answer_that_went_on_without_a_stage_is_not_kept() -> None:
    """F4."""
    cache, upstream = cache_of(), Upstream()
    upstream.degraded = ["guardrails.pii"]
    assert await ask(cache, upstream) == "miss"
    upstream.degraded = []
    assert [await ask(cache, upstream), await ask(cache, upstream)] == ["miss", "hit"]


async def test_whoever_shares_an_answer_is_told_what_it_went_without() -> None:
    cache, upstream = cache_of(), Upstream()
    upstream.degraded = ["guardrails.pii"]
    outcomes = await asyncio.gather(*(told(cache, upstream) for _ in range(3)))
    assert [(kind, exchange.degraded) for kind, _, exchange in outcomes] == [
        (kind, ["guardrails.pii"]) for kind in ("miss", "hit", "hit")
    ]


async def test_equal_calls_at_once_make_one_call_upstream() -> None:
    cache, upstream = cache_of(), Upstream(go=False)
    calls = [asyncio.create_task(ask(cache, upstream, fields={"stream": bool(n % 2)})) for n in range(20)]
    while not upstream.calls:
        await asyncio.sleep(0)
    calls[0].cancel()  # the first one leaves; the others still get theirs
    upstream.go.set()
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert upstream.calls == 1
    assert outcomes[1:] == ["hit"] * 19


async def test_a_flight_that_nobody_waits_for_is_cut_off() -> None:
    cache, upstream = cache_of(), Upstream(go=False)
    calls = [asyncio.create_task(ask(cache, upstream)) for _ in range(3)]
    while not upstream.calls:
        await asyncio.sleep(0)
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    await asyncio.sleep(0)
    assert upstream.cancelled == 1
    upstream.go.set()
    assert await ask(cache, upstream) == "miss"


async def test_an_error_reaches_all_and_is_not_kept() -> None:
    cache, upstream = cache_of(), Upstream()
    upstream.error = UpstreamFailed("broken")
    outcomes = await asyncio.gather(*(ask(cache, upstream) for _ in range(3)), return_exceptions=True)
    assert [str(outcome) for outcome in outcomes] == ["broken"] * 3
    upstream.error = None
    assert await ask(cache, upstream) == "miss"


async def test_what_was_purged_while_it_was_made_is_not_kept() -> None:
    entries, upstream = MemoryEntries(100_000, 50_000), Upstream(go=False)
    cache = cache_of(entries)
    call = asyncio.create_task(ask(cache, upstream))
    while not upstream.calls:
        await asyncio.sleep(0)
    await entries.purge(Purge(tenant="z"))
    upstream.go.set()
    assert await call == "miss"
    assert [await ask(cache, upstream), await ask(cache, upstream)] == ["miss", "hit"]


# --- what a caller may say ----------------------------------------------------------------------------
async def test_a_caller_may_go_round_the_cache() -> None:
    cache, upstream = cache_of(), Upstream()
    await ask(cache, upstream)
    told_by = [
        await ask(cache, upstream, **said)
        for said in ({"own": "off"}, {"cache_control": "no-store"}, {"own": "refresh"}, {"cache_control": "no-cache"})
    ]
    assert told_by == ["off", "off", "miss", "miss"]
    assert upstream.calls == 5
    assert await ask(cache, upstream, own="exact") == "hit"


async def test_a_refresh_replaces_what_was_kept() -> None:
    cache, upstream = cache_of(), Upstream(answer("old"))
    await ask(cache, upstream)
    upstream.chunk = answer("new")
    await ask(cache, upstream, own="refresh")
    assert (await told(cache, upstream))[:2] == ("hit", "new")


async def test_only_if_cached_wants_no_other_answer() -> None:
    cache, upstream = cache_of(), Upstream()
    with pytest.raises(NotCached):
        await ask(cache, upstream, cache_control="only-if-cached")
    await ask(cache, upstream)
    assert await ask(cache, upstream, cache_control="only-if-cached") == "hit"
    with pytest.raises(NotCached):
        await ask(cache, upstream, cache_control="only-if-cached, no-store")
    with pytest.raises(NotCached):
        await ask(cache, upstream, cache_control="only-if-cached, no-cache")
    assert upstream.calls == 1


class Aged(MemoryEntries):
    """Whose answers are as old as one wants."""

    def age(self, seconds: float) -> None:
        for held in self._held.values():
            held.kept.made_at = time.time() - seconds


async def test_an_answer_older_than_the_caller_wants_is_made_anew() -> None:
    entries, upstream = Aged(100_000, 50_000), Upstream()
    cache = cache_of(entries)
    await ask(cache, upstream)
    entries.age(100)
    assert await ask(cache, upstream, cache_control="max-age=101") == "hit"
    assert await ask(cache, upstream, cache_control="max-age=99") == "miss"
    assert await ask(cache, upstream, cache_control="max-age=99") == "hit"


async def test_a_ttl_of_the_caller_may_only_shorten() -> None:
    entries, upstream = Aged(100_000, 50_000), Upstream()
    cache = cache_of(entries, ttl=60)
    for said, outcome in (("ttl=1h", "miss"), ("ttl=10s", "hit")):
        await ask(cache, upstream, own=f"refresh, {said}")
        entries.age(61 if outcome == "miss" else 9)
        assert await ask(cache, upstream) == outcome
    entries.age(11)
    assert await ask(cache, upstream) == "miss"


# --- stale answers ------------------------------------------------------------------------------------
async def test_a_stale_answer_is_given_while_a_new_one_is_made_once() -> None:
    meter = CacheMeter()
    entries, upstream = Aged(100_000, 50_000), Upstream(answer("old"))
    cache = cache_of(entries, ttl=60, stale=30, meter=meter)
    await ask(cache, upstream)
    entries.age(70)
    upstream.chunk = answer("new")
    upstream.go.clear()
    told_by = [await told(cache, upstream) for _ in range(3)]
    assert [each[:2] for each in told_by] == [("hit", "old")] * 3
    while upstream.calls < 2:
        await asyncio.sleep(0)
    upstream.go.set()
    while (await told(cache, upstream))[1] == "old":
        await asyncio.sleep(0)
    assert upstream.calls == 2
    made = upstream.made[1]
    assert made.made_for == ("revalidate", told_by[0][2].call_id)
    while not made.ended:
        await asyncio.sleep(0)
    assert (made.status, made.outcome, made.finish_reason) == (200, "ok", "stop")
    assert made.usage is not None
    assert meter.stale >= 3


async def test_a_stale_answer_is_not_for_whoever_says_how_old_it_may_be_nor_for_ever() -> None:
    entries, upstream = Aged(100_000, 50_000), Upstream()
    cache = cache_of(entries, ttl=60, stale=30)
    await ask(cache, upstream)
    entries.age(70)
    assert await ask(cache, upstream, cache_control="max-age=80") == "miss"
    entries.age(91)
    assert await ask(cache, upstream) == "miss"


async def test_a_refresh_that_fails_leaves_the_stale_answer() -> None:
    entries, upstream = Aged(100_000, 50_000), Upstream()
    cache = cache_of(entries, ttl=60, stale=30)
    await ask(cache, upstream)
    entries.age(70)
    upstream.error = UpstreamFailed("broken")
    assert await ask(cache, upstream) == "hit"
    while len(upstream.made) < 2 or not upstream.made[1].ended:
        await asyncio.sleep(0)
    assert (upstream.made[1].outcome, upstream.made[1].status) == ("error", 502)
    assert await ask(cache, upstream) == "hit"


# --- answers to questions that mean the same ------------------------------------------------------------
class Alike:
    """A semantic cache that holds one answer for everybody."""

    def __init__(self, kept: Kept | None) -> None:
        self.kept = kept
        self.asked = 0
        self.given: list[tuple[bytes, float | None]] = []

    def applies(self, request: Request, exchange: Exchange) -> bool:
        return request.endpoint == "chat.completions"

    async def find(self, request: Request, exchange: Exchange) -> Kept | None:
        self.asked += 1
        return self.kept

    async def keep(
        self, request: Request, exchange: Exchange, key: bytes, completion: Chunk, served_by: Target | None,
        ttl: float | None, purged: Callable[[], Awaitable[bool]],
    ) -> None:  # fmt: skip
        self.given.append((key, ttl))
        self.purged = purged

    def watched(self, chunks: Chunks, exchange: Exchange) -> Chunks:
        return chunks

    async def purge(self, what: Purge) -> int:
        return 0

    def narrowed(self, more: str) -> Alike:
        return Alike(self.kept)


async def test_a_likeness_is_asked_for_after_an_exact_miss_and_not_kept_as_an_exact_answer() -> None:
    cache, upstream = cache_of(), Upstream(answer("exact"))
    alike = cache._semantic = Alike(Kept(answer("alike"), TARGET, time.time() - 7))
    kind, text, exchange = await told(cache, upstream)
    assert (kind, text, int(exchange.cache_age or 0)) == ("semantic", "alike", 7)
    assert await ask(cache, upstream, own="exact") == "miss"
    assert await ask(cache, upstream) == "hit"
    assert (alike.asked, upstream.calls) == (1, 1)


async def test_whoever_waits_for_one_that_means_the_same_is_told_so() -> None:
    cache, upstream = cache_of(), Upstream()
    cache._semantic = Alike(Kept(answer("alike"), TARGET, time.time()))
    outcomes = await asyncio.gather(*(ask(cache, upstream) for _ in range(5)))
    assert outcomes == ["semantic"] * 5


async def test_one_that_means_the_same_is_nobody_else_s() -> None:
    """It may have been made of what this user alone may read: each user asks, and waits, for themselves."""
    cache, upstream = cache_of(), Upstream()
    alike = cache._semantic = Alike(Kept(answer("alike"), TARGET, time.time()))
    users = ("ann", "ann", "bob", None)
    outcomes = await asyncio.gather(*(ask(cache, upstream, user=user) for user in users))
    assert (outcomes, alike.asked) == (["semantic"] * 4, 3)


async def test_a_new_answer_is_handed_on_with_what_its_caller_allows() -> None:
    cache, upstream = cache_of(), Upstream()
    alike = cache._semantic = Alike(None)
    _, _, exchange = await told(cache, upstream, own="ttl=10s")
    assert exchange.cache_key is not None
    assert alike.given == [(exchange.cache_key.digest, 10.0)]
    assert not await alike.purged()
    await cache._entries.purge(Purge(tenant="nobody"))
    assert await alike.purged()


async def test_a_likeness_is_kept_from_whom_its_age_or_the_cache_does_not_suit() -> None:
    cache, upstream = cache_of(), Upstream()
    cache._semantic = Alike(Kept(answer("alike"), TARGET, time.time() - 50))
    said = [{"cache_control": "max-age=10"}, {"own": "refresh"}, {"own": "off"}]
    assert [await ask(cache, upstream, **each) for each in said] == ["miss", "miss", "off"]


async def test_a_key_names_its_parts_and_none_of_their_values() -> None:
    exchange = exchange_for()
    await told(cache_of(), Upstream(), exchange=exchange, fields={"temperature": 0.25})
    assert exchange.cache_key is not None
    parts = exchange.cache_key.parts()
    assert list(parts) == ["tenant", "model", "endpoint", "request.messages", "request.temperature"]
    assert all(len(digest) == 16 for digest in parts.values())
    for fields, differ in (({"temperature": 0.25}, set()), ({"temperature": 0.5}, {"request.temperature"})):
        other = exchange_for()
        await told(cache_of(), Upstream(), exchange=other, fields=fields)
        assert other.cache_key is not None
        told_of_other = other.cache_key.parts()
        assert {name for name in parts if parts[name] != told_of_other[name]} == differ
    again = exchange_for(tenant="b")
    await told(cache_of(), Upstream(), exchange=again, fields={"temperature": 0.25})
    assert again.cache_key is not None
    assert not set(again.cache_key.parts().values()) & set(parts.values())  # nobody compares across tenants


async def test_every_answer_has_an_id_of_its_own_that_its_record_knows() -> None:
    cache, upstream = cache_of(), Upstream(go=False)

    async def ids(stream: bool) -> set[str]:
        exchange = exchange_for()
        chunks = await cache.answer(request_of(stream=stream), exchange, upstream)
        told: set[str] = set()
        while burst := await chunks.next():
            for chunk in burst:
                assert f'"{chunk.facts.id}"'.encode() in chunk.data
                told.add(str(chunk.facts.id))
        return told

    calls = [asyncio.create_task(ids(stream)) for stream in (False, False, True, True)]
    while not upstream.calls:
        await asyncio.sleep(0)
    upstream.go.set()
    told = [*await asyncio.gather(*calls), await ids(False), await ids(True)]
    assert all(len(each) == 1 for each in told)
    assert len(set.union(*told)) == 6
