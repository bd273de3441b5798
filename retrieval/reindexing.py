"""A collection made anew for another embedding model, or from the first version's format: beside the old one, then
in its place. Searches that use the old recipe go on until the new form is whole; nothing is read from files again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

from retrieval.access import HIDDEN, PUBLIC, records_of
from retrieval.embedding import Embedder
from retrieval.expressions import token_set
from retrieval.schema import blank, row_id
from retrieval.sectioning import Section
from retrieval.store import MilvusStore


async def reindex(collection: str, store: MilvusStore, embedder: Embedder, on_progress: Callable[[int], None]) -> int:
    """How many sections were embedded; 0 where the collection is of this recipe already.

    `on_progress` is told the sections done so far. Raises RetrievalUnavailable; then the old form is still in force,
    and another run begins where nothing is lost: rows that are there are written once more.
    """
    forms = await store.other_forms(collection)
    if not forms:
        return 0
    await store.begin_form(collection)
    done = 0
    for form in forms:
        async for rows in store.rows_of_form(form):
            sections = [row for row in map(_today, rows) if row["position"] >= 0 and not _is_record(row)]
            vectors = await embedder.embed([row["text"] for row in sections], kind="document")
            made = [{**row, "vector": vector} for row, vector in zip(sections, vectors, strict=True)]
            records = [row for row in rows if _is_record(row)]
            made += [{**blank(embedder.dimension), **row} for row in records]
            made += [_record(row, embedder.dimension) for row in rows if "body_at" not in row and row["position"] == 0]
            await store.write(collection, made)
            done += len(sections)
            on_progress(done)
    await store.settle(collection)
    await store.end_form(collection)
    return done


def _is_record(row: dict[str, Any]) -> bool:
    return str(row["tenant"]).startswith(HIDDEN)


def _today(row: dict[str, Any]) -> dict[str, Any]:
    """A section's row in this format; one of the first format was everybody's, and kept its text without headings."""
    if "body_at" in row or _is_record(row):
        return row
    section = Section(row["text"], tuple(json.loads(row["heading"])), row["position"])
    return {
        **row,
        "text": section.embedded,
        "body_at": len(section.embedded) - len(section.text),
        "text_hash": hashlib.sha256(section.embedded.encode("utf-8", "replace")).hexdigest(),
        "readers": token_set([PUBLIC]),
        "sensitivity": "public",
        "attributes": {},
        "attribute_tokens": token_set([]),
    }


def _record(row: dict[str, Any], dimension: int) -> dict[str, Any]:
    """The first format had no records: a document's first section said that it was whole."""
    told = {name: row[name] for name in ("document_id", "version", "title")}
    return {
        **blank(dimension),
        **told,
        "id": row_id(HIDDEN, row["tenant"], row["document_id"]),
        "tenant": records_of(row["tenant"]),
        "position": 1,
        "readers": token_set([PUBLIC]),
    }
