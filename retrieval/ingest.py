"""Loading documents into a collection: only what has changed, safe to break off and to repeat."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from retrieval.embedding import Embedder
from retrieval.loading import Unreadable, find_files, load
from retrieval.sectioning import POLICY, Sectioner
from retrieval.store import MilvusStore

Progress = Callable[[str, int, int], None]
"""Told (collection, documents done, documents in all)."""


@dataclass(slots=True)
class IngestReport:
    """How many documents were what; `failed` are (path, reason)."""

    added: int = 0
    updated: int = 0
    unchanged: int = 0
    sections: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"{self.added} added, {self.updated} updated, {self.unchanged} unchanged, {len(self.failed)} failed; "
            f"{self.sections} sections embedded"
        )


async def ingest(
    paths: Sequence[Path],
    *,
    collection: str,
    tenant: str,
    store: MilvusStore,
    embedder: Embedder,
    sectioner: Sectioner,
    on_progress: Progress,
) -> IngestReport:
    """Bring the collection up to what the files say. Raises RetrievalUnavailable; what was loaded stays."""
    report = IngestReport()
    await store.ensure(collection)
    known = await store.versions(collection, tenant)
    files = await asyncio.to_thread(lambda: list(find_files(paths)))
    seen: dict[str, Path] = {}
    for done, (file, document_id) in enumerate(files):
        on_progress(collection, done, len(files))
        try:
            if (other := seen.setdefault(document_id, file)) != file:
                raise Unreadable(f"{other} has the same name, {document_id}: load one of them into another collection")
            document = await asyncio.to_thread(load, file, document_id)
        except Unreadable as error:
            report.failed.append((os.fsencode(file).decode("utf-8", "replace"), str(error)))
            continue
        version = f"{document.version}.{POLICY}"
        versions = known.get(document_id, set())
        if version in versions:
            if len(versions) > 1:  # an earlier run broke off between the new sections and the old
                await store.drop_versions(collection, tenant, document_id, but=version)
            report.unchanged += 1
            continue
        sections = await asyncio.to_thread(sectioner.sections, document)
        if not sections:
            report.failed.append((str(file), "holds no text"))
            continue
        vectors = await embedder.embed([section.embedded for section in sections], kind="document")
        await store.replace(collection, tenant, document, version, sections, vectors)
        report.sections += len(sections)
        if versions:
            report.updated += 1
        else:
            report.added += 1
    on_progress(collection, len(files), len(files))
    return report
