"""The upstream client's clock: what a provider is blamed for, and what not."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from gateway.errors import UpstreamTimeout
from gateway.providers.upstream import Upstream

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


@asynccontextmanager
async def server(*, answers: bool) -> AsyncIterator[str]:
    serving: set[asyncio.Task[None] | None] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.add(asyncio.current_task())
        if await reader.read(1) and answers:  # a connection given up unused says nothing
            writer.write(ANSWER)
        with contextlib.suppress(ConnectionError):
            await reader.read()
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listening:
        port = listening.sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    await asyncio.gather(*filter(None, serving))


async def test_a_loop_that_was_held_up_does_not_time_the_provider_out() -> None:
    loop = asyncio.get_running_loop()
    async with server(answers=True) as url:
        upstream = Upstream(url, {}, connect_timeout=0.2, max_connections=1)
        call = asyncio.create_task(upstream.post(b"/x", b"", b"", loop.time() + 0.25, "first_token"))
        await asyncio.sleep(0)
        time.sleep(0.4)  # the stall itself: both the connect and the answer come due in it
        connection = await call
        assert (connection.status, await connection.segment()) == (200, b"ok")
        connection.close()
        await upstream.aclose()


async def test_a_provider_that_is_silent_is_timed_out_by_name() -> None:
    loop = asyncio.get_running_loop()
    async with server(answers=False) as url:
        upstream = Upstream(url, {}, connect_timeout=1, max_connections=1)
        with pytest.raises(UpstreamTimeout) as timeout:
            await upstream.post(b"/x", b"", b"", loop.time() + 0.05, "first_token")
        assert timeout.value.code == "upstream_timeout_first_token"
        await upstream.aclose()


async def test_an_answer_that_is_closed_twice_is_given_back_once() -> None:
    loop = asyncio.get_running_loop()
    async with server(answers=True) as url:
        upstream = Upstream(url, {}, connect_timeout=1, max_connections=5)
        connection = await upstream.post(b"/x", b"", b"", loop.time() + 1, "total")
        assert await connection.segment() == b"ok"
        connection.close()
        connection.close()
        first = asyncio.create_task(upstream.post(b"/x", b"", b"", loop.time() + 1, "total"))
        second = asyncio.create_task(upstream.post(b"/x", b"", b"", loop.time() + 1, "total"))
        done, _ = await asyncio.wait({first, second}, return_when=asyncio.FIRST_COMPLETED)
        assert len({id(task.result()) for task in done}) == len(done)
        assert len(upstream._open) == 2, "two calls have two connections"
        for task in (first, second):
            task.cancel()
        await asyncio.gather(first, second, return_exceptions=True)
        for task in (first, second):
            if not task.cancelled() and task.exception() is None:
                task.result().close()
        await upstream.aclose()


async def test_who_reads_slowly_does_not_time_the_provider_out() -> None:
    loop = asyncio.get_running_loop()
    async with server(answers=True) as url:
        upstream = Upstream(url, {}, connect_timeout=1, max_connections=1)
        connection = await upstream.post(b"/x", b"", b"", loop.time() + 1, "first_token")
        connection._complete = False  # as if more were to come behind what lies here unread
        connection.expect_by(loop.time() + 0.05, "between_tokens")
        await asyncio.sleep(0.2)
        assert await connection.segment() == b"ok"
        with pytest.raises(UpstreamTimeout):
            await connection.segment()
        connection.close()
        await upstream.aclose()
