"""One suite for every store of exact answers: memory, Redis, and Redis with encryption."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
from cache_asking import TARGET, answer
from redis_process import RedisProcess

from gateway.cache.memory import MemoryEntries
from gateway.cache.protocol import Entries, Kept, Origin, Purge
from gateway.cache.redis_entries import RedisEntries
from gateway.records.sealing import Seal
from gateway.state import RedisState

KEY, OTHER = b"k" * 32, b"o" * 32
ORIGIN = Origin("m", "a", "ann", frozenset({"handbook"}), frozenset({"leave.md", "sick.md"}))


@pytest.fixture(params=["memory", "redis", "sealed redis"])
async def entries(request: pytest.FixtureRequest, redis_server: RedisProcess) -> AsyncIterator[Entries]:
    if request.param == "memory":
        yield MemoryEntries(100_000, 10_000)
        return
    state = RedisState(redis_server.url, deadline=5.0, prefix=uuid4().hex)
    yield RedisEntries(state, 10_000, Seal([b"1" * 32]) if "sealed" in request.param else None)
    await state.aclose()


def kept(text: str = "hello", origin: Origin = ORIGIN) -> Kept:
    return Kept(answer(text), TARGET, time.time(), 60.0, "internal", origin)


async def keep(entries: Entries, key: bytes = KEY, what: Kept | None = None, life: float = 60.0) -> bool:
    lead = await entries.lead(key, 0.0, time.time())
    assert not isinstance(lead, Kept)
    done = await lead.keep(what or kept(), life)
    lead.end(unshared=False)
    return done


async def text_of(entries: Entries, key: bytes = KEY) -> str | None:
    found = await entries.find(key)
    return None if found is None else (found.completion.facts.choices or [])[0].message.content  # type: ignore[union-attr]  # a message is there


async def test_what_is_kept_is_found_whole(entries: Entries) -> None:
    assert await entries.find(KEY) is None
    what = kept()
    assert await keep(entries, what=what)
    found = await entries.find(KEY)
    assert found is not None
    assert found.completion.data == what.completion.data
    assert (found.served_by, found.made_at, found.fresh, found.sensitivity) == (TARGET, what.made_at, 60.0, "internal")
    assert await entries.find(OTHER) is None


async def test_a_later_answer_takes_the_place_of_an_earlier_one(entries: Entries) -> None:
    await keep(entries)
    await keep(entries, what=kept("later"))
    assert await text_of(entries) == "later"


async def test_an_answer_ends_with_its_life(entries: Entries) -> None:
    await keep(entries, life=0.02)
    until = time.monotonic() + 5
    while await entries.find(KEY) is not None:
        assert time.monotonic() < until
        await asyncio.sleep(0.005)


async def test_what_is_too_large_is_not_kept(entries: Entries) -> None:
    assert not await keep(entries, what=kept("x" * 11_000))
    assert await entries.find(KEY) is None


async def test_one_answer_is_forgotten(entries: Entries) -> None:
    await keep(entries)
    await keep(entries, OTHER)
    await entries.forget(KEY)
    assert (await entries.find(KEY), await text_of(entries, OTHER)) == (None, "hello")


@pytest.mark.parametrize(("what", "gone"), [
    (Purge(), 2),
    (Purge(key=KEY), 1),
    (Purge(key=KEY, tenant="b"), 0),
    (Purge(key=b"x" * 32), 0),
    (Purge(model="m"), 2),
    (Purge(model="n"), 0),
    (Purge(tenant="a"), 1),
    (Purge(user="ann"), 1),
    (Purge(user="bob"), 0),
    (Purge(collection="handbook"), 1),
    (Purge(document="sick.md"), 1),
    (Purge(tenant="a", document="leave.md"), 1),
    (Purge(tenant="b", document="leave.md"), 0),
    (Purge(model="m", tenant="a", user="ann", collection="handbook", document="leave.md"), 1),
])  # fmt: skip
async def test_a_purge_takes_what_fits_and_nothing_else(entries: Entries, what: Purge, gone: int) -> None:
    await keep(entries)
    await keep(entries, OTHER, kept("other", Origin("m", "b")))
    assert await entries.purge(what) == gone
    left = [await entries.find(key) for key in (KEY, OTHER)]
    assert sum(found is None for found in left) == gone
    assert await entries.purge(what) == 0


async def test_what_is_being_made_while_something_is_purged_is_not_kept(entries: Entries) -> None:
    lead = await entries.lead(KEY, 0.0, 0.0)
    assert not isinstance(lead, Kept)
    assert not await lead.purged()
    await entries.purge(Purge(document="leave.md"))
    assert await lead.purged()
    assert not await lead.keep(kept(), 60.0)
    lead.end(unshared=False)
    assert await entries.find(KEY) is None
