"""A client's connection: what is read of it, and its end, where who has connected is answered and not cut off."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from gateway.connection import Bounds, ClientConnection

ASK = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"


async def _hello(scope: Any, receive: Any, send: Any) -> None:
    said = b"hello"
    if scope["method"] == "POST":
        while (await receive()).get("more_body"):
            pass
        said = b" ".join(name for name, _ in scope["headers"])
    if scope["path"] == "/fails":
        raise LookupError("of the inside")
    if scope["path"] == "/says-nothing":
        return
    if scope["path"] == "/later":
        await asyncio.sleep(0.05)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(said))]})
    await send({"type": "http.response.body", "body": said})


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
async def door(request: pytest.FixtureRequest) -> AsyncIterator[Door]:
    state = ServerState()
    body_timeout = getattr(request, "param", 10)
    made = partial(ClientConnection, Bounds(10, body_timeout, 60, 10_000))
    config = uvicorn.Config(_hello, http=made, ws="none", lifespan="off", log_config=None)  # type: ignore[arg-type]  # a class there
    config.load()

    def connection() -> asyncio.Protocol:
        return config.http_protocol_class(config=config, server_state=state, app_state={})  # type: ignore[call-arg]  # one of several classes there

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


LARGE = b"GET / HTTP/1.1\r\nhost: x\r\nx: " + b"a" * 10_000 + b"\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n"


@pytest.mark.parametrize(
    "parts", [[LARGE + b"\r\n"], [LARGE, b"\r\n"], [LARGE[:30], LARGE[30:5_000], LARGE[5_000:] + b"\r\n"]]
)
async def test_a_head_that_is_too_large_is_refused_however_it_comes(door: Door, parts: list[bytes]) -> None:
    reader, writer = await door.connect()
    for part in parts:
        writer.write(part)
        await asyncio.sleep(0.02)  # a packet of its own
    assert (await reader.read()).startswith(b"HTTP/1.1 431 ")
    writer.close()


async def test_a_head_within_the_bounds_may_come_behind_a_body(door: Door) -> None:
    reader, writer = await door.connect()
    body = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 30000\r\n\r\n" + b"a" * 30_000
    for part in (body + ASK[:10], ASK[10:]):
        writer.write(part)
        await asyncio.sleep(0.02)
    assert (await reader.readuntil(b"hello")).count(b"HTTP/1.1 200 ") == 2
    writer.close()


async def test_what_stands_behind_a_body_is_no_header(door: Door) -> None:
    reader, writer = await door.connect()
    writer.write(CHUNKED + b"authorization: Bearer x\r\n\r\n" + ASK)
    answer = await reader.readuntil(b"hello")
    assert b"host transfer-encoding" in answer
    assert b"authorization" not in answer
    writer.close()


async def test_lines_behind_a_body_have_a_bound(door: Door) -> None:
    reader, writer = await door.connect()
    writer.write(CHUNKED + b"x: ")
    for _ in range(4):
        writer.write(b"a" * 5_000)
        await asyncio.sleep(0.02)
    assert (await reader.read()).startswith(b"HTTP/1.1 431 ")
    writer.close()


async def test_what_is_wrong_is_not_answered_in_place_of_a_request_before(door: Door) -> None:
    reader, writer = await door.connect()
    writer.write(ASK.replace(b"/ ", b"/later ") + ASK + b"no request\r\n\r\n")
    with contextlib.suppress(ConnectionError):
        assert await reader.read() == b""
    writer.close()


@pytest.mark.parametrize("door", [0.02], indirect=True)
async def test_a_body_that_waits_behind_an_answer_does_not_cut_it_off(door: Door) -> None:
    reader, writer = await door.connect()
    later = ASK.replace(b"/ ", b"/later ")  # which takes longer than a body may
    writer.write(later + b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nab")
    assert (await reader.readuntil(b"hello")).startswith(b"HTTP/1.1 200 ")
    assert (await reader.read()).startswith(b"HTTP/1.1 408 ")
    writer.close()


@pytest.mark.parametrize("path", [b"/fails", b"/says-nothing"])
async def test_who_is_left_without_an_answer_is_told_in_openais_shape(
    door: Door, path: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    reader, writer = await door.connect()
    writer.write(ASK.replace(b"/", path, 1))
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 500 ")
    assert b"connection: close" in head
    assert json.loads(body)["error"]["code"] == "internal_error"
    assert b"of the inside" not in body
    assert f"GET {path.decode()} ended without a whole answer" in caplog.text
    writer.close()
