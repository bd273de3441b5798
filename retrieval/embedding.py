"""Texts to vectors, by any server that speaks OpenAI's `/v1/embeddings`: ours on a unix socket, or a remote one.

https://platform.openai.com/docs/api-reference/embeddings/create
"""

from __future__ import annotations

import asyncio
import base64
import time
from array import array
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, Protocol

import httpx
from cachetools import LRUCache

from retrieval.passages import RetrievalUnavailable

Kind = Literal["query", "document"]
_BATCH = 64  # texts a request
_AHEAD = 2  # requests at a time, so that the server has the next one while this one is read
_QUERIES_KEPT = 1_000
_LONGEST_KEPT = 4_000  # characters
_STILL_WELL = 30.0  # seconds after an answer for which a server is not asked whether it is there


class Embedder(Protocol):
    model: str
    dimension: int

    async def embed(self, texts: Sequence[str], *, kind: Kind) -> list[list[float]]:
        """A vector of `dimension` numbers for each text, in order. Raises RetrievalUnavailable."""


class EndpointEmbedder:
    """An embedder behind HTTP. `socket` is the path of a unix socket, in place of a network address.

    `prefixes` are what the model wants before a question or a document. The vectors of questions are kept.
    """

    def __init__(
        self,
        url: str,
        *,
        model: str,
        dimension: int,
        api_key: str | None = None,
        socket: Path | None = None,
        prefixes: Mapping[Kind, str] | None = None,
    ) -> None:
        self.model = model
        self.dimension = dimension
        self._prefixes = dict(prefixes or {})
        self._queries: LRUCache[str, list[float]] = LRUCache(_QUERIES_KEPT)
        self._still_well = 0.0 if socket else _STILL_WELL  # our own server costs nothing to ask
        self._answered = -_STILL_WELL  # time.monotonic()
        headers = {"authorization": f"Bearer {api_key}"} if api_key else {}
        self._client = httpx.AsyncClient(
            base_url=url,
            headers=headers,
            timeout=httpx.Timeout(60.0, connect=5.0),
            transport=httpx.AsyncHTTPTransport(uds=str(socket) if socket else None, retries=1),
        )

    async def embed(self, texts: Sequence[str], *, kind: Kind) -> list[list[float]]:
        # Half of a surrogate pair is no text: it can't be sent, and means nothing.
        prefix = self._prefixes.get(kind, "")
        texts = [prefix + text.encode("utf-8", "replace").decode() for text in texts]
        if kind == "query":
            return await self._embed_queries(texts)
        turns = asyncio.Semaphore(_AHEAD)

        async def part(start: int) -> list[list[float]]:
            async with turns:
                return await self._embed(texts[start : start + _BATCH], kind)

        try:
            async with asyncio.TaskGroup() as group:
                parts = [group.create_task(part(start)) for start in range(0, len(texts), _BATCH)]
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None
        return [vector for each in parts for vector in each.result()]

    async def _embed_queries(self, texts: list[str]) -> list[list[float]]:
        """Questions come again: in a conversation, by a second search, by another person."""
        new = [text for text in dict.fromkeys(texts) if text not in self._queries]
        made = dict(zip(new, await self._embed(new, "query"), strict=True)) if new else {}
        vectors = [made[text] if text in made else self._queries[text] for text in texts]
        self._queries.update({text: vector for text, vector in made.items() if len(text) <= _LONGEST_KEPT})
        return vectors

    async def healthy(self) -> bool:
        """Whether it answers. A vendor has each word paid and counts it to a limit: what calls have just found out is
        not asked again."""
        if time.monotonic() - self._answered < self._still_well:
            return True
        try:
            await self._embed(["ready"], "query")
        except RetrievalUnavailable:
            return False
        return True

    async def aclose(self) -> None:
        await self._client.aclose()

    async def _embed(self, texts: list[str], kind: Kind) -> list[list[float]]:
        try:
            vectors = await self._asked(texts, kind)
        except RetrievalUnavailable:
            self._answered = -_STILL_WELL
            raise
        self._answered = time.monotonic()
        return vectors

    async def _asked(self, texts: list[str], kind: Kind) -> list[list[float]]:
        body = {"model": self.model, "input": texts, "encoding_format": "base64"}
        try:
            # Our own server lets live queries pass before documents; others do not know the header.
            response = await self._client.post("/embeddings", json=body, headers={"x-embedding-kind": kind})
        except (httpx.HTTPError, OSError) as error:
            raise RetrievalUnavailable("the embedding server can't be reached") from error
        if response.status_code != 200:
            raise RetrievalUnavailable(f"the embedding server answered with HTTP {response.status_code}")
        try:
            data = sorted(response.json()["data"], key=lambda item: item["index"])
            vectors = [_vector(item["embedding"]) for item in data]
        except (ValueError, KeyError, TypeError) as error:
            raise RetrievalUnavailable("the embedding server's answer can't be read") from error
        if len(vectors) != len(texts) or any(len(vector) != self.dimension for vector in vectors):
            raise RetrievalUnavailable(f"the embedding server did not give vectors of {self.dimension} numbers")
        return vectors


def _vector(value: str | list[float]) -> list[float]:
    """base64 of little-endian float32, or plain numbers from servers that only have those."""
    if isinstance(value, list):
        return value
    floats = array("f")
    floats.frombytes(base64.b64decode(value))
    return floats.tolist()
