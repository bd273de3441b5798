"""How good two answers are: how alike they are, and how well each is grounded in its own passages.

The measures are those of `rag-gateway eval answers` (retrieval.answer_evaluation, retrieval.judging).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from gateway.chat import JSON, ChatRequest, EmbeddingsRequest
from gateway.chunks import read_usage
from gateway.errors import GatewayError, UpstreamFailed
from gateway.exchange import Exchange
from gateway.replay.outcomes import Quality
from gateway.replay.stored import StoredCall
from gateway.routing.beside import note_failure, told
from retrieval.answer_evaluation import AnswerQuestion, GivenAnswer, Source, likeness, measure
from retrieval.judging import BadVerdict, messages, verdicts
from retrieval.passages import RetrievalUnavailable

if TYPE_CHECKING:
    from gateway.pipeline import Pipeline
    from gateway.replay.bench import Bench

Embed = Callable[[Sequence[str], Exchange], Awaitable[Sequence[Sequence[float]]]]
Judge = Callable[[Sequence[Mapping[str, str]], Exchange], Awaitable[str]]

_BATCH = 64
_SIMILAR_CHARACTERS = 20_000


class Scoring:
    """`embed` and `judge` are asked beside a replay, and may go no further than its call may. Without one, what it
    measures is left out."""

    def __init__(self, embed: Embed | None, judge: Judge | None, threshold: float = 0.6) -> None:
        """`threshold`: the least cosine similarity at which a source supports a sentence."""
        self._embed = embed
        self._judge = judge
        self._threshold = threshold

    async def score(self, call: StoredCall, then: str | None, again: str | None, exchange: Exchange) -> Quality:
        """`exchange` is the replay's, which has ended."""
        faults: list[str] = []
        similarity = None
        if self._embed is not None and then and again:
            try:
                vectors = np.asarray(
                    await self._embed([text[:_SIMILAR_CHARACTERS] for text in (then, again)], exchange), dtype=float
                )
                lengths = np.linalg.norm(vectors, axis=1)
                similarity = float(vectors[0] @ vectors[1] / (lengths[0] * lengths[1])) if lengths.all() else None
            except (GatewayError, RetrievalUnavailable) as failure:
                faults.append(f"the answers could not be compared: {failure}")
        texts = [str(passage.get("text") or "") for passage in call.passages]
        of_then = await self._measured(call.question, then, texts, exchange, faults) if all(texts) else {}
        of_again = await self._measured(call.question, again, [p.text for p in exchange.passages], exchange, faults)
        return Quality(similarity, of_then, of_again, tuple(dict.fromkeys(faults)))

    async def _measured(
        self, question: str, answer: str | None, passages: Sequence[str], exchange: Exchange, faults: list[str]
    ) -> dict[str, float]:
        if not answer or not passages:
            return {}
        given = GivenAnswer(answer, tuple(Source(str(n), text) for n, text in enumerate(passages, 1)))
        sentences = [sentence.text for sentence in given.read().sentences]
        alike = judged = None
        if self._embed is not None and sentences:
            embed = self._embed
            try:
                alike = await likeness(given, lambda texts: embed(texts, exchange))
            except (GatewayError, RetrievalUnavailable) as failure:
                faults.append(f"sentences could not be compared with passages: {failure}")
        if self._judge is not None and sentences:
            try:
                verdict = await self._judge(messages(question, sentences, passages), exchange)
                judged = verdicts(verdict, len(sentences))
            except (GatewayError, BadVerdict) as failure:
                faults.append(f"the judge gave no verdict: {failure}")
        measured = measure(
            AnswerQuestion(question or "?"), given, likeness=alike, threshold=self._threshold, verdicts=judged
        )
        measured.pop("citation_annotation", None)  # no annotations are kept
        return measured


async def scoring_of(bench: Bench, embeddings: str | None, judge: str | None, threshold: float = 0.6) -> Scoring | None:
    """`embeddings` is `local` (the embedder that retrieval uses) or a model, `judge` a model. None where both are None.

    Raises ReplayFault.
    """
    embed: Embed | None = None
    if embeddings == "local":
        embed = _local(bench)
    elif embeddings is not None:
        embed = _embedder((await bench.other(embeddings)).pipeline, embeddings)
    judged = _judge((await bench.other(judge)).pipeline, judge) if judge is not None else None
    return Scoring(embed, judged, threshold) if embed is not None or judged is not None else None


def _local(bench: Bench) -> Embed:
    knowledge = bench.services.knowledge
    assert knowledge is not None, "whoever asks for it has opened it"

    async def embed(texts: Sequence[str], exchange: Exchange) -> Sequence[Sequence[float]]:
        return await knowledge.opened.embedder.embed(texts, kind="document")

    return embed


def _embedder(pipeline: Pipeline, model: str) -> Embed:
    async def embed(texts: Sequence[str], exchange: Exchange) -> Sequence[Sequence[float]]:
        vectors: list[Sequence[float]] = []
        for start in range(0, len(texts), _BATCH):
            vectors += await _embedded(pipeline, model, list(texts[start : start + _BATCH]), exchange)
        return vectors

    return embed


async def _embedded(pipeline: Pipeline, model: str, texts: list[str], exchange: Exchange) -> list[Sequence[float]]:
    """Raises GatewayError."""
    made = _beside(exchange, "embeddings", model)
    try:
        request = EmbeddingsRequest(JSON.encode({"model": model, "input": texts}))
        chunks = await pipeline.targets.call(request, made)
        try:
            (chunk,) = await chunks.next()
        finally:
            chunks.close()
        made.status, made.usage = 200, read_usage(chunk.facts)
        data = sorted(msgspec.json.decode(chunk.data)["data"], key=lambda one: one["index"])
        return [one["embedding"] for one in data]
    except GatewayError as error:
        note_failure(made, error)
        raise
    except (KeyError, TypeError, msgspec.DecodeError):
        made.outcome, made.error_code = "error", "upstream_failed"
        raise UpstreamFailed(f"What {model} answered are not embeddings.") from None
    finally:
        made.settle()


def _judge(pipeline: Pipeline, model: str) -> Judge:
    async def judge(asked: Sequence[Mapping[str, str]], exchange: Exchange) -> str:
        made = _beside(exchange, "chat.completions", model)
        return await told(pipeline.targets, ChatRequest(JSON.encode(_body(model, asked))), made)

    return judge


def _body(model: str, asked: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    return {"model": model, "messages": list(asked), "temperature": 0}


def _beside(exchange: Exchange, endpoint: str, model: str) -> Exchange:
    """A call for a replay: as sensitive as that one, so that it goes no further."""
    made = exchange.beside("replay")
    made.endpoint, made.requested_model, made.model = endpoint, model, model
    made.messages = None
    return made
