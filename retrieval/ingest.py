"""Loading documents into a collection: only what has changed, safe to break off and to repeat."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from retrieval.access import NotReadable, audience
from retrieval.embedding import Embedder
from retrieval.filters import BadFilter, attribute_tokens
from retrieval.loading import IN_FOLDERS, Document, File, Unreadable, find_files, load
from retrieval.parsing import Parser
from retrieval.sectioning import POLICY, Section, Sectioner
from retrieval.store import MilvusStore, text_hash

Progress = Callable[[str, int, int], None]
"""Told (collection, documents done, documents in all)."""


@dataclass(frozen=True, slots=True)
class Labels:
    """What all documents of one load are given: who may read them, how sensitive they are, what filters can ask for.

    `dated`: each has the time of its file as the attribute `updated_at`.
    """

    readers: tuple[str, ...] = ("public",)
    sensitivity: str = "public"
    attributes: dict[str, str | float | bool] = field(default_factory=dict)
    dated: bool = False


EVERYBODYS = Labels()


@dataclass(slots=True)
class IngestReport:
    """How many documents were what; `failed` are (path, reason); `sections` were embedded, `reused` were not again."""

    added: int = 0
    updated: int = 0
    unchanged: int = 0
    removed: int = 0
    sections: int = 0
    reused: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)

    def __str__(self) -> str:
        removed = f"{self.removed} removed, " if self.removed else ""
        return (
            f"{self.added} added, {self.updated} updated, {self.unchanged} unchanged, {removed}"
            f"{len(self.failed)} failed; {self.sections} sections embedded"
        )


class Ingestion:
    """One load into one collection, for one tenant. Make it with `ingesting`."""

    def __init__(
        self, collection: str, tenant: str, store: MilvusStore, embedder: Embedder, sectioner: Sectioner
    ) -> None:
        self.report = IngestReport()
        self._collection = collection
        self._tenant = tenant
        self._store = store
        self._embedder = embedder
        self._sectioner = sectioner
        self._versions: dict[str, set[str]] = {}
        self.written = False

    async def begin(self) -> None:
        await self._store.ensure(self._collection)
        self.records = await self._store.records(self._collection, self._tenant)
        self._versions = await self._store.versions(self._collection, self._tenant)

    async def put(self, document: Document) -> None:
        """Bring the collection up to this document. Raises Unreadable, RetrievalUnavailable."""
        version = document_version(document)
        document_id = document.document_id
        record = self.records.get(document_id)
        if record is not None and record.version == version:
            if self._versions.get(document_id, set()) - {version}:  # an earlier load broke off
                await self._store.drop_versions(self._collection, self._tenant, document_id, but=version)
                self.written = True
            self.report.unchanged += 1
            return
        try:
            audience(self._tenant, document.readers)
            attribute_tokens(document.attributes, document.within)
        except (NotReadable, BadFilter) as fault:
            raise Unreadable(str(fault)) from None
        cut = await asyncio.to_thread(self._sectioner.sections, document)
        if not cut:
            raise Unreadable("holds no text")
        # What a document says twice in the same words is kept once.
        first = {text_hash(section): section for section in reversed(cut)}
        sections = sorted(first.values(), key=lambda section: section.position)
        vectors = await self._vectors(document_id, sections)
        is_new = record is None and document_id not in self._versions
        await self._store.replace(self._collection, self._tenant, document, version, sections, vectors, is_new=is_new)
        self.written = True
        if record is not None:
            self.report.updated += 1
        else:
            self.report.added += 1

    async def remove(self, document_id: str) -> None:
        await self._store.remove(self._collection, self._tenant, document_id)
        self.written = True
        self.report.removed += 1

    async def _vectors(self, document_id: str, sections: Sequence[Section]) -> list[Sequence[float]]:
        """Vectors for the sections; those that the document had before are taken from there."""
        known: dict[str, list[float]] = {}
        if document_id in self._versions:
            known = await self._store.vectors(self._collection, self._tenant, document_id)
        new = {each: section.embedded for section in sections if (each := text_hash(section)) not in known}
        made = dict(zip(new, await self._embedder.embed(list(new.values()), kind="document"), strict=True))
        self.report.sections += len(new)
        self.report.reused += len(sections) - len(new)
        return [made[each] if (each := text_hash(section)) in made else known[each] for section in sections]


@asynccontextmanager
async def ingesting(
    collection: str, tenant: str, store: MilvusStore, embedder: Embedder, sectioner: Sectioner
) -> AsyncIterator[Ingestion]:
    """A load, begun; at its end what it wrote is laid down, so that searches stay quick."""
    ingestion = Ingestion(collection, tenant, store, embedder, sectioner)
    await ingestion.begin()
    yield ingestion
    if ingestion.written:
        await store.settle(collection)


async def ingest(
    paths: Sequence[Path],
    *,
    collection: str,
    tenant: str,
    store: MilvusStore,
    embedder: Embedder,
    sectioner: Sectioner,
    on_progress: Progress,
    parser: Parser,
    labels: Labels,
    prune: bool = False,
    include: Sequence[str] = IN_FOLDERS,
) -> IngestReport:
    """Bring the collection up to what the files say. Raises RetrievalUnavailable; what was loaded stays.

    `prune` removes documents that were loaded from these paths before and are not there now.
    """
    async with ingesting(collection, tenant, store, embedder, sectioner) as ingestion:
        report = ingestion.report
        roots = {record.document_id.partition("/")[0]: record.source for record in ingestion.records.values()}
        files = await asyncio.to_thread(lambda: list(find_files(paths, roots, include)))
        seen: dict[str, Path] = {}
        for done, file in enumerate(files):
            on_progress(collection, done, len(files))
            try:
                if (other := seen.setdefault(file.document_id, file.path)) != file.path:
                    raise Unreadable(
                        f"{other} has the same name, {file.document_id}: load one of them into another collection"
                    )
                await ingestion.put(await _read(file, ingestion, parser, labels))
            except Unreadable as error:
                report.failed.append((os.fsencode(file.path).decode("utf-8", "replace"), str(error)))
        if prune:
            # A file that is there and can't be read today is not gone.
            sources = {file.source for file in files} | await asyncio.to_thread(_folders, paths)
            for record in ingestion.records.values():
                if record.source in sources and record.document_id not in seen:
                    await ingestion.remove(record.document_id)
        on_progress(collection, len(files), len(files))
    return report


def _folders(paths: Sequence[Path]) -> set[str]:
    return {os.path.abspath(path) for path in paths if path.is_dir()}


async def _read(file: File, ingestion: Ingestion, parser: Parser, labels: Labels) -> Document:
    """The file as a document; one that has not changed since it was loaded is not parsed again."""
    raw = await asyncio.to_thread(load, file.path, file.document_id)
    attributes = labels.attributes
    if labels.dated:
        changed = datetime.fromtimestamp(file.path.stat().st_mtime, UTC)
        attributes = {**attributes, "updated_at": changed.isoformat(timespec="seconds")}
    document = replace(
        raw, source=file.source, readers=labels.readers, sensitivity=labels.sensitivity, attributes=attributes
    )
    if raw.text is not None:
        return document
    record = ingestion.records.get(file.document_id)
    if record is not None and document_version(same := replace(document, title=record.title)) == record.version:
        return same
    parsed = await parser.parse(file.path)
    return replace(document, text=parsed.text, title=parsed.title or raw.title)


def document_version(document: Document) -> str:
    """Content, way of cutting, and all that is told of the document: a change of any makes every section new."""
    told = [
        document.title[:1000], document.url, document.source, sorted(document.readers), document.sensitivity,
        sorted(document.attributes.items()),
        document.within,
    ]  # fmt: skip
    return f"{document.version}.{POLICY}.{hashlib.sha256(json.dumps(told).encode()).hexdigest()[:12]}"
