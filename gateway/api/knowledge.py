"""`/v1/files` and `/v1/vector_stores` in OpenAI's shapes, so that the official SDKs work unchanged.

https://platform.openai.com/docs/api-reference/files and https://platform.openai.com/docs/api-reference/vector-stores
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import FileResponse
from pydantic import BaseModel, ConfigDict, Field
from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

from gateway.api.identity import speaker
from gateway.errors import BadRequest
from gateway.records.files import Attributes, Batch, StoredFile, StoreFile, VectorStore
from gateway.runtime import Gateway
from gateway.values import Caller
from gateway.vector_stores import VectorStores, owner
from retrieval.passages import Passage
from retrieval.questions import SearchSettings

Order = Literal["asc", "desc"]
Limit = Annotated[int, Query(ge=1, le=10_000)]
_Metadata = dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]]
_MOST_FILES = 2_000  # of one batch
_PURPOSES = frozenset({"assistants", "batch", "fine-tune", "vision", "user_data", "evals"})


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ExpiresAfter(_Body):
    anchor: Literal["last_active_at"]
    days: Annotated[int, Field(ge=1, le=365)]


class Chunking(BaseModel):
    """Accepted as OpenAI's; how documents are cut is the gateway's own, see docs/documents.md."""

    model_config = ConfigDict(extra="allow")

    type: Literal["auto", "static"]


class NewStore(_Body):
    name: Annotated[str, Field(max_length=256)] | None = None
    description: str | None = None
    file_ids: Annotated[list[str], Field(max_length=_MOST_FILES)] = []
    metadata: Annotated[_Metadata, Field(max_length=16)] | None = None
    expires_after: ExpiresAfter | None = None
    chunking_strategy: Chunking | None = None


class StoreChange(_Body):
    name: Annotated[str, Field(max_length=256)] | None = None
    metadata: Annotated[_Metadata, Field(max_length=16)] | None = None
    expires_after: ExpiresAfter | None = None


class NewStoreFile(_Body):
    file_id: str
    attributes: dict[str, str | bool | float] | None = None
    chunking_strategy: Chunking | None = None


class AttributesChange(_Body):
    attributes: dict[str, str | bool | float] | None


class NewBatch(_Body):
    file_ids: Annotated[list[str], Field(max_length=_MOST_FILES)] | None = None
    files: Annotated[list[NewStoreFile], Field(max_length=_MOST_FILES)] | None = None
    attributes: dict[str, str | bool | float] | None = None
    chunking_strategy: Chunking | None = None


class HybridWeights(_Body):
    embedding_weight: Annotated[float, Field(ge=0)] = 1.0
    text_weight: Annotated[float, Field(ge=0)] = 1.0


class RankingOptions(_Body):
    ranker: str | None = None
    score_threshold: Annotated[float, Field(ge=-1, le=1)] | None = None
    hybrid_search: HybridWeights | None = None


class Search(_Body):
    query: Annotated[str, Field(min_length=1)] | Annotated[list[str], Field(min_length=1, max_length=8)]
    filters: dict[str, Any] | None = None
    max_num_results: Annotated[int, Field(ge=1, le=50)] = 10
    ranking_options: RankingOptions | None = None
    rewrite_query: bool = False


def router(gateway: Gateway, knowledge: VectorStores) -> APIRouter:
    """Every route asks for its caller's own: what another tenant or user has is not there for this one."""
    routes = APIRouter(prefix="/v1", tags=["files and vector stores"])
    who_calls = Depends(speaker(gateway))
    records = knowledge.records

    # --- files ------------------------------------------------------------------------------------------
    @routes.post("/files")
    async def upload(request: Request, who: Caller = who_calls) -> dict[str, Any]:
        """Keep a file: multipart with `file` and `purpose`."""
        upload = _Upload(request)
        stored = await upload.store(knowledge, who)
        return _file(stored)

    @routes.get("/files")
    async def list_files(
        purpose: str | None = None,
        limit: Limit = 10_000,
        order: Order = "desc",
        after: str | None = None,
        who: Caller = who_calls,
    ) -> dict[str, Any]:
        found = await asyncio.to_thread(records.files, owner(who), purpose)
        return _page([_file(each) for each in found], limit, order, after)

    @routes.get("/files/{file_id}")
    async def get_file(file_id: str, who: Caller = who_calls) -> dict[str, Any]:
        return _file(await knowledge.file(who, file_id))

    @routes.get("/files/{file_id}/content")
    async def get_content(file_id: str, who: Caller = who_calls) -> FileResponse:
        """The file's bytes, always as a download: a browser must not run what somebody handed in."""
        found = await knowledge.file(who, file_id)
        headers = {"x-content-type-options": "nosniff"}
        return FileResponse(
            records.content(found.id), media_type="application/octet-stream", filename=found.filename, headers=headers
        )

    @routes.delete("/files/{file_id}")
    async def delete_file(file_id: str, who: Caller = who_calls) -> dict[str, Any]:
        await knowledge.drop_file(who, file_id)
        return {"id": file_id, "object": "file", "deleted": True}

    # --- vector stores ----------------------------------------------------------------------------------
    @routes.post("/vector_stores")
    async def create_store(new: NewStore, who: Caller = who_calls) -> dict[str, Any]:
        for file_id in new.file_ids:
            await knowledge.file(who, file_id)
        days = new.expires_after.days if new.expires_after else None
        store = await asyncio.to_thread(records.add_store, owner(who), new.name, new.metadata or {}, days)
        if new.file_ids:
            await knowledge.attach_all(who, store.id, [(file_id, {}) for file_id in dict.fromkeys(new.file_ids)])
        return await shown(store)

    @routes.get("/vector_stores")
    async def list_stores(
        limit: Annotated[int, Query(ge=1, le=100)] = 20,
        order: Order = "desc",
        after: str | None = None,
        before: str | None = None,
        who: Caller = who_calls,
    ) -> dict[str, Any]:
        found = await asyncio.to_thread(records.stores, owner(who))
        page = _page([{"id": each.id, "store": each} for each in found], limit, order, after, before)
        page["data"] = [await shown(entry["store"]) for entry in page["data"]]
        return page

    @routes.get("/vector_stores/{store_id}")
    async def get_store(store_id: str, who: Caller = who_calls) -> dict[str, Any]:
        return await shown(await knowledge.store(who, store_id))

    @routes.post("/vector_stores/{store_id}")
    async def change_store(store_id: str, change: StoreChange, who: Caller = who_calls) -> dict[str, Any]:
        store = await knowledge.store(who, store_id)
        given = change.model_fields_set
        changed = replace(
            store,
            name=change.name if "name" in given else store.name,
            metadata=(change.metadata or {}) if "metadata" in given else store.metadata,
            expires_days=(change.expires_after.days if change.expires_after else None)
            if "expires_after" in given
            else store.expires_days,
        )
        await asyncio.to_thread(records.change_store, changed)
        return await shown(changed)

    @routes.delete("/vector_stores/{store_id}")
    async def delete_store(store_id: str, who: Caller = who_calls) -> dict[str, Any]:
        """The store and what was indexed for it; the files stay."""
        await knowledge.drop_store(who, store_id)
        return {"id": store_id, "object": "vector_store.deleted", "deleted": True}

    @routes.post("/vector_stores/{store_id}/search")
    async def search(store_id: str, asked: Search, who: Caller = who_calls) -> dict[str, Any]:
        queries = [asked.query] if isinstance(asked.query, str) else asked.query
        options = asked.ranking_options or RankingOptions()
        passages = await knowledge.search(
            who,
            store_id,
            queries,
            top_k=asked.max_num_results,
            filters=asked.filters,
            min_score=options.score_threshold,
            settings=_settings(options),
        )
        files = {each.file_id: each for each in await asyncio.to_thread(records.store_files, store_id)}
        found = [
            _found(passage, files[file_id])
            for passage in passages
            if (file_id := passage.document_id.partition("/")[2]) in files
        ]
        return {
            "object": "vector_store.search_results.page",
            "search_query": queries,
            "data": found,
            "has_more": False,
            "next_page": None,
        }

    # --- files in vector stores -------------------------------------------------------------------------
    @routes.post("/vector_stores/{store_id}/files")
    async def attach(store_id: str, new: NewStoreFile, who: Caller = who_calls) -> dict[str, Any]:
        return _store_file(await knowledge.attach(who, store_id, new.file_id, new.attributes or {}))

    @routes.get("/vector_stores/{store_id}/files")
    async def list_attached(
        store_id: str,
        limit: Annotated[int, Query(ge=1, le=100)] = 20,
        order: Order = "desc",
        after: str | None = None,
        before: str | None = None,
        status: Annotated[str | None, Query(alias="filter")] = None,
        who: Caller = who_calls,
    ) -> dict[str, Any]:
        await knowledge.store(who, store_id)
        found = await asyncio.to_thread(records.store_files, store_id)
        return _attached(found, status, limit, order, after, before)

    @routes.get("/vector_stores/{store_id}/files/{file_id}")
    async def get_attached(store_id: str, file_id: str, who: Caller = who_calls) -> dict[str, Any]:
        return _store_file(await knowledge.attached(who, store_id, file_id))

    @routes.post("/vector_stores/{store_id}/files/{file_id}")
    async def change_attached(
        store_id: str, file_id: str, change: AttributesChange, who: Caller = who_calls
    ) -> dict[str, Any]:
        return _store_file(await knowledge.change(who, store_id, file_id, change.attributes or {}))

    @routes.delete("/vector_stores/{store_id}/files/{file_id}")
    async def detach(store_id: str, file_id: str, who: Caller = who_calls) -> dict[str, Any]:
        """Out of the store; the file itself stays."""
        await knowledge.detach(who, store_id, file_id)
        return {"id": file_id, "object": "vector_store.file.deleted", "deleted": True}

    @routes.get("/vector_stores/{store_id}/files/{file_id}/content")
    async def get_text(store_id: str, file_id: str, who: Caller = who_calls) -> dict[str, Any]:
        text = await knowledge.text(who, store_id, file_id)
        return {
            "object": "vector_store.file_content.page",
            "data": [{"type": "text", "text": text}],
            "has_more": False,
            "next_page": None,
        }

    # --- batches ----------------------------------------------------------------------------------------
    @routes.post("/vector_stores/{store_id}/file_batches")
    async def create_batch(store_id: str, new: NewBatch, who: Caller = who_calls) -> dict[str, Any]:
        if (new.file_ids is None) == (new.files is None):
            raise BadRequest("Give either file_ids or files.", param="file_ids")
        listed: dict[str, Attributes] = {file_id: new.attributes or {} for file_id in new.file_ids or ()}
        listed |= {each.file_id: each.attributes or {} for each in new.files or ()}
        return await batch_shown(await knowledge.attach_all(who, store_id, list(listed.items())))

    @routes.get("/vector_stores/{store_id}/file_batches/{batch_id}")
    async def get_batch(store_id: str, batch_id: str, who: Caller = who_calls) -> dict[str, Any]:
        return await batch_shown(await knowledge.batch(who, store_id, batch_id))

    @routes.post("/vector_stores/{store_id}/file_batches/{batch_id}/cancel")
    async def cancel_batch(store_id: str, batch_id: str, who: Caller = who_calls) -> dict[str, Any]:
        await knowledge.batch(who, store_id, batch_id)
        await asyncio.to_thread(records.cancel_batch, batch_id)
        return await batch_shown(await knowledge.batch(who, store_id, batch_id))

    @routes.get("/vector_stores/{store_id}/file_batches/{batch_id}/files")
    async def list_batch(
        store_id: str,
        batch_id: str,
        limit: Annotated[int, Query(ge=1, le=100)] = 20,
        order: Order = "desc",
        after: str | None = None,
        before: str | None = None,
        status: Annotated[str | None, Query(alias="filter")] = None,
        who: Caller = who_calls,
    ) -> dict[str, Any]:
        await knowledge.batch(who, store_id, batch_id)
        found = await asyncio.to_thread(records.store_files, store_id, batch_id)
        return _attached(found, status, limit, order, after, before)

    async def shown(store: VectorStore) -> dict[str, Any]:
        files = await asyncio.to_thread(records.store_files, store.id)
        counts = _counts(files)
        status = "expired" if store.expired else "in_progress" if counts["in_progress"] else "completed"
        expires = {"anchor": "last_active_at", "days": store.expires_days} if store.expires_days else None
        return {
            "id": store.id,
            "object": "vector_store",
            "created_at": store.created_at,
            "name": store.name or "",  # OpenAI's type has no null here
            "usage_bytes": sum(each.usage_bytes for each in files),
            "file_counts": counts,
            "status": status,
            "expires_after": expires,
            "expires_at": store.expires_at,
            "last_active_at": store.last_active_at,
            "metadata": store.metadata,
        }

    async def batch_shown(batch: Batch) -> dict[str, Any]:
        counts = _counts(await asyncio.to_thread(records.store_files, batch.store_id, batch.id))
        status = "cancelled" if batch.cancelled else "in_progress" if counts["in_progress"] else "completed"
        return {
            "id": batch.id,
            "object": "vector_store.files_batch",
            "created_at": batch.created_at,
            "vector_store_id": batch.store_id,
            "status": status,
            "file_counts": counts,
        }

    return routes


