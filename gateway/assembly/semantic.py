"""The semantic caches of a configuration, over stores that are kept across reloads."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any

from gateway.cache.protocol import CacheUnavailable
from gateway.cache.semantic_meter import SemanticMeter, by_model
from retrieval.passages import RetrievalUnavailable

if TYPE_CHECKING:
    from gateway.cache.caches import Caches
    from gateway.cache.encoding import Seal
    from gateway.cache.memory_questions import MemoryQuestions
    from gateway.cache.milvus_questions import MilvusQuestions
    from gateway.cache.protocol import Purge
    from gateway.cache.questions import Questions
    from gateway.cache.semantic import SemanticCache
    from gateway.config.semantic_caching import SemanticCaching
    from gateway.knowledge_service import KnowledgeService
    from retrieval.embedding import Kind
    from retrieval.passages import OfDocument

log = logging.getLogger(__name__)

_LOOK_AGAIN = 1.0  # seconds
_TIDY_EVERY = 600.0  # seconds
_MOST_LATER = 64  # answers that wait to be kept; more are given up


class SemanticStores:
    """Where questions and answers are kept: made when a configuration first asks for them.

    `run` has them opened and tidied.
    """

    def __init__(self, knowledge: KnowledgeService, caches: Caches, seal: Seal | None = None) -> None:
        """`seal` encrypts what is kept in Milvus; `caches` purge what is kept here."""
        self.meter = SemanticMeter()
        self._knowledge = knowledge
        self._caches = caches
        caches.semantic = self
        self._seal = seal
        self._shared: _Shared | None = None  # the caches themselves hold it weakly
        self._memory: MemoryQuestions | None = None
        self._milvus: MilvusQuestions | None = None
        self._later: set[asyncio.Task[None]] = set()

    def cache(self, model: str, scope: str, settings: SemanticCaching) -> SemanticCache:
        """Of one pipeline; `scope` names all of its settings that shape an answer."""
        from gateway.cache.semantic import SemanticCache, SemanticTerms

        terms = SemanticTerms(settings.ttl, settings.threshold, settings.budget, settings.shadow, settings.agreement)
        meaning = _Meaning(self._knowledge)
        return SemanticCache(model, scope, terms, self._questions(settings), meaning, self.meter, self._begin)

    async def here(self) -> dict[str, Any]:
        """See SemanticOverview."""
        counts = [[model, outcome, times] for (model, outcome), times in self.meter.counts.items()]
        return {"memory": await self._memory.size() if self._memory is not None else None, "counts": counts}

    async def overview(self, workers: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """How many answers each store has (None: it is away), and what each model's look-ups have found."""
        answers: dict[str, int | None] = {}
        if self._memory is not None:
            answers["memory"] = sum([worker["memory"] or 0 for worker in workers])
        if self._milvus is not None:
            try:
                answers["milvus"] = await self._milvus.size()
            except RetrievalUnavailable:
                answers["milvus"] = None
        counts: Counter[tuple[str, str]] = Counter()
        for worker in workers:
            for model, outcome, times in worker["counts"]:
                counts[model, outcome] += times
        return {"answers": answers, "models": by_model(counts)}

    def tell(self, counted: Callable[..., None]) -> None:
        """Have the metrics look here when scraped: gateway.telemetry.metrics.Metrics.counted."""
        help_ = "Look-ups of questions that mean the same, by what they found; `false_hit` is of shadow mode."
        counted("rag_gateway_semantic_cache", help_, ("model", "outcome"), lambda: dict(self.meter.counts))

    async def run(self) -> None:
        """Until cancelled."""
        tidied = 0.0
        try:
            while True:
                try:
                    if self._milvus is not None:
                        await self._milvus.open()
                        await self._milvus.settle()
                    full = any(store.full for store in self._stores())
                    if self._stores() and (full or time.monotonic() - tidied > _TIDY_EVERY):
                        tidied = time.monotonic()
                        for store in self._stores():
                            await store.tidy()
                except RetrievalUnavailable as failure:
                    log.debug("kept answers can't be had yet: %s", failure)
                await asyncio.sleep(_LOOK_AGAIN)
        finally:
            for task in tuple(self._later):
                task.cancel()
            await asyncio.gather(*self._later, return_exceptions=True)

    def _stores(self) -> Sequence[Questions]:
        return [store for store in (self._memory, self._milvus) if store is not None]

    def _questions(self, settings: SemanticCaching) -> Questions:
        """All models share a store; the largest bound that one of them names is its bound."""
        if settings.store == "memory":
            from gateway.cache.memory_questions import MemoryQuestions

            if self._memory is None:
                self._memory = MemoryQuestions(settings.max_entries)
                self._caches.add_here(self._memory)
            self._memory.most = max(self._memory.most, settings.max_entries)
            return self._memory
        from gateway.cache.milvus_questions import MilvusQuestions

        if self._milvus is None:
            self._milvus = MilvusQuestions(lambda: self._knowledge.opened.store, settings.max_entries, self._seal)
            self._shared = _Shared(self._milvus)
            self._caches.add(self._shared)
        self._milvus.most = max(self._milvus.most, settings.max_entries)
        return self._milvus

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        if len(self._later) >= _MOST_LATER:
            work.close()
            return
        task = asyncio.get_running_loop().create_task(work)
        self._later.add(task)
        task.add_done_callback(self._later.discard)


class _Shared:
    """The answers in Milvus, as what all workers share is purged."""

    def __init__(self, questions: MilvusQuestions) -> None:
        self._questions = questions

    async def purge(self, what: Purge) -> int:
        try:
            return await self._questions.purge(what)
        except RetrievalUnavailable as failure:
            raise CacheUnavailable(f"answers to questions that mean the same: {failure}") from None


class _Meaning:
    """The embedder and the rights of the knowledge that is open now."""

    def __init__(self, knowledge: KnowledgeService) -> None:
        self._knowledge = knowledge

    async def embed(self, texts: Sequence[str], *, kind: Kind) -> list[list[float]]:
        return await self._knowledge.opened.embedder.embed(texts, kind=kind)

    async def still_readable(
        self,
        passages: Sequence[OfDocument],
        *,
        tenant: str,
        user: str | None = None,
        groups: frozenset[str] = frozenset(),
    ) -> bool:
        return await self._knowledge.opened.still_readable(passages, tenant=tenant, user=user, groups=groups)
