"""Questions and their answers in the Milvus that holds the gateway's knowledge, in a collection of their own.

Its partition key is everything that must be equal for an answer to be shared: Milvus parts the rows by it, and every
search has it as a filter. What can change at any time (what a passage's reader may still read) is asked after that.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import time
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pymilvus import DataType, MilvusClient
from pymilvus.milvus_client import IndexParams

from gateway.cache.encoding import Seal, Unreadable, decoded, encoded
from gateway.cache.protocol import Origin, Purge
from gateway.cache.questions import EVERYBODY, Alike, Asked, KeptAnswer, Source
from retrieval.expressions import any_of, quoted, token
from retrieval.passages import RetrievalUnavailable
from retrieval.schema import server_version
from retrieval.store import MilvusStore

_PURGED_WITHIN = 15.0  # seconds: an operator waits
_COUNTED_WITHIN = 2.0
_COLLECTION = "rag_gateway_answers_1"
_TIMEOUT = 30.0
_MOST_GIVEN = 5
_LONGEST_TEXT = 65_535  # bytes of a field
_DELETED = 500  # rows a request
_UNSETTLED = 100  # rows
_FIELDS = ["partition", "audience", "key", "answer", "about", "expires"]
_MOST_UNPACKED = 4_000_000  # bytes


class MilvusQuestions:
    """`most` answers at most, of all gateways that share the Milvus; `tidy` lets go of the oldest beyond it.

    `store` gives the open store, or raises RetrievalUnavailable. `seal` encrypts questions and answers; their vectors
    and what else Milvus has to compare stand as they are.
    """

    def __init__(self, store: Callable[[], MilvusStore], most: int, seal: Seal | None = None) -> None:
        self._store = store
        self._seal = seal
        self.most = most
        self._ready: MilvusStore | None = None
        self._opening = asyncio.Lock()
        self._new = 0  # since it was last tidied
        self._unsettled = 0

    @property
    def name(self) -> str:
        """Of the collection, in Milvus. Raises RetrievalUnavailable."""
        return _name(self._store())

    async def open(self) -> None:
        """Make the collection where it is not there, and have Milvus hold it ready."""
        store = self._store()
        async with self._opening:
            if self._ready is store:
                return
            name = _name(store)
            if not await self._is_there(store, name):
                try:
                    async with store.client():
                        await asyncio.to_thread(_create, store, name)
                except RetrievalUnavailable:
                    if not await self._is_there(store, name):  # another process may have been quicker
                        raise
            if not await self._has_index(store, name):  # its making broke off, or another process is about it
                try:
                    async with store.client():
                        await asyncio.to_thread(_add_index, store, name)
                except RetrievalUnavailable:
                    if not await self._has_index(store, name):
                        raise
            async with store.client() as client:
                await client.load_collection(name, timeout=_TIMEOUT)
            self._ready = store

    async def _has_index(self, store: MilvusStore, name: str) -> bool:
        async with store.client() as client:
            return bool(await client.list_indexes(name, timeout=_TIMEOUT))

    async def _is_there(self, store: MilvusStore, name: str) -> bool:
        async with store.client() as client:
            there: bool = await client.has_collection(name, timeout=_TIMEOUT)
        return there

    @property
    def full(self) -> bool:
        return self._new > max(100, self.most // 10)

    async def alike(self, asked: Asked, vector: Sequence[float], least: float) -> list[Alike]:
        store = self._opened()
        clause = (
            f"partition == {quoted(asked.partition)} and audience in {any_of((EVERYBODY, asked.audience))} "
            f"and expires > {int(time.time() * 1000)}"
        )
        with self._unless_away():
            async with store.client() as client:
                found = await client.search(
                    _name(store),
                    data=[list(vector)],
                    anns_field="vector",
                    filter=clause,
                    limit=_MOST_GIVEN,
                    output_fields=_FIELDS,
                    search_params={"metric_type": "COSINE"},
                    timeout=_TIMEOUT,
                )
        read = [(float(hit["distance"]), _answer({**hit["entity"], "id": hit["id"]}, self._seal)) for hit in found[0]]
        return [Alike(likeness, answer) for likeness, answer in read if likeness >= least and answer is not None]

    async def keep(self, answer: KeptAnswer, vector: Sequence[float]) -> None:
        """An answer that is too long for a row of Milvus is not kept."""
        store = self._opened()
        row = _row(answer, vector, self._seal)
        if max(len(row["answer"]), len(row["about"])) > _LONGEST_TEXT:
            return
        with self._unless_away():
            async with store.client() as client:
                # Not `upsert`: servers before 2.4 put its rows where a partition key's searches do not look.
                await client.delete(_name(store), ids=[row["id"]], timeout=_TIMEOUT)
                await client.insert(_name(store), [row], timeout=_TIMEOUT)
        self._new += 1
        self._unsettled += 1

    async def purge(self, what: Purge) -> int:
        clauses = [
            f"{field} == {quoted(value)}"
            for field, value in (
                ("key", what.key.hex() if what.key is not None else None),
                ("tenant", token(what.tenant) if what.tenant is not None else None),
                ("model", token(what.model) if what.model is not None else None),
                ("person", token(what.user) if what.user is not None else None),
            )
            if value is not None
        ]
        async with _within(_PURGED_WITHIN):
            rows = await self._rows(" and ".join(clauses) or "expires > 0", ["id", "about"])
            read = [(row["id"], _about(row, self._seal)) for row in rows]
            # What nobody here can read may be what is meant.
            return await self._delete([row_id for row_id, about in read if about is None or what.fits(_origin(about))])

    async def settle(self) -> None:
        """Have Milvus Lite lay down what it holds in memory, which it searches twenty times slower, once it is much."""
        store = self._opened()
        if not store.exact or self._unsettled < _UNSETTLED:
            return
        self._unsettled = 0
        with self._unless_away():
            await store.flush(_name(store))

    async def tidy(self) -> int:
        self._new = 0
        now = int(time.time() * 1000)
        rows = await self._rows("expires > 0", ["id", "expires", "made"])
        gone = [row["id"] for row in rows if row["expires"] <= now]
        left = sorted((row["made"], row["id"]) for row in rows if row["expires"] > now)
        gone += [row_id for _, row_id in left[: max(0, len(left) - self.most)]]
        return await self._delete(gone)

    async def size(self) -> int:
        async with _within(_COUNTED_WITHIN):
            return len(await self._rows("expires > 0", ["id"]))

    async def _rows(self, clause: str, fields: list[str]) -> list[dict[str, Any]]:
        await self.open()
        store = self._opened()
        with self._unless_away():
            return await store.rows_of(_name(store), clause, fields)

    async def _delete(self, ids: Sequence[str]) -> int:
        store = self._opened()
        with self._unless_away():
            async with store.client() as client:
                for start in range(0, len(ids), _DELETED):
                    await client.delete(_name(store), ids=list(ids[start : start + _DELETED]), timeout=_TIMEOUT)
            if ids and not store.exact:
                # A server's searches may be some moments behind; this read does not answer before they are not.
                await store.rows_of(_name(store), f"id in {any_of(ids[:1])}", ["id"])
        return len(ids)

    def _opened(self) -> MilvusStore:
        store = self._store()
        if self._ready is not store:
            raise RetrievalUnavailable("the kept answers are being opened")
        return store

    @contextlib.contextmanager
    def _unless_away(self) -> Iterator[None]:
        """A server that was away may have been started anew: it has to load the collection again."""
        try:
            yield
        except RetrievalUnavailable:
            self._ready = None
            raise


@contextlib.asynccontextmanager
async def _within(seconds: float) -> AsyncIterator[None]:
    """A server that hangs is away."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise RetrievalUnavailable("the vector store did not answer in time") from None


