"""New answers in place of stale ones: made beside the calls that got the stale one, as calls of the gateway's own."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from gateway.chunks import Chunk, read_usage
from gateway.errors import GatewayError
from gateway.exchange import Exchange

if TYPE_CHECKING:
    from gateway.cache.protocol import Lead
    from gateway.chat import Request
    from gateway.providers.protocol import Chunks

log = logging.getLogger(__name__)

Leave = Callable[[], Awaitable["Lead | None"]]
Make = Callable[["Request", Exchange, "Lead"], Awaitable[None]]


class Revalidations:
    """At most one a key in this process."""

    def __init__(self) -> None:
        self._running: dict[bytes, asyncio.Task[None]] = {}

    def begin(self, key: bytes, request: Request, exchange: Exchange, leave: Leave, make: Make) -> None:
        """Have `make` called with a request and an exchange of its own, where `leave` gives it the lead.

        `exchange` is the call's that got the stale answer. Nothing happens where this key's answer is being made.
        """
        if key in self._running:
            return
        task = asyncio.get_running_loop().create_task(self._run(key, request.whole(), exchange, leave, make))
        self._running[key] = task

    async def _run(self, key: bytes, request: Request, exchange: Exchange, leave: Leave, make: Make) -> None:
        try:
            lead = await leave()
            if lead is not None:
                try:
                    await _made(request, exchange, lead, make)
                finally:
                    lead.end(unshared=False)
        finally:
            del self._running[key]


async def _made(request: Request, exchange: Exchange, lead: Lead, make: Make) -> None:
    made = exchange.beside("revalidate")
    made.pseudonyms, made.cache, made.cache_key = exchange.pseudonyms, "miss", exchange.cache_key
    try:
        await make(request, made, lead)
    except GatewayError as error:
        made.outcome, made.status = "error", error.status
        made.error_code, made.error_message = error.code or error.type, error.recorded(made.record_content)
    except asyncio.CancelledError:
        made.outcome = "cancelled"
        raise
    except Exception:
        made.outcome, made.error_code = "error", "internal_error"
        log.exception("the refresh of a stale answer failed")
    finally:
        made.settle()


async def gathered(chunks: Chunks, made: Exchange) -> list[Chunk]:
    """All of an answer that no caller reads, noted in its account."""
    told: list[Chunk] = []
    try:
        while burst := await chunks.next():
            told += burst
    finally:
        chunks.close()
    made.status = 200
    for chunk in told:
        facts = chunk.facts
        made.answer_id, made.served_model = facts.id or made.answer_id, facts.model or made.served_model
        made.usage = read_usage(facts) or made.usage
        if facts.choices and (message := facts.choices[0].message) is not None:
            made.finish_reason = facts.choices[0].finish_reason
            made.answer_text = message.content if made.record_content else None
    return told
