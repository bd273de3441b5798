"""The versioned prompt template, filled with what the stages before have found; and, later, its sources told."""

from __future__ import annotations

import time
from dataclasses import dataclass

from gateway.chat import Request
from gateway.errors import BadRequest
from gateway.exchange import Exchange
from gateway.prompts.template import PromptTooLong, Template
from gateway.providers.protocol import Chunks
from gateway.stages.citing import CitedAnswer
from retrieval.passages import dropped


@dataclass(frozen=True, slots=True)
class PromptStage:
    template: Template

    def render(self, request: Request, exchange: Exchange) -> None:
        """Put the rendered prompt in place of the caller's messages. Raises BadRequest when it can't fit."""
        started = time.perf_counter_ns()
        try:
            rendered = self.template.render(request.messages, exchange.features, exchange.passages)
        except PromptTooLong as fault:
            raise BadRequest(str(fault), param="messages", code="context_length_exceeded") from None
        finally:
            exchange.stage("render", started)
        if left := exchange.passages[len(rendered.passages) :]:  # the worst-ranked go first
            exchange.dropped = (*exchange.dropped, *(dropped(passage, "no_room") for passage in left))
        request.messages = rendered.messages
        exchange.template = rendered.template
        exchange.template_hash = self.template.content_hash
        exchange.passages = rendered.passages
        exchange.trimmed = rendered.trimmed

    def cite(self, chunks: Chunks, exchange: Exchange) -> Chunks:
        return CitedAnswer(chunks, exchange) if exchange.passages else chunks