def _name(store: MilvusStore) -> str:
    return store.recipe.physical(_COLLECTION)


def _create(store: MilvusStore, name: str) -> None:
    with store.blocking() as client:
        parted = store.exact or server_version(client, _TIMEOUT) >= (2, 3)
        schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=64)
        schema.add_field("partition", DataType.VARCHAR, max_length=64, is_partition_key=parted)
        for field, longest in (("audience", 32), ("key", 64), ("tenant", 32), ("model", 32), ("person", 32)):
            schema.add_field(field, DataType.VARCHAR, max_length=longest)
        for field in ("answer", "about"):
            schema.add_field(field, DataType.VARCHAR, max_length=65_535)
        schema.add_field("expires", DataType.INT64)
        schema.add_field("made", DataType.INT64)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=store.recipe.dimension)
        client.create_collection(name, schema=schema, index_params=_index(store), timeout=_TIMEOUT)


def _add_index(store: MilvusStore, name: str) -> None:
    with store.blocking() as client:
        client.create_index(name, _index(store), timeout=_TIMEOUT)


def _index(store: MilvusStore) -> IndexParams:
    index = MilvusClient.prepare_index_params()
    index.add_index("vector", index_type="FLAT" if store.exact else "AUTOINDEX", metric_type="COSINE")
    return index


