"""The lake's process asks the gateway's own embedding server, by its socket."""

from __future__ import annotations

import asyncio
import struct
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
import uvicorn
from gateway_process import until

from gateway.analyst.embedding import EmbeddingProcess
from gateway.analyst.settings import Embedder
from retrieval.embedding_server import Batcher, create_app
from retrieval.passages import RetrievalUnavailable


class Lengths:
    """A model: a text's vector is its length."""

    def encode(self, texts: Sequence[str]) -> list[tuple[bytes, int]]:
        return [(struct.pack("<2f", len(text), 1), len(text.split())) for text in texts]


async def serve(server: uvicorn.Server, batcher: Batcher) -> None:
    encoding = asyncio.create_task(batcher.run())
    await server.serve()
    encoding.cancel()
    await asyncio.gather(encoding, return_exceptions=True)


def test_each_question_gets_its_vector(tmp_path: Path) -> None:
    batcher, socket = Batcher(Lengths()), tmp_path / "e.sock"
    config = uvicorn.Config(create_app(batcher), uds=str(socket), log_level="error", lifespan="off", ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(serve(server, batcher)))
    thread.start()
    try:
        until(lambda: server.started, what="the embedding server")
        asked = EmbeddingProcess(Embedder(str(socket), "lengths", 2, "query: "))
        texts = [f"Question {'!' * number}" for number in range(70)]
        assert asked.embed(texts) == [[float(len("query: " + text)), 1.0] for text in texts]
    finally:
        server.should_exit = True
        thread.join(60)


def test_one_that_is_away_is_said_to_be(tmp_path: Path) -> None:
    with pytest.raises(RetrievalUnavailable):
        EmbeddingProcess(Embedder(str(tmp_path / "none.sock"), "lengths", 2, "")).embed(["x"])
