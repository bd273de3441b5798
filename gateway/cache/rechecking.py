"""A kept answer before the model's output guardrails once more: what they said of it may not be what they say now.

A rule that looks at a sample of calls may have missed the call that the answer was made for, and a server, a model or
code of your own that judges may have changed its mind.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import msgspec

from gateway.chat import JSON, ChatRequest, Request
from gateway.chunks import Chunk
from gateway.errors import UpstreamFailed
from gateway.providers.replay import Replayed

if TYPE_CHECKING:
    from gateway.exchange import Exchange
    from gateway.providers.protocol import Chunks

Screen = Callable[["Chunks", Request, "Exchange", Callable[[Request, "Exchange"], Awaitable["Chunks"]]], "Chunks"]
"""gateway.stages.guarding.OutputGuard.screen."""

_decode = msgspec.json.Decoder().decode


async def still_passes(completion: Chunk, request: Request, exchange: Exchange, screen: Screen) -> bool:
    """Whether the guardrails let this answer out as it is: neither blocked nor masked any further.

    Their verdicts are noted as for any answer. Raises StageFailed where one is away that may not be missed.
    """
    if not isinstance(request, ChatRequest):
        return True
    document: dict[str, Any] = _decode(completion.data)
    # Sources and annotations are the gateway's own, put there behind the guardrails.
    document.pop("rag", None)
    for choice in document["choices"]:
        choice["message"].pop("annotations", None)
    outcome = exchange.outcome
    chunks = screen(Replayed([Chunk(JSON.encode(document))]), request.whole(), exchange, _no_repair)
    try:
        told = await chunks.next()
    finally:
        chunks.close()
    passed = len(told) == 1 and _said(_decode(told[0].data)) == _said(document)
    exchange.outcome = outcome
    return passed


def _said(document: dict[str, Any]) -> list[tuple[Any, Any]]:
    return [(choice["message"], choice.get("finish_reason")) for choice in document["choices"]]


async def _no_repair(request: Request, exchange: Exchange) -> Chunks:
    raise UpstreamFailed("A kept answer is not repaired.")
