"""Vector stores: files handed in over HTTP, indexed in the background, searched under their owner's rights.

All of them share one Milvus collection, each as a part of it. What a caller with a user makes is that user's own; what
a caller without one makes is the whole tenant's. Indexing goes on where a restart broke it off.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gateway.alone import alone
from gateway.errors import BadRequest, NotFound, StageFailed, TooLarge
from gateway.records.files import Attributes, Batch, FileRecords, Owner, StoredFile, StoreFile, VectorStore, new_id
from gateway.values import Caller
from retrieval.filters import BadFilter, attribute_tokens
from retrieval.loading import Document, Unreadable, load
from retrieval.passages import Passage, RetrievalUnavailable
from retrieval.questions import SearchSettings

if TYPE_CHECKING:
    from gateway.knowledge_service import KnowledgeService

log = logging.getLogger(__name__)

COLLECTION = "rag_gateway_vector_stores"
LARGEST_FILE = 100_000_000
_LONGEST_NAME = 255
_LOOK = 0.5  # seconds from one look for files that another process has taken in to the next
_RETRY = 5.0  # seconds until a file is tried again that Milvus or the embedder was away for
_SEARCH = SearchSettings(mode="hybrid")


class VectorStores:
    """Use `run` as a task of the server; everything else may be called before it has begun."""

    def __init__(self, folder: Path, knowledge: KnowledgeService) -> None:
        self._folder = folder
        self._knowledge = knowledge
        self._wake = asyncio.Event()

    @cached_property
    def records(self) -> FileRecords:
        """Opened when it is first needed: a configuration that is only checked leaves no file behind."""
        return FileRecords(self._folder)

    async def run(self) -> None:
        """Index what waits, one file after another, until cancelled. Of several processes one does so for all."""
        try:
            async with alone(self._folder / "indexing.lock"):
                await self._index_what_waits()
        finally:
            self.records.close()

    async def _index_what_waits(self) -> None:
        while True:
            waiting = await asyncio.to_thread(self.records.waiting)
            for entry in waiting:
                try:
                    await self._index(entry)
                except RetrievalUnavailable as failure:
                    log.warning("file %s waits for the knowledge store: %s", entry.file_id, failure)
                    await asyncio.sleep(_RETRY)
            if not waiting:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), _LOOK)
                self._wake.clear()

    # --- files ------------------------------------------------------------------------------------------
    async def upload(self, who: Caller, filename: str, purpose: str, parts: AsyncIterator[bytes]) -> StoredFile:
        """Keep a file. Raises BadRequest, TooLarge; then nothing is kept."""
        name = os.path.basename(filename.replace("\\", "/")).strip()
        if not name or name in (".", "..") or not name.isprintable() or len(name) > _LONGEST_NAME:
            raise BadRequest(f"The file needs a name of 1 to {_LONGEST_NAME} printable characters.", param="file")
        file_id = new_id("file-")
        path = self.records.content(file_id)
        size = 0
        try:
            with await asyncio.to_thread(path.open, "xb") as opened:
                async for part in parts:
                    size += len(part)
                    if size > LARGEST_FILE:
                        raise TooLarge(f"A file has at most {LARGEST_FILE} bytes.", param="file")
                    await asyncio.to_thread(opened.write, part)
            return await asyncio.to_thread(self.records.add_file, owner(who), file_id, name, size, purpose)
        except BaseException:
            path.unlink(missing_ok=True)
            raise

    async def file(self, who: Caller, file_id: str) -> StoredFile:
        found = await asyncio.to_thread(self.records.file, owner(who), file_id)
        if found is None:
            raise NotFound(f"No such File object: {file_id}", param="id")
        return found

    async def drop_file(self, who: Caller, file_id: str) -> None:
        """From everywhere: the file, and what was indexed of it in any vector store."""
        found = await self.file(who, file_id)
        for store_id in await asyncio.to_thread(self.records.stores_of, file_id):
            await self._forget(found.tenant, store_id, file_id)
        for store_id in await asyncio.to_thread(self.records.drop_file, file_id):
            await self._forget_again(found.tenant, store_id, file_id)

    # --- vector stores ----------------------------------------------------------------------------------
    async def store(self, who: Caller, store_id: str) -> VectorStore:
        found = await asyncio.to_thread(self.records.store, owner(who), store_id)
        if found is None:
            raise NotFound(f"Vector store with id '{store_id}' not found.", param="vector_store_id")
        return found

    async def drop_store(self, who: Caller, store_id: str) -> None:
        store = await self.store(who, store_id)
        files = await asyncio.to_thread(self.records.store_files, store_id)
        for entry in files:
            await self._forget(store.tenant, store_id, entry.file_id)
        await asyncio.to_thread(self.records.drop_store, store_id)
        for entry in files:
            await self._forget_again(store.tenant, store_id, entry.file_id)

    async def attach(self, who: Caller, store_id: str, file_id: str, attributes: Attributes) -> StoreFile:
        """Begin to index a file; its status tells how that goes."""
        await self.store(who, store_id)
        await self.file(who, file_id)
        _check(attributes)
        await asyncio.to_thread(self.records.attach, store_id, [(file_id, attributes)])
        self._wake.set()
        return await self.attached(who, store_id, file_id)

    async def attach_all(self, who: Caller, store_id: str, files: Sequence[tuple[str, Attributes]]) -> Batch:
        await self.store(who, store_id)
        for file_id, attributes in files:
            await self.file(who, file_id)
            _check(attributes)
        batch = await asyncio.to_thread(self.records.add_batch, store_id, files)
        self._wake.set()
        return batch

    async def attached(self, who: Caller, store_id: str, file_id: str) -> StoreFile:
        await self.store(who, store_id)
        entry = await asyncio.to_thread(self.records.store_file, store_id, file_id)
        if entry is None:
            raise NotFound(f"No file with id '{file_id}' found in vector store '{store_id}'.", param="file_id")
        return entry

    async def change(self, who: Caller, store_id: str, file_id: str, attributes: Attributes) -> StoreFile:
        await self.attached(who, store_id, file_id)
        _check(attributes)
        await asyncio.to_thread(self.records.change_attributes, store_id, file_id, attributes)
        self._wake.set()
        return await self.attached(who, store_id, file_id)

    async def detach(self, who: Caller, store_id: str, file_id: str) -> None:
        entry = await self.attached(who, store_id, file_id)
        store = await self.store(who, store_id)
        await self._forget(store.tenant, entry.store_id, file_id)
        await asyncio.to_thread(self.records.detach, store_id, file_id)
        await self._forget_again(store.tenant, store_id, file_id)

    async def batch(self, who: Caller, store_id: str, batch_id: str) -> Batch:
        await self.store(who, store_id)
        found = await asyncio.to_thread(self.records.batch, store_id, batch_id)
        if found is None:
            raise NotFound(f"No batch with id '{batch_id}' found in vector store '{store_id}'.", param="batch_id")
        return found

    # --- searching --------------------------------------------------------------------------------------
    async def search(
        self,
        who: Caller,
        store_id: str,
        queries: Sequence[str],
        *,
        top_k: int,
        filters: Mapping[str, Any] | None = None,
        min_score: float | None = None,
        settings: SearchSettings = _SEARCH,
    ) -> list[Passage]:
        """The best passages of one vector store; a passage's `document_id` is STORE/FILE. Raises GatewayError."""
        store = await self.store(who, store_id)
        if store.expired:
            raise BadRequest(f"Vector store '{store_id}' has expired.", param="vector_store_id")
        try:
            found = await self._knowledge.find(
                queries[0],
                collection=COLLECTION,
                tenant=who.tenant,
                user=who.user,
                groups=who.groups,
                top_k=top_k,
                min_score=min_score,
                filters=filters,
                settings=settings if self._knowledge.keywords else replace(settings, mode="dense"),
                also=queries[1:],
                within=store_id,
            )
        except BadFilter as fault:
            param = f"filters.{fault.where}" if fault.where else "filters"
            raise BadRequest(f"Invalid value for '{param}': {fault}.", param=param) from None
        except RetrievalUnavailable as failure:
            raise _away(failure) from None
        await asyncio.to_thread(self.records.used, store_id)
        return found

    async def text(self, who: Caller, store_id: str, file_id: str) -> str:
        """What was read of a file: the text that is indexed."""
        await self.attached(who, store_id, file_id)
        try:
            return (await self._document(await self.file(who, file_id), store_id, None, {})).text or ""
        except Unreadable as fault:
            raise BadRequest(f"The file {file_id} {fault}.", param="file_id") from None
        except RetrievalUnavailable as failure:
            raise _away(failure) from None

    # --- the background ---------------------------------------------------------------------------------
    async def _index(self, entry: StoreFile) -> None:
        records = self.records
        indexed = await asyncio.to_thread(records.indexed_file, entry.store_id, entry.file_id)
        if indexed is None:
            await asyncio.to_thread(records.detach, entry.store_id, entry.file_id)
            return
        found, store_owner = indexed
        try:
            document = await self._document(found, entry.store_id, store_owner, entry.attributes)
            await self._knowledge.opened.put(document, collection=COLLECTION, tenant=found.tenant)
        except Unreadable as fault:
            error = ("invalid_file", f"The file {fault}.")
            await asyncio.to_thread(records.settle, entry.store_id, entry.file_id, "failed", 0, error)
            return
        usage = len((document.text or "").encode("utf-8", "replace"))
        if not await asyncio.to_thread(records.settle, entry.store_id, entry.file_id, "completed", usage):
            await self._forget_again(found.tenant, entry.store_id, entry.file_id)

    async def _document(
        self, file: StoredFile, store_id: str, store_owner: str | None, attributes: Attributes
    ) -> Document:
        """The file's document, parsed where it has to be: its owner's, or its store's owner's, or the tenant's."""
        reader = store_owner or file.owner
        knowledge = self._knowledge.opened
        path = self.records.content(file.id)
        try:
            named = await asyncio.to_thread(_named, path, file.filename)
        except OSError:
            raise Unreadable("is not there") from None
        try:
            raw = await asyncio.to_thread(load, named, file.filename)
            text, title = raw.text, raw.title
            if text is None:
                parsed = await knowledge.parser.parse(named)
                text, title = parsed.text, parsed.title or Path(file.filename).stem
        finally:
            await asyncio.to_thread(named.unlink, missing_ok=True)
        return Document(
            f"{store_id}/{file.id}",
            title,
            text,
            hashlib.sha256((text + title).encode("utf-8", "replace")).hexdigest()[:16],
            raw.markdown,
            url=file.filename,
            source=file.id,
            readers=(f"user:{reader}",) if reader else ("public",),
            attributes=attributes,
            within=store_id,
        )

    async def _forget(self, tenant: str, store_id: str, file_id: str) -> None:
        try:
            await self._knowledge.opened.remove(f"{store_id}/{file_id}", collection=COLLECTION, tenant=tenant)
        except RetrievalUnavailable as failure:
            raise _away(failure) from None

    async def _forget_again(self, tenant: str, store_id: str, file_id: str) -> None:
        """What was indexed while it was being forgotten. A search no longer shows it, whether this succeeds or not."""
        with contextlib.suppress(StageFailed):
            await self._forget(tenant, store_id, file_id)


def owner(who: Caller) -> Owner:
    return Owner(who.tenant, who.user)


def _check(attributes: Attributes) -> None:
    try:
        attribute_tokens(attributes)
    except BadFilter as fault:
        param = f"attributes.{fault.where}" if fault.where else "attributes"
        raise BadRequest(f"Invalid value for '{param}': {fault}.", param=param) from None


def _away(failure: RetrievalUnavailable) -> StageFailed:
    return StageFailed(f"The retrieval stage is unavailable: {failure}. Try again shortly.", retry_after="2")


def _named(content: Path, filename: str) -> Path:
    """The bytes under a name with the file's suffix, which says how they are read."""
    named = content.with_name(f"{content.name}.{secrets.token_hex(4)}{Path(filename).suffix.lower()}")
    named.hardlink_to(content)
    return named
