"""Calls that a guardrail blocked on their way in: asked of the model's guardrails again, and of nothing else.

What was blocked may be what must not leave, and another set of guardrails may let it pass. So nothing is searched for,
and no target is asked, unless who replays names one.
"""

from __future__ import annotations

from dataclasses import replace

from gateway.chat import JSON, Request
from gateway.chunks import Chunk
from gateway.exchange import Exchange
from gateway.pipeline import Pipeline
from gateway.providers.protocol import Chunks
from gateway.providers.replay import Replayed

_NOTHING = JSON.encode({
    "object": "chat.completion",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": ""}, "finish_reason": None}],
})  # fmt: skip


class _Nobody:
    """See gateway.routing.dispatch.Calls: an answer without a word."""

    async def call(self, request: Request, exchange: Exchange) -> Chunks:
        return Replayed([Chunk(_NOTHING)])


def guardrails_alone(pipeline: Pipeline) -> Pipeline:
    """The pipeline, of which the screening of what goes in is left."""
    return replace(pipeline.bare(), targets=_Nobody(), choice=None, output_guard=None, room=None)
