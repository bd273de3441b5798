"""A call of the gateway's own, beside a caller's: made whole, accounted and recorded as a call by itself."""

from __future__ import annotations

import asyncio
import logging

from gateway.chat import JSON, ChatRequest
from gateway.chunks import Chunk, read_usage
from gateway.errors import GatewayError, UpstreamFailed
from gateway.exchange import Exchange
from gateway.providers.protocol import Chunks
from gateway.routing.dispatch import Calls

log = logging.getLogger(__name__)


async def told(calls: Calls, request: ChatRequest, made: Exchange) -> str:
    """The words of the answer. `made` is the exchange of this call (`Exchange.beside`), and settled however it ends.

    Raises GatewayError.
    """
    try:
        chunks: Chunks = await calls.call(request, made)
        try:
            (chunk,) = await chunks.next()
        finally:
            chunks.close()
        return note_answer(made, chunk)
    except GatewayError as error:
        note_failure(made, error)
        raise
    except asyncio.CancelledError:
        made.outcome = "cancelled"
        raise
    except Exception:
        made.outcome, made.error_code = "error", "internal_error"
        log.exception("a call of the gateway's own failed")
        raise UpstreamFailed("A call of the gateway's own failed.") from None
    finally:
        made.settle()


def note_answer(made: Exchange, chunk: Chunk) -> str:
    """A whole answer, in the account of its call; its words."""
    facts = chunk.facts
    made.status = 200
    made.answer_id, made.served_model, made.usage = facts.id, facts.model, read_usage(facts)
    choice = facts.choices[0] if facts.choices else None
    words = (choice.message.content or "") if choice is not None and choice.message is not None else ""
    made.finish_reason = choice.finish_reason if choice is not None else None
    made.answer_text = words if made.record_content else None
    return words


def note_failure(made: Exchange, error: GatewayError) -> None:
    """How a call ended that has no answer, in its account."""
    made.outcome = "error" if error.code != "content_filter" else "blocked"
    made.status, made.error_code = error.status, error.code or error.type
    made.error_message = error.recorded(made.record_content)


class ModelHelper:
    """A model that a stage asks for help, for `budget` seconds: see gateway.stages.preparation.Helper. `purpose` is what the record says of these calls."""

    def __init__(self, calls: Calls, model: str, purpose: str, budget: float) -> None:
        self.budget = budget
        self._calls = calls
        self._model = model
        self._purpose = purpose

    async def complete(self, prompt: str, exchange: Exchange, sensitivity: str | None) -> str:
        """The model's answer to `prompt`, which is as sensitive as the request that it was made of.

        Raises GatewayError: also where that may not leave the premises and the model is not on them.
        """
        messages = [{"role": "user", "content": prompt}]
        request = ChatRequest(JSON.encode({"model": self._model, "messages": messages}))
        request.sensitivity = sensitivity
        made = exchange.beside(self._purpose)
        if made.record_content:
            made.messages = messages
        return await told(self._calls, request, made)
