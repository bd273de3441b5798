"""The `file_search` tool: passages from the vector stores that a request names, found before the model is asked.

https://platform.openai.com/docs/guides/tools-file-search
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from gateway.chat import Request, last_question, text_of
from gateway.envelopes import FileSearch
from gateway.errors import StageFailed
from gateway.exchange import Exchange
from gateway.stages.preparation import add_passages
from gateway.stages.rendering import PromptStage
from gateway.values import Caller
from retrieval.asked import ASKED
from retrieval.passages import Passage
from retrieval.rewriting import standalone

_BUDGET = 5.0


class Stores(Protocol):
    async def search(
        self,
        who: Caller,
        store_id: str,
        queries: Sequence[str],
        *,
        top_k: int,
        filters: Mapping[str, Any] | None,
        min_score: float | None,
    ) -> list[Passage]:
        """The best passages of one vector store. Raises GatewayError, as for one that is somebody else's."""


@dataclass(frozen=True, slots=True)
class FileSearchStage:
    """`prompt` is for models that have none of their own."""

    stores: Stores
    prompt: PromptStage

    async def find(self, asked: FileSearch, request: Request, exchange: Exchange) -> None:
        """Add the best passages of all stores to the call's. Raises GatewayError."""
        if not last_question(request.messages):
            return
        started = time.perf_counter_ns()
        ASKED.set(exchange.asked_others())
        turns = [(str(message.get("role")), text_of(message)) for message in request.messages]
        try:
            async with asyncio.timeout(_BUDGET), asyncio.TaskGroup() as group:
                searches = [
                    group.create_task(self._search(asked, store_id, standalone(turns), exchange))
                    for store_id in dict.fromkeys(asked.vector_store_ids)
                ]
        except TimeoutError:
            raise StageFailed("The file search took too long. Try again shortly.", retry_after="2") from None
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None
        finally:
            exchange.stage("file_search", started)
        found = [passage for search in searches for passage in search.result()]
        found.sort(key=lambda passage: passage.score, reverse=True)
        add_passages(exchange, found[: asked.max_num_results])

    async def _search(self, asked: FileSearch, store_id: str, question: str, exchange: Exchange) -> list[Passage]:
        assert exchange.caller is not None
        return await self.stores.search(
            exchange.caller,
            store_id,
            [question],
            top_k=asked.max_num_results,
            filters=asked.filters,
            min_score=asked.ranking_options.score_threshold if asked.ranking_options is not None else None,
        )
