"""Sections and their vectors in Milvus: the one module that talks to it.

Every read takes the clause of its reader, made by `retrieval.access`; a document's new sections are searched from the
moment its record names their version, the old ones until then, never both.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import grpc
from pymilvus import AsyncMilvusClient, MilvusClient, MilvusException

from retrieval.access import HIDDEN, SHARED, audience, records_clause, records_of
from retrieval.expressions import any_of, in_arrays, quoted
from retrieval.filters import attribute_tokens
from retrieval.loading import Document
from retrieval.passages import RetrievalUnavailable
from retrieval.schema import (
    LONGEST_TEXT,
    SECTION_FIELDS,
    Recipe,
    blank,
    create,
    has_arrays,
    is_of,
    row_id,
    with_arrays,
    with_texts,
)
from retrieval.sectioning import Section

__all__ = ["SHARED", "DocumentRecord", "Found", "MilvusStore", "quoted"]

_TIMEOUT = 30.0
_MOST_ROWS = 16_384  # that Milvus gives at once
_WRITTEN = 500  # rows a request
# pymilvus asks every ten seconds whether an idle connection lives; Milvus Lite's server takes that for an attack and
# closes it ("too_many_pings"), so that every client that was idle for half a minute would fail once.
_NO_PINGS = {"grpc.keepalive_time_ms": 2**31 - 1, "grpc.keepalive_permit_without_calls": False}
# A server's reads may be some moments behind its writes. Those that decide what is written next wait for all of them.
_NOW = {"consistency_level": "Strong"}
_READY, _BUILDING = "ready", "building"


@dataclass(frozen=True, slots=True)
class DocumentRecord:
    """What a collection knows of a document as a whole. `source` is the folder or file that it was loaded from."""

    document_id: str
    version: str
    title: str
    sections: int
    source: str


@dataclass(frozen=True, slots=True)
class Found:
    """A row that a search found, its score in that search (higher is better), and its vector."""

    row_id: str
    score: float
    vector: Sequence[float]
    fields: dict[str, Any]


class MilvusStore:
    """A Milvus by its address; connects when first asked, in the loop that asks.

    `address` is asked again after a failure: a local server that was started anew may listen elsewhere.
    `keywords`: collections get a BM25 index. `exact`: it is Milvus Lite, and vectors are compared one by one.
    """

    def __init__(
        self,
        address: Callable[[], str],
        token: str | None,
        recipe: Recipe,
        *,
        keywords: bool = True,
        exact: bool = False,
    ) -> None:
        # It writes each failure to the log with a traceback and the filter, so with names of tenants and documents.
        logging.getLogger("pymilvus").setLevel(logging.CRITICAL)
        self._address = address
        self._uri = ""
        self._failed = True
        self._token = token
        self._recipe = recipe
        self._keywords = keywords
        self._exact = exact
        self._options: dict[str, Any] = {"grpc_options": _NO_PINGS} if exact else {}
        self._client: AsyncMilvusClient | None = None
        self._ready: set[str] = set()
        self._arrays: set[str] = set()

    # --- collections ------------------------------------------------------------------------------------
    def physical(self, collection: str) -> str:
        return self._recipe.physical(collection)

    async def ensure(self, collection: str) -> None:
        """Make the collection where it is not there. Raises RetrievalUnavailable for one of another embedding model."""
        if collection in self._ready:
            return
        name = self.physical(collection)
        with self._told():
            client = await self._connected()
            if not await client.has_collection(name, timeout=_TIMEOUT):
                if others := await self.other_forms(collection):
                    raise RetrievalUnavailable(
                        f"the collection {collection} was made {await self._made_with(others[0])}, not with "
                        f"{self._recipe}: run `rag-gateway reindex --collection {collection}`"
                    )
                await self._make(name, _READY)
            await self._load(name)
            state = await self._state(name)
        if state is None:  # its making broke off before it was marked
            with self._told():
                await self._put(name, [self._mark(_READY)])
        elif state == _BUILDING:
            raise RetrievalUnavailable(f"the collection {collection} is being made anew: wait for `reindex` to end")
        self._ready.add(collection)

    async def other_forms(self, collection: str) -> list[str]:
        """Names in Milvus of this collection as other recipes or the first format made it."""
        with self._told():
            names = await (await self._connected()).list_collections(timeout=_TIMEOUT)
        return sorted(name for name in names if is_of(name, collection) and name != self.physical(collection))

    async def begin_form(self, collection: str) -> None:
        """Make the collection anew, by this recipe, beside its other forms; `end_form` puts it in their place."""
        self._ready.discard(collection)
        name = self.physical(collection)
        with self._told():
            client = await self._connected()
            if not await client.has_collection(name, timeout=_TIMEOUT):
                await self._make(name, _BUILDING)
            await self._load(name)

    async def end_form(self, collection: str) -> None:
        """This form is whole: it is the collection from now on, and the others go."""
        with self._told():
            client = await self._connected()
            await self._put(self.physical(collection), [self._mark(_READY)])
            for name in await self.other_forms(collection):
                await client.drop_collection(name, timeout=_TIMEOUT)

    async def rows_of_form(self, name: str) -> AsyncIterator[list[dict[str, Any]]]:
        """All rows of another form, without vectors, some at a time: what `reindex` makes a new form of."""
        with self._told():
            client = await self._connected()
            await client.load_collection(name, timeout=_TIMEOUT)
            described = await client.describe_collection(name, timeout=_TIMEOUT)
        fields = [field["name"] for field in described["fields"] if field["name"] not in ("vector", "keywords")]
        for part in range(256):
            with self._told():
                # What the first read waited for, the others see.
                seen = {} if part else _NOW
                rows = await self._all(name, f"tenant != {quoted(HIDDEN)}", fields, f"{part:02x}", **seen)
            if rows:
                yield [with_texts(row) for row in rows]

    async def write(self, collection: str, rows: Sequence[dict[str, Any]]) -> None:
        """Rows as they are."""
        with self._told():
            await self._put(self.physical(collection), rows)

    async def drop_collection(self, collection: str) -> None:
        self._ready.discard(collection)
        with self._told():
            client = await self._connected()
            name = self.physical(collection)
            if await client.has_collection(name, timeout=_TIMEOUT):
                await client.drop_collection(name, timeout=_TIMEOUT)

    async def settle(self, collection: str) -> None:
        """After the last write. Milvus Lite is told to lay it down: it searches what it still holds in memory twenty
        times slower. A server does that by itself (newer ones refuse to be told often); its searches may be some
        moments behind, so that it is waited for until they are not.
        """
        if self._exact:
            await self.flush(self.physical(collection))
        else:
            with self._told():
                await self._seen(collection)

    async def _seen(self, collection: str) -> None:
        """Wait until searches see what was written: this read does not answer before."""
        await self._state(self.physical(collection))

    # --- documents --------------------------------------------------------------------------------------
    async def records(self, collection: str, tenant: str) -> dict[str, DocumentRecord]:
        """The documents of the tenant's own that are in force."""
        fields = ["document_id", "version", "title", "position", "url"]
        with self._told():
            rows = await self._all(self.physical(collection), records_clause(tenant), fields, **_NOW)
        return {
            row["document_id"]: DocumentRecord(
                row["document_id"], row["version"], row["title"], row["position"], row["url"]
            )
            for row in rows
        }

    async def versions(self, collection: str, tenant: str) -> dict[str, set[str]]:
        """The versions of each document that have rows: one, unless a load broke off."""
        found: dict[str, set[str]] = {}
        clause = f"tenant == {quoted(tenant)} and position == 0"
        with self._told():
            rows = await self._all(self.physical(collection), clause, ["document_id", "version"])
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
        *,
        is_new: bool = False,
    ) -> None:
        """The document's new sections in, its record set to them in one step, then its old sections out.

        The first section goes in first: it tells a later load of one that broke off. `is_new` says that there are no
        old ones to look for, which on Milvus Lite takes a look at every row.
        """
        shared = {
            "tenant": tenant,
            "document_id": document.document_id,
            "version": version,
            "title": document.title[:1000],
            "url": document.url or document.document_id,
            "readers": audience(tenant, document.readers),
            "sensitivity": document.sensitivity,
            "attributes": dict(document.attributes),
            "attribute_tokens": attribute_tokens(document.attributes, document.within),
        }
        rows = [
            {
                **shared,
                "id": row_id(tenant, document.document_id, version, section.position),
                "section_id": f"{document.document_id}#{section.position}",
                "position": section.position,
                "heading": json.dumps(section.heading, ensure_ascii=False),
                "text": section.embedded[:LONGEST_TEXT],
                "body_at": len(section.embedded) - len(section.text),
                "text_hash": text_hash(section),
                "vector": list(vector),
            }
            for section, vector in zip(sections, vectors, strict=True)
        ]
        record = {
            **blank(self._recipe.dimension),
            **shared,
            "id": row_id(HIDDEN, tenant, document.document_id),
            "tenant": records_of(tenant),
            "position": len(rows),
            "url": document.source,
        }
        name = self.physical(collection)
        with self._told():
            await self._put(name, rows)
            await self._put(name, [record])
        if not is_new:
            await self.drop_versions(collection, tenant, document.document_id, but=version)

    async def drop_versions(self, collection: str, tenant: str, document_id: str, *, but: str) -> None:
        clause = f"tenant == {quoted(tenant)} and document_id == {quoted(document_id)} and version != {quoted(but)}"
        with self._told():
            await (await self._connected()).delete(self.physical(collection), filter=clause, timeout=_TIMEOUT)

    async def remove(self, collection: str, tenant: str, document_id: str) -> None:
        """Its record first, so that it is gone at once; then its sections."""
        name = self.physical(collection)
        with self._told():
            client = await self._connected()
            await client.delete(name, ids=[row_id(HIDDEN, tenant, document_id)], timeout=_TIMEOUT)
            clause = f"tenant == {quoted(tenant)} and document_id == {quoted(document_id)}"
            await client.delete(name, filter=clause, timeout=_TIMEOUT)
            if not self._exact:
                await self._seen(collection)

    async def vectors(self, collection: str, tenant: str, document_id: str) -> dict[str, list[float]]:
        """The vectors of a document's sections by their texts' hashes: what need not be embedded again."""
        clause = f"tenant == {quoted(tenant)} and document_id == {quoted(document_id)}"
        with self._told():
            rows = await self._all(self.physical(collection), clause, ["text_hash", "vector"])
        return {row["text_hash"]: row["vector"] for row in rows}

    # --- searches ---------------------------------------------------------------------------------------
    async def dense(self, collection: str, clause: str, vector: Sequence[float], limit: int) -> list[Found]:
        """By cosine similarity, -1 to 1."""
        return await self._search(collection, clause, list(vector), "vector", "COSINE", limit)

    async def keywords(self, collection: str, clause: str, text: str, limit: int) -> list[Found]:
        """By BM25, above 0. Raises RetrievalUnavailable where collections are made without."""
        if not self._keywords:
            raise RetrievalUnavailable("there is no keyword search here (`bm25: false`); search with mode `dense`")
        found = await self._search(collection, clause, text, "keywords", "BM25", limit)
        # Milvus Lite tells BM25 as a distance, below zero; a server tells it as it is.
        return [Found(hit.row_id, abs(hit.score), hit.vector, hit.fields) for hit in found]

    async def current(self, collection: str, documents: Iterable[tuple[str, str]]) -> dict[tuple[str, str], str]:
        """The version in force of each (tenant, document id), which a search under a reader's clause has found.

        By ids alone, which are made of the tenant and the document: with a clause beside them Milvus Lite looks at
        every row of the collection.
        """
        wanted = {row_id(HIDDEN, *document): document for document in documents}
        if not wanted:
            return {}
        with self._told():
            client = await self._connected()
            rows = await client.get(
                self.physical(collection), ids=list(wanted), output_fields=["tenant", "version"], timeout=_TIMEOUT
            )
        return {wanted[row["id"]]: row["version"] for row in rows if row["tenant"] == records_of(wanted[row["id"]][0])}

    async def rows(self, collection: str, clause: str, ids: Sequence[str]) -> list[dict[str, Any]]:
        """Sections by their row ids, as far as the reader's clause reaches."""
        if not ids:
            return []
        with self._told():
            found: list[dict[str, Any]] = await (await self._connected()).query(
                self.physical(collection),
                filter=self._where(self.physical(collection), f"id in {any_of(ids)} and {clause}"),
                output_fields=list(SECTION_FIELDS),
                timeout=_TIMEOUT,
            )
        return found

    async def readable_documents(
        self, collection: str, clause: str, document_ids: Sequence[str]
    ) -> dict[str, set[str]]:
        """The versions of these documents that the reader's clause reaches: what may still be shown."""
        found: dict[str, set[str]] = {}
        await self.ensure(collection)
        name = self.physical(collection)
        where = self._where(name, f"position == 0 and document_id in {any_of(document_ids)} and {clause}")
        with self._told():
            rows = await self._all(name, where, ["document_id", "version"])
        for row in rows:
            found.setdefault(row["document_id"], set()).add(row["version"])
        return found

    async def _search(
        self, collection: str, clause: str, data: Any, field: str, metric: str, limit: int
    ) -> list[Found]:
        await self.ensure(collection)
        with self._told():
            found = await (await self._connected()).search(
                self.physical(collection),
                data=[data],
                anns_field=field,
                filter=self._where(self.physical(collection), clause),
                limit=limit,
                output_fields=[*SECTION_FIELDS, "vector"],
                search_params={"metric_type": metric},
                timeout=_TIMEOUT,
            )
        return [
            Found(hit["id"], float(hit["distance"]), hit["entity"].pop("vector"), dict(hit["entity"]))
            for hit in found[0]
        ]

    # --- other collections in the same Milvus -----------------------------------------------------------
    @property
    def recipe(self) -> Recipe:
        """How this store's vectors are made."""
        return self._recipe

    @property
    def exact(self) -> bool:
        """Whether it is Milvus Lite."""
        return self._exact

    @asynccontextmanager
    async def client(self) -> AsyncIterator[AsyncMilvusClient]:
        """The connection, for a collection that is not of documents. What fails inside raises RetrievalUnavailable."""
        with self._told():
            yield await self._connected()

    @contextmanager
    def blocking(self) -> Iterator[MilvusClient]:
        """A connection of its own, for a thread: some of what the blocking client can, the other one can't."""
        client = MilvusClient(uri=self._uri, token=self._token or "", **self._options)
        try:
            yield client
        finally:
            client.close()

    async def flush(self, name: str) -> None:
        """Have Milvus lay down what it holds of a collection in memory. Raises RetrievalUnavailable."""
        with self._told():
            await self._connected()
            await asyncio.to_thread(self._flush, name)

    async def rows_of(self, name: str, clause: str, fields: list[str]) -> list[dict[str, Any]]:
        """All rows of a collection that has hexadecimal ids, by its name in Milvus. Raises RetrievalUnavailable."""
        with self._told():
            return await self._all(name, clause, fields, **_NOW)

    # --- the connection ---------------------------------------------------------------------------------
    async def healthy(self) -> bool:
        try:
            with self._told():
                await (await self._connected()).list_collections(timeout=2.0)
        except RetrievalUnavailable:
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
            self._client = AsyncMilvusClient(uri=self._uri, token=self._token or "", **self._options)
        return self._client

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Nothing that was known of the server holds after a failure: one that was restarted has to load again."""
        try:
            yield
        except (MilvusException, grpc.RpcError) as error:
            self._failed = True
            self._ready.clear()
            raise RetrievalUnavailable(f"the vector store did not answer ({type(error).__name__})") from error

    async def _all(
        self, name: str, clause: str, fields: list[str], prefix: str = "", **seen: str
    ) -> list[dict[str, Any]]:
        """Every row that the clause reaches: row ids are evenly spread, so their first digits part what is too much."""
        where = f'{clause} and id like "{prefix}%"' if prefix else clause
        client = await self._connected()
        rows: list[dict[str, Any]] = await client.query(
            name, filter=where, output_fields=fields, limit=_MOST_ROWS, timeout=_TIMEOUT, **seen
        )
        if len(rows) < _MOST_ROWS:
            return rows
        rows = []
        for digit in "0123456789abcdef":
            rows += await self._all(name, clause, fields, prefix + digit, **seen)
        return rows

    async def _make(self, name: str, state: str) -> None:
        await asyncio.to_thread(self._create, name)
        await self._load(name)
        await self._put(name, [self._mark(state)])

    async def _load(self, name: str) -> None:
        """Have Milvus hold it ready, and see how it is laid out."""
        client = await self._connected()
        await client.load_collection(name, timeout=_TIMEOUT)
        if not self._exact:
            arrays = has_arrays(await client.describe_collection(name, timeout=_TIMEOUT))
            self._arrays = self._arrays | {name} if arrays else self._arrays - {name}

    async def _put(self, name: str, rows: Sequence[dict[str, Any]]) -> None:
        client = await self._connected()
        for start in range(0, len(rows), _WRITTEN):
            part = rows[start : start + _WRITTEN]
            data = [with_arrays(row) for row in part] if name in self._arrays else list(part)
            await client.upsert(name, data, timeout=_TIMEOUT)

    def _where(self, name: str, clause: str) -> str:
        return in_arrays(clause) if name in self._arrays else clause

    async def _state(self, name: str) -> str | None:
        client = await self._connected()
        rows = await client.query(
            name, filter=f"tenant == {quoted(HIDDEN)}", output_fields=["text"], limit=1, timeout=_TIMEOUT, **_NOW
        )
        return rows[0]["text"] if rows else None

    def _mark(self, state: str) -> dict[str, Any]:
        """The row that says how far the collection is and what made it: Milvus Lite keeps no description."""
        about = {"id": row_id(HIDDEN), "tenant": HIDDEN, "title": str(self._recipe), "text": state}
        return {**blank(self._recipe.dimension), **about}

    async def _made_with(self, name: str) -> str:
        client = await self._connected()
        await client.load_collection(name, timeout=_TIMEOUT)
        rows = await client.query(
            name, filter=f"tenant == {quoted(HIDDEN)}", output_fields=["title"], limit=1, timeout=_TIMEOUT
        )
        made_with = f"with {rows[0]['title']}" if rows else "in another format"
        return "by an earlier version" if made_with == f"with {self._recipe}" else made_with

    def _create(self, name: str) -> None:
        """By the blocking client: the async one asks the server for a timestamp, which Milvus Lite does not have."""
        with self.blocking() as client:
            create(client, name, self._recipe.dimension, keywords=self._keywords, exact=self._exact, timeout=_TIMEOUT)

    def _flush(self, name: str) -> None:
        with self.blocking() as client:
            client.flush(name, timeout=_TIMEOUT)


def text_hash(section: Section) -> str:
    return hashlib.sha256(section.embedded.encode("utf-8", "replace")).hexdigest()
