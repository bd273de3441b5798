"""The gateway's own embedding process, asked by a process that has no event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from gateway.analyst.settings import Embedder
from retrieval.embedding import EndpointEmbedder

_PATIENCE = 30.0  # seconds; less than the lease on the lake, which nobody renews meanwhile


class EmbeddingProcess:
    def __init__(self, settings: Embedder) -> None:
        self._settings = settings

    def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """Raises RetrievalUnavailable or TimeoutError where it does not answer."""
        return asyncio.run(self._asked(list(texts)))

    async def _asked(self, texts: list[str]) -> list[list[float]]:
        settings = self._settings
        embedder = EndpointEmbedder(
            "http://embeddings/v1",
            model=settings.model,
            dimension=settings.dimension,
            socket=Path(settings.socket),
            prefixes={"query": settings.prefix, "document": settings.prefix},
        )
        try:
            async with asyncio.timeout(_PATIENCE):
                return await embedder.embed(texts, kind="document")
        finally:
            await embedder.aclose()
