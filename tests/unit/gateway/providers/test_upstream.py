"""The upstream client: what a provider is blamed for, and what its connection may carry to the next call."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from gateway.errors import UpstreamFailed, UpstreamTimeout
from gateway.providers.reply import HIGH_WATER, MAX_HEADERS
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


@asynccontextmanager
async def scripted(*first: bytes) -> AsyncIterator[Upstream]:
    """A provider that answers the first request of its first connection so, in packets of their own, and all others well."""
    serving: set[asyncio.Task[None] | None] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.add(asyncio.current_task())
        script = first if len(serving) == 1 else (ANSWER,)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while await reader.readuntil(b"\r\n\r\n"):
                for packet in script:
                    writer.write(packet)
                    await writer.drain()
                    await asyncio.sleep(0.02)
                script = (ANSWER,)
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listening:
        port = listening.sockets[0].getsockname()[1]
        upstream = Upstream(f"http://127.0.0.1:{port}", {}, connect_timeout=5, max_connections=2)
        yield upstream
        await upstream.aclose()
    await asyncio.gather(*filter(None, serving))


async def asked(upstream: Upstream) -> tuple[int, bytes]:
    connection = await upstream.post(b"/x", b"", b"", asyncio.get_running_loop().time() + 5, "total")
    body = b""
    while segment := await connection.segment():
        body += segment
    status = connection.status
    connection.close()
    return status, body


BEHIND = [b"HTTP/1.1 500 Oh\r\ncontent-length: 3\r\n\r\nbad", b"HTTP/1.1 500 Oh\r\ncontent-le", b"garbage"]


@pytest.mark.parametrize("behind", BEHIND)
async def test_bytes_behind_an_answer_are_neither_in_it_nor_in_the_next(behind: bytes) -> None:
    async with scripted(ANSWER + behind) as upstream:
        assert await asked(upstream) == (200, b"ok")
        assert await asked(upstream) == (200, b"ok")


@pytest.mark.parametrize("behind", BEHIND)
async def test_bytes_behind_the_end_of_a_stream_end_its_connection(behind: bytes) -> None:
    start = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nlast\r\n"
    async with scripted(start, b"0\r\n\r\n" + behind) as upstream:
        stream = await upstream.post(b"/x", b"", b"", asyncio.get_running_loop().time() + 5, "total")
        assert await stream.segment() == b"last"
        stream.finish()
        while stream._lent:  # it waits aside for its end
            await asyncio.sleep(0.005)
        assert await asked(upstream) == (200, b"ok")


async def test_an_answer_that_was_not_read_does_not_block_the_next() -> None:
    body = b"x" * (HIGH_WATER + 50_000)
    head = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body)
    async with scripted(head + body[:HIGH_WATER], body[HIGH_WATER:]) as upstream:
        unread = await upstream.post(b"/x", b"", b"", asyncio.get_running_loop().time() + 5, "total")
        while not unread._complete:
            await asyncio.sleep(0.005)
        unread.close()
        assert await asked(upstream) == (200, b"ok")


async def test_a_head_without_an_end_is_not_kept() -> None:
    async with scripted(b"HTTP/1.1 200 OK\r\nx: ", *[b"x" * 50_000] * (MAX_HEADERS // 50_000 + 1)) as upstream:
        with pytest.raises(UpstreamFailed, match="too large a head"):
            await asked(upstream)
