"""The end of a server: who has connected is answered, told that it is the last answer, and not cut off."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from gateway.connection import bounded_connection

ASK = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"


async def _hello(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
    await send({"type": "http.response.body", "body": b"hello"})


@dataclass
class Door:
    state: ServerState
    port: int

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        opened = await asyncio.open_connection("127.0.0.1", self.port)
        while not self.state.connections:
            await asyncio.sleep(0)
        return opened

    def end(self) -> None:
        for connection in list(self.state.connections):
            connection.shutdown()


@pytest.fixture
async def door() -> AsyncIterator[Door]:
    state = ServerState()
    config = uvicorn.Config(
        _hello, http=bounded_connection(10, 10, 60, 10_000), ws="none", lifespan="off", log_config=None
    )
    config.load()

    def connection() -> asyncio.Protocol:
        return config.http_protocol_class(config=config, server_state=state, app_state={})  # type: ignore[call-arg,return-value]  # one of several classes there

    server = await asyncio.get_running_loop().create_server(connection, "127.0.0.1", 0)
    yield Door(state, server.sockets[0].getsockname()[1])
    server.close()
    await server.wait_closed()


async def test_who_has_connected_and_asks_at_the_end_is_answered(door: Door) -> None:
    reader, writer = await door.connect()
    door.end()
    writer.write(ASK)
    answer = await reader.read()
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"connection: close\r\n" in answer
    assert answer.endswith(b"hello")
    writer.close()


async def test_who_asks_again_at_the_end_is_answered_for_the_last_time(door: Door) -> None:
    reader, writer = await door.connect()
    writer.write(ASK)
    first = await reader.readuntil(b"hello")
    assert b"connection: close\r\n" not in first
    writer.write(ASK)
    door.end()
    answer = await reader.read()
    assert b"connection: close\r\n" in answer
    assert answer.endswith(b"hello")
    writer.close()


@pytest.mark.parametrize("asked", [False, True])
async def test_a_connection_without_a_request_is_closed(door: Door, asked: bool) -> None:
    reader, writer = await door.connect()
    if asked:
        writer.write(ASK)
        await reader.readuntil(b"hello")
    door.end()
    assert await reader.read() == b""
    writer.close()
