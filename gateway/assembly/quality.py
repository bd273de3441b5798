"""The judges of answers' quality: made when a configuration first asks for them, kept across reloads."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.assembly.guards import Guards
    from gateway.config.quality import Quality
    from gateway.pipeline import Watch
    from gateway.quality.sampling import Evaluated, QualityJudges
    from gateway.records.database import Database
    from gateway.telemetry.metrics import Metrics


class QualityService:
    """Judges nothing, and imports nothing for it, before `watch` is first asked for."""

    def __init__(self, database: Database, *, lake: bool = False) -> None:
        """`lake`: what is judged is told to it."""
        self._database = database
        self._lake = lake
        self._judges: QualityJudges | None = None
        self._wanted = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._metrics: Metrics | None = None
        self.evaluated: Evaluated | None = None  # who is told of each judgement

    def watch(self, asked: Quality, guards: Guards) -> Watch:
        """What a pipeline does with each of its calls."""
        from gateway.quality import measures
        from gateway.quality.sampling import QualityJudges, Sampling
        from gateway.records.quality import QualityStore

        if asked.judge is not None:
            by = measures.By(asked.judge, complete=guards.complete(asked.judge))
        else:
            assert asked.embeddings is not None, "the configuration says one of the two"
            by = measures.By(asked.embeddings, embed=guards.embed(asked.embeddings))
        known = {
            "groundedness": partial(
                measures.groundedness, by, min_similarity=asked.min_similarity, language=asked.language
            ),
            "relevance": partial(measures.relevance, by, language=asked.language),
        }
        sampling = Sampling(asked.sample, {name: known[name]() for name in asked.measures}, by.name)
        if self._judges is None:
            self._judges = QualityJudges(QualityStore(self._database, lake=self._lake), evaluated=self.evaluated)
            if self._metrics is not None:
                self._judges.tell(self._metrics)
            if self._loop is not None:  # a reload compiles in a thread
                self._loop.call_soon_threadsafe(self._wanted.set)
            else:
                self._wanted.set()
        return partial(self._judges.watch, sampling)

    def tell(self, metrics: Metrics) -> None:
        """Have the metrics tell of it, now or when there is something to tell."""
        self._metrics = metrics
        if self._judges is not None:
            self._judges.tell(metrics)

    async def run(self) -> None:
        """Until cancelled."""
        self._loop = asyncio.get_running_loop()
        await self._wanted.wait()
        assert self._judges is not None
        await self._judges.run()