class _Upload:
    """A multipart body, handed on while it comes: nothing of a large file is kept in memory."""

    def __init__(self, request: Request) -> None:
        kind, options = parse_options_header(request.headers.get("content-type"))
        boundary = options.get(b"boundary")
        if kind != b"multipart/form-data" or not boundary:
            raise BadRequest("Send the file as multipart/form-data, with the fields file and purpose.", param="file")
        self._request = request
        self._fields: dict[str, bytearray] = {}
        self._filename: str | None = None
        self._name = ""
        self._is_file = False
        self._seen_file = False
        self._header = (bytearray(), bytearray())
        self._headers: dict[bytes, bytes] = {}
        self._parts: list[bytes] = []
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": lambda data, start, end: self._header[0].extend(data[start:end]),
                "on_header_value": lambda data, start, end: self._header[1].extend(data[start:end]),
                "on_header_end": self._header_ends,
                "on_headers_finished": self._headers_end,
                "on_part_data": self._data,
                "on_end": lambda: None,
            },
        )

    async def store(self, knowledge: VectorStores, who: Caller) -> StoredFile:
        """Raises BadRequest, TooLarge."""
        stream = aiter(self._request.stream())
        try:
            while self._filename is None:  # fields before the file
                part = await anext(stream, b"")
                if not part:
                    raise BadRequest("Missing required parameter: 'file'.", param="file")
                self._parser.write(part)
            stored = await knowledge.upload(who, self._filename, "", self._rest(stream))
        except FormParserError:
            raise BadRequest("The multipart body can't be read.", param="file") from None
        purpose = self._fields.get("purpose", bytearray()).decode("utf-8", "replace")
        if purpose not in _PURPOSES:
            await knowledge.drop_file(who, stored.id)
            raise BadRequest(f"purpose is one of {', '.join(sorted(_PURPOSES))}.", param="purpose")
        await asyncio.to_thread(knowledge.records.set_purpose, stored.id, purpose)
        return replace(stored, purpose=purpose)

    async def _rest(self, stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        while True:
            parts, self._parts = self._parts, []
            for part in parts:
                yield part
            chunk = await anext(stream, b"")
            if not chunk:
                break
            self._parser.write(chunk)
        self._parser.finalize()

    def _begin(self) -> None:
        self._headers = {}

    def _header_ends(self) -> None:
        self._headers[bytes(self._header[0]).lower()] = bytes(self._header[1])
        self._header = (bytearray(), bytearray())

    def _headers_end(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition"))
        self._name = options.get(b"name", b"").decode("utf-8", "replace")
        self._is_file = self._name == "file" and b"filename" in options
        if self._is_file:
            if self._seen_file:
                raise BadRequest("Send one file at a time.", param="file")
            self._seen_file = True
            self._filename = options[b"filename"].decode("utf-8", "replace")

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._is_file:
            self._parts.append(data[start:end])
            return
        field = self._fields.setdefault(self._name, bytearray())
        field.extend(data[start:end])
        if len(field) > 10_000 or len(self._fields) > 20:
            raise BadRequest("The multipart body holds more than a file and its purpose.", param="file")


def _settings(options: RankingOptions) -> SearchSettings:
    weights = options.hybrid_search
    if weights is None or not weights.embedding_weight + weights.text_weight:
        return SearchSettings(mode="hybrid")
    share = weights.embedding_weight / (weights.embedding_weight + weights.text_weight)
    return SearchSettings(mode="hybrid", fusion="weighted", dense_weight=share)


def _file(file: StoredFile) -> dict[str, Any]:
    return {
        "id": file.id,
        "object": "file",
        "bytes": file.bytes,
        "created_at": file.created_at,
        "filename": file.filename,
        "purpose": file.purpose,
        "status": "processed",
        "expires_at": None,
        "status_details": None,
    }


def _store_file(entry: StoreFile) -> dict[str, Any]:
    error = {"code": entry.error_code, "message": entry.error} if entry.error_code else None
    return {
        "id": entry.file_id,
        "object": "vector_store.file",
        "created_at": entry.created_at,
        "vector_store_id": entry.store_id,
        "status": entry.status,
        "last_error": error,
        "usage_bytes": entry.usage_bytes,
        "attributes": entry.attributes,
        "chunking_strategy": {"type": "other"},
    }


def _found(passage: Passage, entry: StoreFile) -> dict[str, Any]:
    return {
        "file_id": entry.file_id,
        "filename": passage.url,
        "score": max(0.0, min(1.0, passage.score)),
        "attributes": entry.attributes,
        "content": [{"type": "text", "text": passage.text}],
    }


def _counts(files: Iterable[StoreFile]) -> dict[str, int]:
    counted = Counter(each.status for each in files)
    known = {name: counted[name] for name in ("in_progress", "completed", "failed", "cancelled")}
    return {**known, "total": counted.total()}


def _attached(
    files: Sequence[StoreFile], status: str | None, limit: int, order: Order, after: str | None, before: str | None
) -> dict[str, Any]:
    # What a page ended with may have another status by now: it is a neighbour all the same.
    return _page(
        [_store_file(each) for each in files],
        limit,
        order,
        after,
        before,
        lambda file: status in (None, file["status"]),
    )


def _page(
    items: Sequence[dict[str, Any]],
    limit: int,
    order: Order,
    after: str | None,
    before: str | None = None,
    wanted: Callable[[dict[str, Any]], bool] = lambda item: True,
) -> dict[str, Any]:
    """`items` are oldest first; `after` and `before` are ids of the page's neighbours, wanted or not."""
    listed = list(items) if order == "asc" else list(reversed(items))
    places = {item["id"]: place for place, item in enumerate(listed)}
    for name, given in (("after", after), ("before", before)):
        if given is not None and given not in places:
            raise BadRequest(f"There is no object with id '{given}' to go on from.", param=name)
    begin = places[after] + 1 if after is not None else 0
    end = places[before] if before is not None else len(listed)
    page = [item for item in listed[begin:end] if wanted(item)]
    shown = page[:limit] if before is None or after is not None else page[-limit:]
    return {
        "object": "list",
        "data": shown,
        "first_id": shown[0]["id"] if shown else None,
        "last_id": shown[-1]["id"] if shown else None,
        "has_more": len(page) > len(shown),
    }
