"""The client of /v1/embeddings, against a real HTTP server on a unix socket."""

from __future__ import annotations

import asyncio
import base64
import json
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.embedding import EndpointEmbedder, _vector
from retrieval.passages import RetrievalUnavailable

Answer = Callable[[dict[str, Any]], tuple[int, bytes]]


@asynccontextmanager
async def endpoint(path: Path | None, answer: Answer) -> AsyncIterator[tuple[EndpointEmbedder, list[dict[str, Any]]]]:
    """An embedder of three dimensions, its server, on a unix socket or else on the network, and what the server saw."""
    seen: list[dict[str, Any]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        headers = dict(line.split(": ", 1) for line in head.strip().split("\r\n")[1:])
        body = json.loads(await reader.readexactly(int(headers["content-length"])))
        seen.append({"headers": headers, **body})
        status, data = answer(body)
        writer.write(b"HTTP/1.1 %d X\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % (status, len(data)) + data)
        await writer.drain()
        writer.close()

    if path is not None:
        server, host = await asyncio.start_unix_server(serve, path), "embeddings"
    else:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        host = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    embedder = EndpointEmbedder(f"http://{host}/v1", model="m", dimension=3, api_key="sk-test-key", socket=path)
    async with server:
        try:
            yield embedder, seen
        finally:
            await embedder.aclose()


def numbered(body: dict[str, Any]) -> tuple[int, bytes]:
    """Each text's own number as its vector; the last one first, since the order is `index`'s."""
    data = [
        {"index": index, "embedding": base64.b64encode(struct.pack("<3f", float(text), 0, 1)).decode()}
        for index, text in enumerate(body["input"])
    ]
    return 200, json.dumps({"data": data[::-1]}).encode()


async def test_vectors_come_in_the_order_of_the_texts_over_several_requests(tmp_path: Path) -> None:
    async with endpoint(tmp_path / "s", numbered) as (embedder, seen):
        vectors = await embedder.embed([str(number) for number in range(150)], kind="document")

    assert vectors == [[float(number), 0.0, 1.0] for number in range(150)]
    assert [len(request["input"]) for request in seen] == [64, 64, 22]
    assert {request["headers"]["x-embedding-kind"] for request in seen} == {"document"}
    assert {request["headers"]["authorization"] for request in seen} == {"bearer sk-test-key"}


async def test_no_texts_ask_nothing(tmp_path: Path) -> None:
    async with endpoint(tmp_path / "s", numbered) as (embedder, seen):
        assert await embedder.embed([], kind="query") == []

    assert seen == []


@pytest.mark.parametrize(
    ("status", "data", "message"),
    [
        (429, b"{}", "the embedding server answered with HTTP 429"),
        (200, b"<html>", "the embedding server's answer can't be read"),
        (200, b'{"data": [{"index": 0}]}', "the embedding server's answer can't be read"),
        (200, b'{"data": 7}', "the embedding server's answer can't be read"),
        (200, b"[]", "the embedding server's answer can't be read"),
        (200, b'{"data": [{"index": 0, "embedding": "AAA"}]}', "the embedding server's answer can't be read"),
        (
            200,
            b'{"data": [{"index": 0, "embedding": [1, 2]}]}',
            "the embedding server did not give vectors of 3 numbers",
        ),
        (200, b'{"data": []}', "the embedding server did not give vectors of 3 numbers"),
    ],
)
async def test_an_answer_that_is_none_says_what_is_wrong(
    tmp_path: Path, status: int, data: bytes, message: str
) -> None:
    async with endpoint(tmp_path / "s", lambda _: (status, data)) as (embedder, _):
        with pytest.raises(RetrievalUnavailable) as failed:
            await embedder.embed(["text"], kind="query")
        assert str(failed.value) == message
        assert not await embedder.healthy()


async def test_a_vendor_that_has_just_answered_is_not_asked_whether_it_is_there() -> None:
    vector = base64.b64encode(struct.pack("<3f", 0, 0, 1)).decode()
    answers = [(200, json.dumps({"data": [{"index": 0, "embedding": vector}]}).encode())]
    async with endpoint(None, lambda _: answers[-1]) as (embedder, seen):
        assert await embedder.healthy()
        await embedder.embed(["text"], kind="query")
        assert await embedder.healthy()
        assert [request["input"] for request in seen] == [["ready"], ["text"]]

        answers.append((503, b""))
        assert await embedder.healthy()  # it has answered lately, and nobody has found it away since
        with pytest.raises(RetrievalUnavailable):
            await embedder.embed(["another"], kind="query")
        assert not await embedder.healthy()
        answers.pop()
        assert await embedder.healthy()
        assert [request["input"] for request in seen][2:] == [["another"], ["ready"], ["ready"]]


async def test_our_own_server_is_asked_each_time(tmp_path: Path) -> None:
    vector = base64.b64encode(struct.pack("<3f", 0, 0, 1)).decode()
    body = json.dumps({"data": [{"index": 0, "embedding": vector}]}).encode()
    async with endpoint(tmp_path / "s", lambda _: (200, body)) as (embedder, seen):
        assert await embedder.healthy()
        assert await embedder.healthy()
        assert len(seen) == 2


async def test_a_server_that_is_away_is_told_without_its_address(tmp_path: Path) -> None:
    embedder = EndpointEmbedder("http://embeddings/v1", model="m", dimension=3, socket=tmp_path / "nobody.sock")
    with pytest.raises(RetrievalUnavailable, match=r"^the embedding server can't be reached$"):
        await embedder.embed(["text"], kind="query")
    await embedder.aclose()


@given(st.lists(st.floats(width=32, allow_nan=False), max_size=400))
def test_base64_gives_the_same_numbers_as_plain(numbers: list[float]) -> None:
    packed = base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()

    assert _vector(packed) == _vector(numbers) == numbers
