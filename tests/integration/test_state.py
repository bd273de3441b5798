"""The Redis that gateways share: answers within a deadline, or says at once that it is away."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from gateway_process import free_port
from redis.exceptions import ResponseError
from redis_process import RedisProcess

from gateway.state import RedisState, StateUnavailable


async def _until_healthy(state: RedisState) -> None:
    async with asyncio.timeout(60):
        while not state.healthy:
            await asyncio.sleep(0.01)


async def test_a_command_gives_what_redis_answers(redis_server: RedisProcess) -> None:
    state = RedisState(redis_server.url, deadline=5)

    await state.run(lambda redis: redis.set("answers", b"yes"))

    assert await state.run(lambda redis: redis.get("answers")) == b"yes"
    await state.aclose()


async def test_two_hundred_at_once_are_answered_over_fewer_connections(redis_server: RedisProcess) -> None:
    state = RedisState(redis_server.url, deadline=5)

    counts = await asyncio.gather(*(state.run(lambda redis: redis.incr("at_once")) for _ in range(200)))

    assert sorted(counts) == list(range(1, 201))
    await state.aclose()


async def test_a_redis_that_is_not_there_is_told_and_no_longer_asked() -> None:
    state = RedisState(f"redis://127.0.0.1:{free_port()}", deadline=5)
    asked = 0

    async def work(redis: object) -> None:
        nonlocal asked
        asked += 1
        await redis.ping()  # type: ignore[attr-defined]  # a client

    for _ in range(3):
        with pytest.raises(StateUnavailable):
            await state.run(work)

    assert asked == 1
    assert not state.healthy
    await state.aclose()


async def test_a_redis_that_hangs_holds_nobody_longer_than_the_deadline(tmp_path: Path) -> None:
    with RedisProcess(tmp_path) as server:
        state = RedisState(server.url, deadline=0.05)
        await state.run(lambda redis: redis.ping(), deadline=5)
        server.hang()
        started = time.monotonic()

        with pytest.raises(StateUnavailable):
            await state.run(lambda redis: redis.ping())
        assert time.monotonic() - started < 30  # not the operating system's minutes

        server.wake()
        await _until_healthy(state)
        assert await state.run(lambda redis: redis.ping(), deadline=5)
        await state.aclose()


async def test_a_redis_that_comes_back_is_used_again(tmp_path: Path) -> None:
    with RedisProcess(tmp_path) as server:
        state = RedisState(server.url, deadline=5)
        await state.run(lambda redis: redis.set("kept", 1))
        server.stop()
        with pytest.raises(StateUnavailable):
            await state.run(lambda redis: redis.get("kept"))

        server.start()
        await _until_healthy(state)

        assert await state.run(lambda redis: redis.get("kept")) is None
        await state.aclose()


async def test_a_fault_of_the_command_is_no_outage(redis_server: RedisProcess) -> None:
    state = RedisState(redis_server.url, deadline=5)

    with pytest.raises(ResponseError):
        await state.run(lambda redis: redis.execute_command("NO-SUCH-COMMAND"))

    assert state.healthy
    await state.aclose()
