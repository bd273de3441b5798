"""What a look-up in the semantic cache adds to a miss: `python benchmarks/semantic_cache.py [--kept 1000]`.

Milvus Lite and the local embedder, `--kept` answers in one partition, 100 questions that are not among them: once new to
the embedder, and once with their vectors known, as they are where the model's own search has just made them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import tempfile
import time
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any

from gateway.cache.memory_questions import MemoryQuestions
from gateway.cache.milvus_questions import MilvusQuestions
from gateway.cache.semantic import SemanticCache, SemanticTerms
from gateway.cache.semantic_meter import SemanticMeter
from gateway.chat import ChatRequest
from gateway.chunks import Chunk
from gateway.exchange import Exchange
from gateway.values import Caller
from retrieval.embedding import Kind
from retrieval.knowledge import Knowledge, KnowledgeSettings

ANSWER = Chunk(
    b'{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":'
    b'{"role":"assistant","content":"Fourteen weeks."},"finish_reason":"stop"}]}'
)


class Meaning:
    """The real embedder for what is asked; vectors of no meaning for what is kept before."""

    def __init__(self, knowledge: Knowledge) -> None:
        self._knowledge = knowledge
        self.still_readable = knowledge.still_readable

    async def embed(self, texts: Sequence[str], *, kind: Kind) -> list[list[float]]:
        if texts[0].startswith("kept "):
            return [[random.gauss(0, 1) for _ in range(384)] for _ in texts]
        return await self._knowledge.embedder.embed(texts, kind=kind)


def call(question: str) -> tuple[ChatRequest, Exchange]:
    body = {"model": "m", "messages": [{"role": "user", "content": question}]}
    exchange = Exchange("chat.completions")
    exchange.caller, exchange.model = Caller("key"), "m"
    return ChatRequest(json.dumps(body).encode()), exchange


async def never() -> bool:
    """There is no purge."""
    return False


async def measure(kept: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with Knowledge.open(KnowledgeSettings(Path(folder))) as knowledge:
            milvus = MilvusQuestions(lambda: knowledge.store, kept + 1)
            await milvus.open()
            for name, questions in (("milvus", milvus), ("memory", MemoryQuestions(kept + 1))):
                later: list[Coroutine[Any, Any, None]] = []
                cache = SemanticCache(
                    "m",
                    "scope",
                    SemanticTerms(budget=60.0),
                    questions,
                    Meaning(knowledge),
                    SemanticMeter(),
                    later.append,
                )
                for number in range(kept):
                    request, exchange = call(f"kept {number}")
                    await cache.keep(request, exchange, number.to_bytes(32), ANSWER, None, None, never)
                    await later.pop()
                await milvus.settle()
                asked = [f"How long is the parental leave in office {number} of {name}?" for number in range(100)]
                for vectors in ("made", "known"):
                    walls = []
                    started = time.process_time()
                    for question in asked:
                        request, exchange = call(question)
                        before = time.perf_counter()
                        assert await cache.find(request, exchange) is None
                        walls.append((time.perf_counter() - before) * 1000)
                    cpu = (time.process_time() - started) * 10
                    p10, p50, p95 = sorted(walls)[10], statistics.median(walls), sorted(walls)[95]
                    print(
                        f"{name}, vector {vectors}: p10 {p10:.2f} ms, p50 {p50:.2f} ms, p95 {p95:.2f} ms, "
                        f"{cpu:.2f} ms of this process's CPU"
                    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kept", type=int, default=1_000)
    asyncio.run(measure(parser.parse_args().kept))
