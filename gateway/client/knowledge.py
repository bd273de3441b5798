"""Files and folders into vector stores, until they can be found: over the gateway's `/v1/files` and `/v1/vector_stores`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import openai

from gateway.client.loading import (
    IN_FOLDERS,
    Attributes,
    Loaded,
    Loading,
    Paths,
    Progress,
    by_path,
    intervals,
    local_files,
    one_files_own,
    standing,
    too_late,
)

if TYPE_CHECKING:
    from openai.types.vector_stores import VectorStoreFile


class Knowledge:
    """Loads files for one client."""

    def __init__(self, client: openai.OpenAI) -> None:
        self._files = client.files
        self._stores = client.vector_stores

    def upload(
        self,
        paths: Paths,
        *,
        store: str | None = None,
        store_id: str | None = None,
        include: Sequence[str] = IN_FOLDERS,
        attributes: Attributes | None = None,
        on_progress: Callable[[Progress], None] | None = None,
        within: float = 600,
    ) -> Loaded:
        """Load a file, a folder with all below it, or several, and wait until each is indexed or has failed.

        Into the vector store with this name, made where there is none yet, or with this id. A folder is searched for
        documents (`include`: patterns of names); hidden files and links are left out. `attributes` are for filters,
        beside `path` and `sha256`, by which a file that is there already is not loaded again, and one that has changed
        is replaced when its new form can be found. `within` is how many seconds the indexing may take.

        A file that the gateway can't take is among the result's `failed`, and the others go on. Raises
        FileNotFoundError, ValueError where there is nothing to load, TimeoutError, openai.APIError.
        """
        files = local_files(paths, include, attributes or {})
        loading = Loading(files, on_progress)
        store_id = store_id or self._store(store)
        known = by_path(self._stores.files.list(store_id, limit=100))
        waiting: dict[str, str] = {}
        for local in files:
            before = known.get(local.path)
            if before is not None and (there := standing(local, before)) is not None:
                loading.note(local.path, there, before.id)
                if there == "indexing":
                    waiting[before.id] = local.path
                continue
            loading.note(local.path, "uploading")
            try:
                file = self._files.create(file=local.file, purpose="assistants")
                self._stores.files.create(store_id, file_id=file.id, attributes=local.attributes)
            except openai.APIStatusError as error:
                if not one_files_own(error):
                    raise
                loading.note(local.path, "failed", error=error.message)
                continue
            waiting[file.id] = local.path
            loading.note(local.path, "indexing", file.id)
        self._wait(store_id, waiting, known, loading, within)
        return loading.result(store_id)

    def _store(self, name: str | None) -> str:
        if name is None:
            raise ValueError("say which vector store: store=NAME or store_id=ID")
        for each in self._stores.list(limit=100):
            if each.name == name:
                return each.id
        return self._stores.create(name=name).id

    def _wait(
        self,
        store_id: str,
        waiting: dict[str, str],
        known: dict[str, VectorStoreFile],
        loading: Loading,
        within: float,
    ) -> None:
        end = time.monotonic() + within
        left = list(waiting.values())
        for file_id, path in waiting.items():  # in the order in which the gateway takes them
            for pause in intervals():
                entry = self._entry(store_id, file_id)
                if entry is None or entry.status != "in_progress":
                    break
                if time.monotonic() > end:
                    raise too_late(left, within)
                time.sleep(pause)
            left.remove(path)
            before = known.get(path)
            if loading.ended(path, file_id, entry, before) and before is not None:
                with suppress(openai.NotFoundError):
                    self._files.delete(before.id)

    def _entry(self, store_id: str, file_id: str) -> VectorStoreFile | None:
        try:
            return self._stores.files.retrieve(file_id, vector_store_id=store_id)
        except openai.NotFoundError:
            return None


class AsyncKnowledge:
    """As Knowledge, to be awaited."""

    def __init__(self, client: openai.AsyncOpenAI) -> None:
        self._files = client.files
        self._stores = client.vector_stores

    async def upload(
        self,
        paths: Paths,
        *,
        store: str | None = None,
        store_id: str | None = None,
        include: Sequence[str] = IN_FOLDERS,
        attributes: Attributes | None = None,
        on_progress: Callable[[Progress], None] | None = None,
        within: float = 600,
    ) -> Loaded:
        """As Knowledge.upload; files are read in threads. `on_progress` is called in the loop."""
        files = await asyncio.to_thread(local_files, paths, include, attributes or {})
        loading = Loading(files, on_progress)
        store_id = store_id or await self._store(store)
        known = by_path([entry async for entry in self._stores.files.list(store_id, limit=100)])
        waiting: dict[str, str] = {}
        for local in files:
            before = known.get(local.path)
            if before is not None and (there := standing(local, before)) is not None:
                loading.note(local.path, there, before.id)
                if there == "indexing":
                    waiting[before.id] = local.path
                continue
            loading.note(local.path, "uploading")
            try:
                file = await self._files.create(file=local.file, purpose="assistants")
                await self._stores.files.create(store_id, file_id=file.id, attributes=local.attributes)
            except openai.APIStatusError as error:
                if not one_files_own(error):
                    raise
                loading.note(local.path, "failed", error=error.message)
                continue
            waiting[file.id] = local.path
            loading.note(local.path, "indexing", file.id)
        await self._wait(store_id, waiting, known, loading, within)
        return loading.result(store_id)

    async def _store(self, name: str | None) -> str:
        if name is None:
            raise ValueError("say which vector store: store=NAME or store_id=ID")
        async for each in self._stores.list(limit=100):
            if each.name == name:
                return each.id
        return (await self._stores.create(name=name)).id

    async def _wait(
        self,
        store_id: str,
        waiting: dict[str, str],
        known: dict[str, VectorStoreFile],
        loading: Loading,
        within: float,
    ) -> None:
        end = time.monotonic() + within
        left = list(waiting.values())
        for file_id, path in waiting.items():  # in the order in which the gateway takes them
            for pause in intervals():
                entry = await self._entry(store_id, file_id)
                if entry is None or entry.status != "in_progress":
                    break
                if time.monotonic() > end:
                    raise too_late(left, within)
                await asyncio.sleep(pause)
            left.remove(path)
            before = known.get(path)
            if loading.ended(path, file_id, entry, before) and before is not None:
                with suppress(openai.NotFoundError):
                    await self._files.delete(before.id)

    async def _entry(self, store_id: str, file_id: str) -> VectorStoreFile | None:
        try:
            return await self._stores.files.retrieve(file_id, vector_store_id=store_id)
        except openai.NotFoundError:
            return None
