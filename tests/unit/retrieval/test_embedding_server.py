"""The embedding server's batches and its HTTP, with a model that only writes down what it was given."""

from __future__ import annotations

import asyncio
import base64
import json
import struct
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from retrieval.embedding_server import Batcher, Overfull, create_app


class Scribe:
    """A Model: a text's vector is its length; batches wait while the gate is closed."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()

    def encode(self, texts: Sequence[str]) -> list[tuple[bytes, int]]:
        self.batches.append(list(texts))
        self.entered.set()
        assert self.gate.wait(60)
        if "poison" in texts:
            raise RuntimeError("the model failed")
        return [(struct.pack("<2f", len(text), 1), len(text.split())) for text in texts]


@asynccontextmanager
async def running(model: Scribe) -> AsyncIterator[Batcher]:
    batcher = Batcher(model)
    task = asyncio.create_task(batcher.run())
    try:
        yield batcher
    finally:
        model.gate.set()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def held(model: Scribe, batcher: Batcher) -> asyncio.Task[Any]:
    """The model is busy with one text until its gate opens."""
    model.gate.clear()
    first = asyncio.create_task(batcher.embed(["first"], rank=0))
    await asyncio.to_thread(model.entered.wait, 10)
    return first


async def waiting(batcher: Batcher, count: int) -> None:
    async with asyncio.timeout(60):
        while batcher._waiting.qsize() < count:
            await asyncio.sleep(0)


async def test_queries_that_come_later_go_before_documents_that_wait() -> None:
    model = Scribe()
    async with running(model) as batcher:
        first = await held(model, batcher)
        documents = asyncio.create_task(batcher.embed([f"d{number}" for number in range(100)], rank=2))
        await waiting(batcher, 100)
        caller = asyncio.create_task(batcher.embed(["caller"], rank=1))
        await waiting(batcher, 101)
        query = asyncio.create_task(batcher.embed(["query"], rank=0))
        await waiting(batcher, 102)
        model.gate.set()
        await asyncio.gather(first, documents, caller, query)

    told = [text for batch in model.batches[1:] for text in batch]
    assert told == ["query", "caller", *(f"d{n}" for n in range(100))]


async def test_callers_share_a_batch_and_each_gets_its_own_vectors() -> None:
    model = Scribe()
    async with running(model) as batcher:
        first = await held(model, batcher)
        calls = [asyncio.create_task(batcher.embed(["x" * number, "y"], rank=0)) for number in range(1, 21)]
        await waiting(batcher, 40)
        model.gate.set()
        await first
        answers = await asyncio.gather(*calls)

    assert len(model.batches) == 2
    assert [struct.unpack("<2f", answer[0][0])[0] for answer in answers] == [float(number) for number in range(1, 21)]


async def test_a_caller_that_left_is_not_worked_for() -> None:
    model = Scribe()
    async with running(model) as batcher:
        first = await held(model, batcher)
        left = asyncio.create_task(batcher.embed(["left"], rank=0))
        stays = asyncio.create_task(batcher.embed(["stays"], rank=0))
        await waiting(batcher, 2)
        left.cancel()
        await asyncio.gather(left, return_exceptions=True)
        model.gate.set()
        await asyncio.gather(first, stays)

    assert model.batches == [["first"], ["stays"]]


async def test_a_failure_of_the_model_ends_that_batch_and_not_the_server() -> None:
    model = Scribe()
    async with running(model) as batcher:
        with pytest.raises(RuntimeError, match="the model failed"):
            await batcher.embed(["poison"], rank=0)
        assert await batcher.embed(["well"], rank=0) == [(struct.pack("<2f", 4, 1), 1)]


async def test_the_queue_is_bounded_and_nothing_of_a_refused_call_stays_in_it() -> None:
    model = Scribe()
    async with running(model) as batcher:
        first = await held(model, batcher)
        fills = [asyncio.create_task(batcher.embed(["d"] * 2048, rank=2)) for _ in range(2)]
        await waiting(batcher, 4096)
        with pytest.raises(Overfull):
            await batcher.embed(["one more"], rank=2)
        assert batcher._waiting.qsize() == 4096
        query = asyncio.create_task(batcher.embed(["q"], rank=0))  # documents take nobody's room but their own
        model.gate.set()
        await asyncio.gather(first, query, *fills)
        assert await batcher.embed(["d"] * 2048, rank=2)


@asynccontextmanager
async def served() -> AsyncIterator[tuple[httpx.AsyncClient, Scribe]]:
    model = Scribe()
    async with running(model) as batcher:
        transport = httpx.ASGITransport(app=create_app(batcher))
        async with httpx.AsyncClient(transport=transport, base_url="http://embeddings") as client:
            yield client, model


async def test_the_answer_is_openais_in_numbers_and_in_base64() -> None:
    async with served() as (client, _):
        plain = (await client.post("/v1/embeddings", json={"input": ["one two", "three"]})).json()
        packed = (await client.post("/v1/embeddings", json={"input": "one two", "encoding_format": "base64"})).json()

    assert plain == {
        "object": "list",
        "model": "all-MiniLM-L6-v2",
        "data": [
            {"object": "embedding", "index": 0, "embedding": [7.0, 1.0]},
            {"object": "embedding", "index": 1, "embedding": [5.0, 1.0]},
        ],
        "usage": {"prompt_tokens": 3, "total_tokens": 3},
    }
    assert base64.b64decode(packed["data"][0]["embedding"]) == struct.pack("<2f", 7, 1)


@pytest.mark.parametrize(
    ("body", "about"),
    [
        (b"not json", "the body is not JSON"),
        (b"[" * 100_000, "the body is not JSON"),
        (b"[]", "input: a string or a list"),
        (b'{"input": []}', "input: a string or a list"),
        (b'{"input": [1, 2]}', "token ids"),
        (b'{"input": null}', "input: a string or a list"),
        (json.dumps({"input": ["x"] * 2049}).encode(), "at most 2048 texts"),
        (json.dumps({"input": "x" * 100_001}).encode(), "100000 characters"),
        (b'{"input": "x", "dimensions": 7}', "dimensions: this model has 384"),
    ],
)
async def test_bad_input_is_refused_and_the_model_never_sees_it(body: bytes, about: str) -> None:
    async with served() as (client, model):
        answer = await client.post("/v1/embeddings", content=body)

    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert about in answer.json()["error"]["message"]
    assert model.batches == []


async def test_a_lone_surrogate_is_embedded_as_a_replacement() -> None:
    async with served() as (client, model):
        answer = await client.post("/v1/embeddings", content=b'{"input": "a\\ud800b"}')

    assert answer.status_code == 200
    assert model.batches == [["a?b"]]


async def test_other_paths_and_methods_are_not_served() -> None:
    async with served() as (client, _):
        assert (await client.get("/healthz")).json() == {"status": "ok"}
        assert (await client.get("/v1/embeddings")).status_code == 404
        assert (await client.post("/v1/models")).status_code == 404
