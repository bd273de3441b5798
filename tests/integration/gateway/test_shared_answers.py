"""Two workers' caches over one Redis: one call upstream for both, whatever becomes of the worker that makes it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest
from cache_asking import Upstream, answer, ask, cache_of, exchange_for, request_of, told
from redis_process import RedisProcess

from gateway.cache import redis_entries
from gateway.cache.answers import AnswerCache
from gateway.cache.key import key_of
from gateway.cache.meter import CacheMeter
from gateway.cache.protocol import Kept
from gateway.cache.redis_entries import RedisEntries, RedisLead
from gateway.errors import UpstreamFailed
from gateway.state import RedisState


class Worker:
    """What one process has of its own."""

    def __init__(self, state: RedisState, **terms: float) -> None:
        self.state = state
        self.meter = CacheMeter()
        self.entries = RedisEntries(state, 50_000)
        self.cache: AnswerCache = cache_of(self.entries, meter=self.meter, **terms)


@pytest.fixture
async def states(redis_server: RedisProcess) -> AsyncIterator[list[RedisState]]:
    prefix = uuid4().hex
    made = [RedisState(redis_server.url, deadline=5.0, prefix=prefix) for _ in range(2)]
    yield made
    for state in made:
        await state.aclose()


async def called(upstream: Upstream, times: int = 1) -> None:
    async with asyncio.timeout(60):
        while upstream.calls < times:
            await asyncio.sleep(0.001)


async def leads(state: RedisState) -> list[bytes]:
    return await state.run(lambda redis: redis.keys(f"{state.prefix}:cache:lead:*"))


async def test_what_one_worker_has_made_the_other_gives(states: list[RedisState]) -> None:
    one, two = (Worker(state) for state in states)
    upstream = Upstream()
    assert [await ask(each.cache, upstream) for each in (one, two, one)] == ["miss", "hit", "hit"]
    assert [await ask(each.cache, upstream, tenant="b") for each in (two, one)] == ["miss", "hit"]
    assert upstream.calls == 2


async def test_calls_at_once_on_both_workers_make_one_upstream(states: list[RedisState]) -> None:
    workers = [Worker(state) for state in states]
    upstream = Upstream(go=False)
    calls = [
        asyncio.create_task(told(workers[n % 2].cache, upstream, fields={"stream": n % 3 == 0})) for n in range(12)
    ]
    await called(upstream)
    upstream.go.set()
    outcomes = await asyncio.gather(*calls)
    assert upstream.calls == 1
    assert {text for _, text, _ in outcomes} == {"hello"}
    assert sorted(kind for kind, _, _ in outcomes) == ["hit"] * 11 + ["miss"]


async def test_a_long_answer_is_waited_for_beyond_the_length_of_a_lease(
    states: list[RedisState], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_entries, "_LEASE", 0.2)
    monkeypatch.setattr(redis_entries, "_RENEW", 0.05)
    one, two = (Worker(state) for state in states)
    upstream = Upstream(go=False)
    first = asyncio.create_task(ask(one.cache, upstream))
    await called(upstream)
    second = asyncio.create_task(ask(two.cache, upstream))
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(asyncio.shield(second), 0.5)
    upstream.go.set()
    assert (await first, await second, upstream.calls) == ("miss", "hit", 1)


async def test_a_worker_that_dies_delays_the_other_by_no_more_than_its_lease(
    states: list[RedisState], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_entries, "_LEASE", 0.3)
    one, two = (Worker(state) for state in states)
    lead = await one.entries.lead(key_of("m", request_of(), exchange_for()).digest, 0.0, 0.0)
    assert isinstance(lead, RedisLead)
    assert lead.sole
    assert lead._renewing is not None
    lead._renewing.cancel()  # as in a process that was killed: it is neither renewed nor given back
    upstream = Upstream()
    async with asyncio.timeout(60):
        assert await ask(two.cache, upstream) == "miss"
    assert await leads(states[0]) == []
    assert await ask(two.cache, upstream) == "hit"


async def test_an_answer_that_can_t_be_kept_holds_nobody_up(states: list[RedisState]) -> None:
    one, two = (Worker(state) for state in states)
    upstream = Upstream(answer(finish="length"), go=False)
    calls = [asyncio.create_task(ask(each.cache, upstream)) for each in (one, two)]
    await called(upstream)
    upstream.go.set()
    assert await asyncio.gather(*calls) == ["miss", "miss"]
    assert upstream.calls == 2


async def test_an_error_of_one_worker_is_not_the_other_s(states: list[RedisState]) -> None:
    one, two = (Worker(state) for state in states)
    broken, well = Upstream(go=False), Upstream()
    broken.error = UpstreamFailed("broken")
    first = asyncio.create_task(ask(one.cache, broken))
    await called(broken)
    second = asyncio.create_task(ask(two.cache, well))
    broken.go.set()
    with pytest.raises(UpstreamFailed):
        await first
    assert await second == "miss"


async def test_a_caller_who_leaves_hands_the_lead_on(states: list[RedisState]) -> None:
    one, two = (Worker(state) for state in states)
    slow, quick = Upstream(go=False), Upstream()
    first = asyncio.create_task(ask(one.cache, slow))
    await called(slow)
    second = asyncio.create_task(ask(two.cache, quick))
    first.cancel()
    assert (await second, quick.calls) == ("miss", 1)


async def test_patience_ends(states: list[RedisState]) -> None:
    one, two = Worker(states[0]), Worker(states[1], wait=0.05)
    slow, quick = Upstream(go=False), Upstream(answer("quick"))
    first = asyncio.create_task(ask(one.cache, slow))
    await called(slow)
    assert (await told(two.cache, quick))[:2] == ("miss", "quick")
    assert await ask(two.cache, quick) == "hit"  # what was made beside the lead is kept all the same
    slow.go.set()
    await first


async def test_a_refresh_neither_waits_nor_takes_what_is_there(states: list[RedisState]) -> None:
    one, two = (Worker(state) for state in states)
    upstream = Upstream(answer("old"))
    await ask(one.cache, upstream)
    upstream.chunk = answer("new")
    assert (await told(two.cache, upstream, own="refresh"))[:2] == ("miss", "new")
    assert (await told(one.cache, upstream))[:2] == ("hit", "new")


async def test_a_stale_answer_is_made_anew_by_one_worker_only(states: list[RedisState]) -> None:
    one, two = (Worker(state, ttl=0.001, stale=60.0) for state in states)
    upstream = Upstream(answer("old"))
    await ask(one.cache, upstream)
    await asyncio.sleep(0.005)
    upstream.go.clear()
    upstream.chunk = answer("new")
    outcomes = [await told(each.cache, upstream) for each in (one, two, one, two)]
    assert [each[:2] for each in outcomes] == [("hit", "old")] * 4
    await called(upstream, 2)
    while two.cache._revalidations._running:
        await asyncio.sleep(0.001)
    assert upstream.calls == 2
    upstream.go.set()
    while one.cache._revalidations._running:
        await asyncio.sleep(0.001)
    kept = await two.entries.find((outcomes[0][2].cache_key or pytest.fail("no key")).digest)
    assert isinstance(kept, Kept)
    assert b"new" in kept.completion.data
    async with asyncio.timeout(60):
        while await leads(states[0]):
            await asyncio.sleep(0.005)


async def test_nothing_in_redis_names_anybody(states: list[RedisState]) -> None:
    worker = Worker(states[0])
    await ask(worker.cache, Upstream(), tenant="acme-corp", user="ann@example.org")
    state = states[0]
    keys = await state.run(lambda redis: redis.keys(f"{state.prefix}:*"))
    assert len(keys) == 5
    assert not any(b"acme" in key or b"ann" in key for key in keys)
    lives = [await state.run(lambda redis, key=key: redis.pttl(key)) for key in keys]
    assert all(0 < life <= 600_000 for life in lives)


# --- Redis away -----------------------------------------------------------------------------------------
@pytest.fixture
async def own_redis(tmp_path: Path) -> AsyncIterator[RedisProcess]:
    with RedisProcess(tmp_path) as running:
        yield running


@pytest.mark.parametrize("how", ["stopped", "hung"])
async def test_without_redis_calls_go_on_and_are_counted(own_redis: RedisProcess, how: str) -> None:
    """D3, D4: the first call pays the deadline (50 ms by default), those after it nothing; it is used again once it is back."""
    state = RedisState(own_redis.url, deadline=0.5)  # a busy machine is no Redis that is away
    worker, upstream = Worker(state), Upstream()
    try:
        assert [await ask(worker.cache, upstream), await ask(worker.cache, upstream)] == ["miss", "hit"]
        if how == "stopped":
            own_redis.stop()
        else:
            own_redis.hang()
        assert [await ask(worker.cache, upstream) for _ in range(3)] == ["miss"] * 3
        assert upstream.calls == 4
        assert worker.meter.failures >= 3
        together = await asyncio.gather(*(ask(worker.cache, upstream) for _ in range(10)))
        assert sorted(together) == ["hit"] * 9 + ["miss"]  # this process still shares what it makes
        if how == "stopped":
            own_redis.start()
        else:
            own_redis.wake()
        async with asyncio.timeout(60):
            while not state.healthy:
                await asyncio.sleep(0.01)
        await ask(worker.cache, upstream)
        assert await ask(worker.cache, upstream) == "hit"
    finally:
        own_redis.wake()
        await state.aclose()
