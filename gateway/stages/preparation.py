"""User features and passages: what a prompt is rendered with, each inside its own time budget."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import Literal

from features.vector import FeatureReader, FeaturesUnavailable
from gateway.chat import Request
from gateway.errors import StageFailed
from gateway.exchange import Exchange
from gateway.prompts.template import Template
from retrieval.passages import RetrievalUnavailable, Retriever

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FeatureStage:
    """Reads the caller's features; a user who is not known has none."""

    reader: FeatureReader
    service: str
    entity: str
    budget: float
    on_failure: Literal["continue", "refuse"]

    async def fetch(self, exchange: Exchange) -> None:
        caller = exchange.caller
        if caller is None or caller.user is None:
            return
        started = time.perf_counter_ns()
        try:
            async with asyncio.timeout(self.budget):
                exchange.features = await self.reader.read(self.service, {self.entity: caller.user})
        except (TimeoutError, FeaturesUnavailable) as failure:
            _degrade(exchange, "features", self.on_failure, failure)
        finally:
            exchange.stage("features", started)


@dataclass(frozen=True, slots=True)
class RetrievalStage:
    """Finds the passages for a question, in the caller's tenant."""

    template: Template
    retriever: Retriever
    collection: str
    top_k: int
    min_score: float | None
    budget: float
    on_failure: Literal["continue", "refuse"]

    async def find(self, request: Request, exchange: Exchange) -> None:
        assert exchange.caller is not None
        started = time.perf_counter_ns()
        asked = request.rag
        top_k = min(self.top_k, asked.top_k) if asked and asked.top_k else self.top_k
        floors = [score for score in (self.min_score, asked.min_score if asked else None) if score is not None]
        try:
            question = self.template.question(request.messages)
            if not question:
                return
            async with asyncio.timeout(self.budget):
                exchange.passages = await self.retriever.find(
                    question,
                    collection=self.collection,
                    tenant=exchange.caller.tenant,
                    top_k=top_k,
                    min_score=max(floors, default=None),
                )
        except (TimeoutError, RetrievalUnavailable) as failure:
            _degrade(exchange, "retrieval", self.on_failure, failure)
        finally:
            exchange.stage("retrieval", started)


def _degrade(exchange: Exchange, stage: str, on_failure: str, failure: Exception) -> None:
    """Go on without the stage, or refuse the call, as the model's configuration says."""
    why = "it took too long" if isinstance(failure, TimeoutError) else str(failure)
    log.warning("%s unavailable for call %s: %s", stage, exchange.call_id, why)
    if on_failure == "refuse":
        raise StageFailed(f"The {stage} stage is unavailable: {why}. Try again shortly.", retry_after="2") from None
    exchange.degraded.append(stage)
