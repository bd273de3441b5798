"""Sections and their vectors in Milvus. The tenant's clause is in every search, built here and nowhere else."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from typing import Any

import grpc
from pymilvus import AsyncMilvusClient, DataType, MilvusClient, MilvusException

from retrieval.loading import Document
from retrieval.passages import Passage, RetrievalUnavailable
from retrieval.sectioning import Section

SHARED = "*"
"""The tenant of what every tenant may read; no key's tenant can be called so."""

_ABOUT = "#"  # no tenant either

_FIELDS = ["document_id", "version", "section_id", "title", "url", "heading", "text"]
_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"})
_LONGEST_TEXT = 16_000
_TIMEOUT = 30.0


class MilvusStore:
    """A Milvus by its address; connects when first asked, in the loop that asks.

    `address` is asked again after a failure: a local server that was started anew may listen elsewhere.
    """

    def __init__(self, address: Callable[[], str], token: str | None, *, model: str, dimension: int) -> None:
        # It writes each failure to the log with a traceback and the filter, so with names of tenants and documents.
        logging.getLogger("pymilvus").setLevel(logging.CRITICAL)
        self._address = address
        self._uri = ""
        self._failed = True
        self._token = token
        self._made_with = f"{model} in {dimension} dimensions"
        self._dimension = dimension
        self._client: AsyncMilvusClient | None = None
        self._ready: set[str] = set()

    async def ensure(self, collection: str) -> None:
        """Make the collection where it is not there. Raises RetrievalUnavailable for one of another embedding model."""
        if collection in self._ready:
            return
        try:
            client = await self._connected()
            if not await client.has_collection(collection, timeout=_TIMEOUT):
                await asyncio.to_thread(self._create, collection)
            await client.load_collection(collection, timeout=_TIMEOUT)
            rows = await client.query(
                collection, filter=f"tenant == {quoted(_ABOUT)}", output_fields=["title"], limit=1, timeout=_TIMEOUT
            )
            if not rows:  # just made, or its making broke off here
                await client.upsert(collection, [self._about()], timeout=_TIMEOUT)
                rows = [self._about()]
        except (MilvusException, grpc.RpcError) as error:
            raise self._unavailable(error) from error
        if rows[0]["title"] != self._made_with:
            raise RetrievalUnavailable(
                f"the collection {collection} was made with {rows[0]['title']}, not with {self._made_with}: "
                "load its documents into a new collection"
            )
        self._ready.add(collection)

    async def versions(self, collection: str, tenant: str) -> dict[str, set[str]]:
        """The versions of each document that the tenant's part of the collection holds: one, unless a load broke off."""
        found: dict[str, set[str]] = {}
        clause = f"tenant == {quoted(tenant)} and position == 0"
        try:
            client = await self._connected()
            rows = await client.query(
                collection, filter=clause, output_fields=["document_id", "version"], limit=16_384, timeout=_TIMEOUT
            )
        except (MilvusException, grpc.RpcError) as error:
            raise self._unavailable(error) from error
        for row in rows:
            found.setdefault(row["document_id"], set()).add(row["version"])
        return found

    async def replace(
        self,
        collection: str,
        tenant: str,
        document: Document,
        version: str,
        sections: Sequence[Section],
        vectors: Sequence[Sequence[float]],
    ) -> None:
        """The document's new sections in, then its old ones out. The first section goes in last: it says that all are."""
        rows = [
            {
                "id": _row_id(tenant, document.document_id, version, section.position),
                "tenant": tenant,
                "document_id": document.document_id,
                "version": version,
                "section_id": f"{document.document_id}#{section.position}",
                "position": section.position,
                "title": document.title[:1000],
                "url": document.document_id,
                "heading": json.dumps(section.heading, ensure_ascii=False),
                "text": section.text[:_LONGEST_TEXT],
                "vector": list(vector),
            }
            for section, vector in zip(sections, vectors, strict=True)
        ]
        rows.reverse()
        try:
            client = await self._connected()
            for start in range(0, len(rows), 500):
                await client.upsert(collection, rows[start : start + 500], timeout=_TIMEOUT)
            await self.drop_versions(collection, tenant, document.document_id, but=version)
        except (MilvusException, grpc.RpcError) as error:
            raise self._unavailable(error) from error

    async def drop_versions(self, collection: str, tenant: str, document_id: str, *, but: str) -> None:
        clause = f"tenant == {quoted(tenant)} and document_id == {quoted(document_id)} and version != {quoted(but)}"
        try:
            await (await self._connected()).delete(collection, filter=clause, timeout=_TIMEOUT)
        except (MilvusException, grpc.RpcError) as error:
            raise self._unavailable(error) from error

    async def search(
        self, collection: str, tenant: str, vector: Sequence[float], top_k: int, min_score: float | None
    ) -> list[Passage]:
        """What the tenant may read, by cosine similarity, best first. Raises RetrievalUnavailable."""
        if tenant == _ABOUT:
            raise ValueError(f"{_ABOUT} is no tenant")
        await self.ensure(collection)
        try:
            found = await (await self._connected()).search(
                collection,
                data=[list(vector)],
                anns_field="vector",
                filter=f"tenant in [{quoted(SHARED)}, {quoted(tenant)}]",
                limit=top_k,
                output_fields=_FIELDS,
                search_params={"metric_type": "COSINE"},
                timeout=_TIMEOUT,
            )
        except (MilvusException, grpc.RpcError) as error:
            raise self._unavailable(error) from error
        hits = [(hit["distance"], hit["entity"]) for hit in found[0]]
        return [
            _passage(collection, score, entity) for score, entity in hits if min_score is None or score >= min_score
        ]

    async def healthy(self) -> bool:
        try:
            await (await self._connected()).list_collections(timeout=2.0)
        except (MilvusException, grpc.RpcError) as error:
            self._unavailable(error)
            return False
        return True

    async def aclose(self) -> None:
        if self._client is not None:
            client, self._client = self._client, None
            await client.close()

    async def _connected(self) -> AsyncMilvusClient:
        if self._failed:
            self._failed = False
            address = self._address()
            if address != self._uri:
                self._uri = address
                await self.aclose()
        if self._client is None:
            self._client = AsyncMilvusClient(uri=self._uri, token=self._token or "")
        return self._client

    def _unavailable(self, error: Exception) -> RetrievalUnavailable:
        """Nothing that was known of the server holds after a failure: one that was restarted has to load again."""
        self._failed = True
        self._ready.clear()
        return RetrievalUnavailable(f"the vector store did not answer ({type(error).__name__})")

    def _about(self) -> dict[str, Any]:
        """The row that says which embedding model the collection is of: Milvus Lite keeps no description."""
        texts = dict.fromkeys(("document_id", "version", "section_id", "url", "text"), "")
        vector = [1.0] + [0.0] * (self._dimension - 1)
        about = {"id": _ABOUT, "tenant": _ABOUT, "title": self._made_with, "heading": "[]", "position": -1}
        return {**about, **texts, "vector": vector}

    def _create(self, collection: str) -> None:
        """By the blocking client: the async one asks the server for a timestamp, which Milvus Lite does not have."""
        schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=1_200)
        schema.add_field("tenant", DataType.VARCHAR, max_length=64, is_partition_key=True)
        for name, longest in (("document_id", 4_200), ("version", 64), ("section_id", 4_300), ("title", 4_000)):
            schema.add_field(name, DataType.VARCHAR, max_length=longest)
        for name, longest in (("url", 4_200), ("heading", 16_000), ("text", 65_535)):
            schema.add_field(name, DataType.VARCHAR, max_length=longest)
        schema.add_field("position", DataType.INT64)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=self._dimension)
        index = MilvusClient.prepare_index_params()
        index.add_index("vector", index_type="AUTOINDEX", metric_type="COSINE")
        client = MilvusClient(uri=self._uri, token=self._token or "")
        try:
            client.create_collection(collection, schema=schema, index_params=index, timeout=_TIMEOUT)
        finally:
            client.close()


def quoted(text: str) -> str:
    """A string literal of Milvus' filter language: what stands inside can't end it.

    The language knows no `\\u`, so all but these few characters stand for themselves.
    """
    plain = text.encode("utf-8", "replace").decode()
    return '"' + plain.translate(_ESCAPES) + '"'


def _row_id(*parts: str | int) -> str:
    """One name of fixed length for each section of each version, whatever stands in the parts."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _passage(collection: str, score: float, entity: dict[str, Any]) -> Passage:
    return Passage(
        document_id=entity["document_id"],
        version=entity["version"],
        section_id=entity["section_id"],
        collection=collection,
        score=float(score),
        title=entity["title"],
        url=entity["url"],
        text=entity["text"],
        heading=tuple(json.loads(entity["heading"])),
    )
