"""Passages: what a prompt is rendered with, inside its time budget; features are read beside them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

from gateway.chat import Request, last_question, text_of
from gateway.envelopes import RagOptions
from gateway.errors import BadRequest, StageFailed
from gateway.exchange import Exchange
from gateway.values import Searched
from retrieval.asked import ASKED
from retrieval.breaking import Breaker, Tripped
from retrieval.filters import BadFilter
from retrieval.passages import Dropped, Passage, RetrievalUnavailable, Retriever
from retrieval.questions import PLAIN, SearchSettings
from retrieval.rewriting import Complete, hypothetical, rewritten, standalone

log = logging.getLogger(__name__)


class Helper(Protocol):
    """A model that a stage asks, for `budget` seconds."""

    @property
    def budget(self) -> float: ...

    async def complete(self, prompt: str, exchange: Exchange, sensitivity: str | None) -> str:
        """Its answer to a prompt that is as sensitive as the request it was made of. Raises GatewayError."""


@dataclass(frozen=True, slots=True)
class RetrievalStage:
    """Finds the passages for a question that the caller may read.

    With `follow_ups`, one that leans on the conversation is made to stand alone, by `rewriter` where there is one; with
    `multi_query` it is searched for as it was asked too. `hyde` writes a passage that might answer, to be searched for
    beside the question.
    """

    retriever: Retriever
    collection: str
    top_k: int
    min_score: float | None
    budget: float
    on_failure: Literal["continue", "refuse"]
    settings: SearchSettings = PLAIN
    follow_ups: bool = False
    rewriter: Helper | None = None
    hyde: Helper | None = None
    multi_query: bool = False
    keywords: bool = True
    breaker: Breaker = field(default_factory=lambda: Breaker())

    @property
    def asks_a_model(self) -> bool:
        """Whether the caller's words are sent to a model: they have to be screened before."""
        return self.rewriter is not None or self.hyde is not None

    async def find(self, request: Request, exchange: Exchange) -> None:
        assert exchange.caller is not None
        started = time.perf_counter_ns()
        asked = request.rag
        top_k = min(self.top_k, asked.top_k) if asked and asked.top_k else self.top_k
        floors = [score for score in (self.min_score, asked.min_score if asked else None) if score is not None]
        try:
            asked_for = last_question(request.messages)
            if not asked_for:
                return
            self.breaker.check()
            async with asyncio.timeout(self.budget):
                question, *others = await self._questions(request, exchange, asked_for)
                ASKED.set(exchange.asked_others())
                settings, floor = self._settings(asked), max(floors, default=None)
                dropped: list[Dropped] = []
                searched = exchange.searched = Searched(
                    self.collection,
                    (question, *others),
                    question != asked_for,
                    settings.mode,
                    settings.rerank,
                    top_k,
                    floor,
                )
                found = await self.retriever.find(
                    question,
                    collection=self.collection,
                    tenant=exchange.caller.tenant,
                    user=exchange.caller.user,
                    groups=exchange.caller.groups,
                    top_k=top_k,
                    min_score=floor,
                    filters=asked.filters if asked else None,
                    settings=settings,
                    also=others,
                    dropped=dropped,
                )
            searched.found, exchange.dropped = len(found), dropped
            add_passages(exchange, found)
            self.breaker.worked()
        except BadFilter as fault:
            param = f"rag.filters.{fault.where}" if fault.where else "rag.filters"
            raise BadRequest(f"Invalid value for '{param}': {fault}.", param=param) from None
        except Tripped as failure:
            degrade(exchange, "retrieval", self.on_failure, failure)
        except (TimeoutError, RetrievalUnavailable) as failure:
            self.breaker.failed()
            degrade(exchange, "retrieval", self.on_failure, failure)
        finally:
            exchange.stage("retrieval", started)

    async def _questions(self, request: Request, exchange: Exchange, asked_for: str) -> list[str]:
        """What is searched for, what matters most first."""
        question = asked_for
        if self.follow_ups and (request.rag is None or request.rag.rewrite_query is not False):
            turns = [(str(message.get("role")), text_of(message)) for message in request.messages]
            if self.rewriter is not None:
                question = await rewritten(turns, _asking(self.rewriter, request, exchange), self.rewriter.budget)
            else:
                question = standalone(turns)  # `as_screened` says the same again
        questions = [question or asked_for]
        if self.multi_query and question != asked_for:
            questions.append(asked_for)
        if self.hyde is not None:
            passage = await hypothetical(questions[0], _asking(self.hyde, request, exchange), self.hyde.budget)
            questions += [passage] if passage else []
        return questions

    def as_screened(self, request: Request, exchange: Exchange) -> None:
        """What was searched for, in the words that the input guardrails have left: the record tells no others.

        Where a model was asked to rewrite it, they had been screened before.
        """
        searched = exchange.searched
        if searched is None or self.asks_a_model:
            return
        question = last_question(request.messages)
        queries = [question]
        if searched.rewritten:
            queries = [standalone([(str(message.get("role")), text_of(message)) for message in request.messages])]
            queries += [question] if self.multi_query else []
        searched.queries = queries

    def _settings(self, asked: RagOptions | None) -> SearchSettings:
        """A caller may choose among what the model's entry has set up; a reranker that is not there can't be asked."""
        if asked is None or (asked.mode is None and asked.rerank is None):
            return self.settings
        if not self.keywords and asked.mode in ("keyword", "hybrid"):
            raise BadRequest("This gateway's vector store has no search by words: mode is 'dense'.", param="rag.mode")
        rerank = self.settings.rerank and asked.rerank is not False
        return replace(self.settings, mode=asked.mode or self.settings.mode, rerank=rerank)


def add_passages(exchange: Exchange, found: Sequence[Passage]) -> None:
    """To those that another search has found for this call, by their likeness to the question."""
    if exchange.passages:
        found = sorted([*exchange.passages, *found], key=lambda passage: passage.score, reverse=True)
    exchange.passages = found


def _asking(helper: Helper, request: Request, exchange: Exchange) -> Complete:
    async def complete(prompt: str) -> str:
        return await helper.complete(prompt, exchange, request.sensitivity)

    return complete


def degrade(exchange: Exchange, stage: str, on_failure: str, failure: Exception) -> None:
    """Go on without the stage, or refuse the call, as the model's configuration says."""
    why = "it took too long" if isinstance(failure, TimeoutError) else str(failure)
    log.warning("%s unavailable for call %s: %s", stage, exchange.call_id, why)
    if on_failure == "refuse":
        raise StageFailed(f"The {stage} stage is unavailable: {why}. Try again shortly.", retry_after="2") from None
    exchange.degraded.append(stage)
