"""Calls that checks make of their own, through the gateway's targets: with their keys, retries, circuits and prices.

Residency holds for them as for the call that is judged: what may not leave the premises is not sent to a judge
outside of them either.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

import msgspec

from gateway.chat import JSON, ChatRequest, EmbeddingsRequest, Request
from gateway.chunks import read_usage
from gateway.errors import GatewayError
from gateway.exchange import Exchange
from gateway.providers.protocol import Chunks
from guardrails.outside import Complete, Embed
from guardrails.text_checks import CheckUnavailable
from retrieval.passages import RetrievalUnavailable

_BATCH = 64  # texts that the embedder is given at once

Ask = Callable[[ChatRequest, Exchange], Awaitable[str]]
"""The words of a whole answer; the exchange is settled by whoever makes the call."""

Call = Callable[[Request, Exchange], Awaitable[Chunks]]

_judged: ContextVar[tuple[Request, Exchange, str]] = ContextVar("judged")


@contextmanager
def guarding(request: Request, exchange: Exchange, purpose: str = "guardrail") -> Iterator[None]:
    """Calls made inside are made for this one; `purpose` is what their records say."""
    token = _judged.set((request, exchange, purpose))
    try:
        yield
    finally:
        _judged.reset(token)


def trace_headers() -> dict[str, str]:
    """What a server that judges is told of the trace, as that of a model is: it was asked for the call that is judged.

    https://www.w3.org/TR/trace-context/. Nothing outside of a call.
    """
    judged = _judged.get(None)
    if judged is None:
        return {}
    exchange = judged[1]
    told = {"traceparent": f"00-{exchange.trace_id}-{exchange.span_id}-{exchange.trace_flags or '00'}"}
    return told if exchange.trace_state is None else {**told, "tracestate": exchange.trace_state}


def completes(ask: Ask, model: str) -> Complete:
    """Asks a chat model; `model` is its name, for the request."""

    async def complete(messages: list[dict[str, str]]) -> str:
        made = _made("chat.completions")
        try:
            return await ask(ChatRequest(JSON.encode({"model": model, "messages": messages, "temperature": 0})), made)
        except GatewayError as failure:
            raise _away(failure) from None

    return complete


def embeds(call: Call, model: str) -> Embed:
    """Asks the embedding model behind `call`."""

    async def embed(texts: Sequence[str]) -> list[list[float]]:
        # Half of a surrogate pair is no text and can't be sent; an empty text has no vector.
        told = [text.encode("utf-8", "replace").decode() or " " for text in texts]
        made = _made("embeddings")
        try:
            chunks = await call(EmbeddingsRequest(JSON.encode({"model": model, "input": told})), made)
            try:
                (chunk,) = await chunks.next()
            finally:
                chunks.close()
            made.status = 200
            made.served_model, made.usage = chunk.facts.model, read_usage(chunk.facts)
            data = sorted(msgspec.json.decode(chunk.data)["data"], key=lambda one: one["index"])
            vectors: list[list[float]] = [one["embedding"] for one in data]
        except GatewayError as failure:
            made.outcome, made.status = "error", failure.status
            made.error_code, made.error_message = failure.code or failure.type, failure.recorded(made.record_content)
            raise _away(failure) from None
        except (KeyError, TypeError):
            raise CheckUnavailable("its embedder's answer can't be read") from None
        finally:
            made.settle()
        if len(vectors) != len(texts):
            raise CheckUnavailable("its embedder did not give one vector a text")
        return vectors

    return embed


def embeds_here(embedder: Embed) -> Embed:
    """Asks the embedder that retrieval uses, which raises RetrievalUnavailable."""

    async def embed(texts: Sequence[str]) -> list[list[float]]:
        vectors: list[list[float]] = []
        try:
            for start in range(0, len(texts), _BATCH):
                vectors += await embedder(texts[start : start + _BATCH])
        except RetrievalUnavailable as failure:
            raise CheckUnavailable(f"its embedder is away: {failure}") from None
        return vectors

    return embed


def _made(endpoint: str) -> Exchange:
    """The exchange of a call for the one that is judged; it may go no further than that one may."""
    judged = _judged.get(None)
    if judged is None:
        raise CheckUnavailable("it is asked outside of a call")
    request, exchange, purpose = judged
    made = exchange.beside(purpose)
    made.endpoint = endpoint
    made.sensitivity = exchange.sensitivity or request.sensitivity
    # What was found decides where this call may go; it is counted and recorded with the other one.
    made.at_end(lambda ended: ended.verdicts.clear())
    return made


def _away(failure: GatewayError) -> CheckUnavailable:
    return CheckUnavailable(f"its model can't be asked ({failure.code or failure.type})")