# --- rows ---------------------------------------------------------------------------------------------
def _row(answer: KeptAnswer, vector: Sequence[float], seal: Seal | None) -> dict[str, Any]:
    """What Milvus has to look at in columns, names as digests; the rest in two texts, sealed where there is a key."""
    kept = answer.kept
    origin = kept.origin
    row_id = hashlib.sha256(f"{answer.partition} {answer.key}".encode()).hexdigest()
    about = {
        "question": answer.question,
        "origin": [origin.model, origin.tenant, origin.user, sorted(origin.collections), sorted(origin.documents)],
        "sources": [[s.collection, s.document_id, s.section_id, s.version, s.cited] for s in answer.sources],
    }
    told = json.dumps(about).encode()
    return {
        "id": row_id,
        "partition": answer.partition,
        "audience": answer.audience,
        "key": answer.key,
        "tenant": token(origin.tenant),
        "model": token(origin.model),
        "person": token(origin.user) if origin.user is not None else "",
        "answer": b64encode(encoded(kept, seal, row_id.encode())).decode(),
        "about": b64encode(seal.seal(told, row_id.encode()) if seal is not None else told).decode(),
        "expires": int(answer.expires * 1000),
        "made": int(kept.made_at * 1000),
        "vector": list(vector),
    }


def _about(row: Mapping[str, Any], seal: Seal | None) -> dict[str, Any] | None:
    """None where no key here opens it."""
    told = b64decode(row["about"])
    if seal is not None:
        opened = seal.open(told, row["id"].encode())
        if opened is None:
            return None
        told = opened[0]
    try:
        about: dict[str, Any] = json.loads(told)
    except ValueError:  # it was sealed, and there is no key any more
        return None
    return about


def _answer(row: Mapping[str, Any], seal: Seal | None) -> KeptAnswer | None:
    """None where no key here opens it, or another version has written it."""
    about = _about(row, seal)
    if about is None:
        return None
    try:
        kept = decoded(b64decode(row["answer"]), seal, row["id"].encode(), _MOST_UNPACKED)
    except Unreadable:
        return None
    sources = tuple(Source(*source) for source in about["sources"])
    return KeptAnswer(
        row["key"],
        about["question"],
        row["partition"],
        row["audience"],
        sources,
        row["expires"] / 1000,
        replace(kept, origin=_origin(about)),
    )


def _origin(about: Mapping[str, Any]) -> Origin:
    model, tenant, user, collections, documents = about["origin"]
    return Origin(model, tenant, user, frozenset(collections), frozenset(documents))
