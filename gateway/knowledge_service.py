"""The knowledge of a gateway, opened beside the server's start.

Calls are served from the first second. A stage whose service is still starting, or is away, fails the way that
each model's configuration says; a service that could not start is tried again, without a restart.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from gateway.alone import alone
from retrieval.passages import Dropped, Passage, RetrievalUnavailable
from retrieval.questions import PLAIN, SearchSettings

if TYPE_CHECKING:
    from gateway.config.models import Collection, Configuration
    from retrieval.ingest import Labels
    from retrieval.knowledge import Knowledge, KnowledgeSettings

log = logging.getLogger(__name__)

State = Literal["starting", "ok", "unavailable"]
_TOLD_WITHIN = 0.8  # seconds
_RETRY = 5.0  # seconds between attempts to open a service that could not start


def knowledge_settings(configuration: Configuration) -> KnowledgeSettings:
    """What the retrieval library needs of the configuration; the command line's `ingest` reads it too."""
    from retrieval.knowledge import KnowledgeSettings

    settings = configuration.retrieval
    assert settings is not None
    rerank = settings.rerank
    token, key = settings.milvus.token, settings.embeddings.api_key
    return KnowledgeSettings(
        data_dir=_knowledge_folder(configuration),
        milvus_uri=settings.milvus.uri,
        milvus_token=token.get_secret_value() if token else None,
        embedding_url=settings.embeddings.url,
        embedding_api_key=key.get_secret_value() if key else None,
        embedding_model=settings.embeddings.model,
        embedding_dimension=settings.embeddings.dimension,
        query_prefix=settings.embeddings.query_prefix,
        document_prefix=settings.embeddings.document_prefix,
        keywords=settings.milvus.bm25,
        rerank_url=rerank.url if rerank else None,
        rerank_model=rerank.model if rerank else "",
        rerank_api_key=rerank.api_key.get_secret_value() if rerank and rerank.api_key else None,
    )


async def local_servers(configuration: Configuration) -> None:
    """Own the local servers of embedded retrieval until cancelled, for the processes that use them."""
    from retrieval.local_servers import LocalServers

    settings = configuration.retrieval
    assert settings is not None
    milvus, embeddings = settings.milvus.uri is None, settings.embeddings.url is None
    while True:
        try:
            async with LocalServers(_knowledge_folder(configuration), milvus=milvus, embeddings=embeddings):
                await asyncio.Event().wait()
        except RetrievalUnavailable as failure:
            log.error("knowledge is unavailable, trying again in %.0f s: %s", _RETRY, failure)
            await asyncio.sleep(_RETRY)


def _knowledge_folder(configuration: Configuration) -> Path:
    return configuration.data_dir / "knowledge"


def labels_of(collection: Collection) -> Labels:
    """What a collection's entry says of the documents that are loaded into it."""
    from retrieval.ingest import Labels

    return Labels(tuple(collection.readers), collection.sensitivity, dict(collection.attributes), collection.dated)


class KnowledgeService:
    """A Retriever that stands from the start and answers once Milvus and the embedder do."""

    def __init__(self, configuration: Configuration) -> None:
        self._settings = knowledge_settings(configuration)
        assert configuration.retrieval is not None
        self._load = {name: entry for name, entry in configuration.retrieval.collections.items() if entry.load}
        self.data_dir = configuration.data_dir
        self.keywords = self._settings.keywords  # whether the store can search by words
        self._knowledge: Knowledge | None = None
        self._starting = True
        self._look: asyncio.Task[bool] | None = None

    @property
    def embedding_socket(self) -> Path:
        return self._settings.embedding_socket

    async def run(self) -> None:
        """Open, load what the configuration names, then stay open until cancelled."""
        from retrieval.knowledge import Knowledge

        while True:
            try:
                async with Knowledge.open(self._settings) as knowledge:
                    self._knowledge = knowledge
                    await self._load_collections(knowledge)
                    self._starting = False
                    try:
                        await asyncio.Event().wait()
                    finally:
                        await self._look_no_more()
            except RetrievalUnavailable as failure:
                log.error("knowledge is unavailable, trying again in %.0f s: %s", _RETRY, failure)
            finally:
                self._knowledge = None
            self._starting = False
            await asyncio.sleep(_RETRY)

    async def _load_collections(self, knowledge: Knowledge) -> None:
        """One process after another: the first loads, and the others find that nothing has changed."""
        if self._load:
            async with alone(self._settings.data_dir / "loading.lock"):
                await self._load_each(knowledge)

    async def _load_each(self, knowledge: Knowledge) -> None:
        from retrieval.access import SHARED
        from retrieval.loading import IN_FOLDERS

        for collection, entry in self._load.items():
            report = await knowledge.ingest(
                entry.load,
                collection=collection,
                tenant=entry.tenant or SHARED,
                on_progress=_tell,
                labels=labels_of(entry),
                prune=entry.prune,
                include=entry.include or IN_FOLDERS,
            )
            log.info("collection %s: %s", collection, report)
            for path, reason in report.failed:
                log.warning("collection %s: %s was left out: %s", collection, path, reason)

    async def state(self) -> State:
        """Told within a second, which is as long as a load balancer's probe waits: what hangs is away.

        The look goes on beside, since the store learns from its failure that it has to connect anew.
        """
        if self._knowledge is None or self._starting:
            return "starting" if self._starting else "unavailable"
        if self._look is None or self._look.done():
            self._look = asyncio.get_running_loop().create_task(self._knowledge.healthy())
        look = self._look
        done, _ = await asyncio.wait([look], timeout=_TOLD_WITHIN)
        return "ok" if done and not look.cancelled() and look.result() else "unavailable"

    async def _look_no_more(self) -> None:
        self._knowledge = None
        if self._look is not None:
            self._look.cancel()
            await asyncio.wait([self._look])

    @property
    def opened(self) -> Knowledge:
        """Raises RetrievalUnavailable while it is not."""
        if self._knowledge is None:
            raise RetrievalUnavailable("the knowledge store is starting" if self._starting else "it is away")
        return self._knowledge

    async def find(
        self,
        query: str,
        *,
        collection: str,
        tenant: str,
        top_k: int,
        min_score: float | None = None,
        user: str | None = None,
        groups: frozenset[str] = frozenset(),
        filters: Mapping[str, Any] | None = None,
        settings: SearchSettings = PLAIN,
        also: Sequence[str] = (),
        within: str | None = None,
        dropped: list[Dropped] | None = None,
    ) -> list[Passage]:
        return await self.opened.find(
            query,
            collection=collection,
            tenant=tenant,
            top_k=top_k,
            min_score=min_score,
            user=user,
            groups=groups,
            filters=filters,
            settings=settings,
            also=also,
            within=within,
            dropped=dropped,
        )


def _tell(collection: str, done: int, total: int) -> None:
    """Progress of a first load, in a log's steps rather than a line a document."""
    if done == total or done % max(1, total // 10) == 0:
        log.info("loading %s: %d of %d documents", collection, done, total)
