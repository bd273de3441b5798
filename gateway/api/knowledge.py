"""`/v1/files` and `/v1/vector_stores` in OpenAI's shapes, so that the official SDKs work unchanged.

https://platform.openai.com/docs/api-reference/files and https://platform.openai.com/docs/api-reference/vector-stores
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import FileResponse

from gateway.api.identity import speaker
from gateway.api.knowledge_objects import (
    Order,
    attached_page,
    file_counts,
    file_object,
    found_object,
    page,
    store_file_object,
)
from gateway.api.knowledge_requests import (
    AttributesChange,
    NewBatch,
    NewStore,
    NewStoreFile,
    RankingOptions,
    Search,
    StoreChange,
)
from gateway.api.uploads import Upload
from gateway.errors import BadRequest
from gateway.records.files import Attributes, Batch, VectorStore
from gateway.runtime import Gateway
from gateway.values import Caller
from gateway.vector_stores import VectorStores, owner

Limit = Annotated[int, Query(ge=1, le=10_000)]


def router(gateway: Gateway, knowledge: VectorStores) -> APIRouter:
    """Every route asks for its caller's own: what another tenant or user has is not there for this one."""
    routes = APIRouter(prefix="/v1", tags=["files and vector stores"])
    who_calls = Depends(speaker(gateway))
    records = knowledge.records

    # --- files ------------------------------------------------------------------------------------------
    @routes.post("/files")
    async def upload(request: Request, who: Caller = who_calls) -> dict[str, Any]:
        """Keep a file: multipart with `file` and `purpose`."""
        upload = Upload(request)
        stored = await upload.store(knowledge, who)
        return file_object(stored)

    @routes.get("/files")
    async def list_files(
        purpose: str | None = None,
        limit: Limit = 10_000,
        order: Order = "desc",
        after: str | None = None,
        who: Caller = who_calls,
    ) -> dict[str, Any]:
        found = await asyncio.to_thread(records.files, owner(who), purpose)
        return page([file_object(each) for each in found], limit, order, after)

    @routes.get("/files/{file_id}")
    async def get_file(file_id: str, who: Caller = who_calls) -> dict[str, Any]:
        return file_object(await knowledge.file(who, file_id))

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
        listed = page([{"id": each.id, "store": each} for each in found], limit, order, after, before)
        listed["data"] = [await shown(entry["store"]) for entry in listed["data"]]
        return listed

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
            settings=options.settings(),
        )
        files = {each.file_id: each for each in await asyncio.to_thread(records.store_files, store_id)}
        found = [
            found_object(passage, files[file_id])
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
        return store_file_object(await knowledge.attach(who, store_id, new.file_id, new.attributes or {}))

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
        return attached_page(found, status, limit, order, after, before)

    @routes.get("/vector_stores/{store_id}/files/{file_id}")
    async def get_attached(store_id: str, file_id: str, who: Caller = who_calls) -> dict[str, Any]:
        return store_file_object(await knowledge.attached(who, store_id, file_id))

    @routes.post("/vector_stores/{store_id}/files/{file_id}")
    async def change_attached(
        store_id: str, file_id: str, change: AttributesChange, who: Caller = who_calls
    ) -> dict[str, Any]:
        return store_file_object(await knowledge.change(who, store_id, file_id, change.attributes or {}))

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
        return attached_page(found, status, limit, order, after, before)

    async def shown(store: VectorStore) -> dict[str, Any]:
        files = await asyncio.to_thread(records.store_files, store.id)
        counts = file_counts(files)
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
        counts = file_counts(await asyncio.to_thread(records.store_files, batch.store_id, batch.id))
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
