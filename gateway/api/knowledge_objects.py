"""What `/v1/files` and `/v1/vector_stores` answer: OpenAI's objects, and pages of them.

https://platform.openai.com/docs/api-reference/files and https://platform.openai.com/docs/api-reference/vector-stores
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

from gateway.errors import BadRequest
from gateway.records.files import StoredFile, StoreFile
from retrieval.passages import Passage

Order = Literal["asc", "desc"]


def file_object(file: StoredFile) -> dict[str, Any]:
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


def store_file_object(entry: StoreFile) -> dict[str, Any]:
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


def found_object(passage: Passage, entry: StoreFile) -> dict[str, Any]:
    return {
        "file_id": entry.file_id,
        "filename": passage.url,
        "score": max(0.0, min(1.0, passage.score)),
        "attributes": entry.attributes,
        "content": [{"type": "text", "text": passage.text}],
    }


def file_counts(files: Iterable[StoreFile]) -> dict[str, int]:
    counted = Counter(each.status for each in files)
    known = {name: counted[name] for name in ("in_progress", "completed", "failed", "cancelled")}
    return {**known, "total": counted.total()}


def attached_page(
    files: Sequence[StoreFile], status: str | None, limit: int, order: Order, after: str | None, before: str | None
) -> dict[str, Any]:
    # What a page ended with may have another status by now: it is a neighbour all the same.
    return page(
        [store_file_object(each) for each in files],
        limit,
        order,
        after,
        before,
        lambda file: status in (None, file["status"]),
    )


def page(
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
    left = [item for item in listed[begin:end] if wanted(item)]
    shown = left[:limit] if before is None or after is not None else left[-limit:]
    return {
        "object": "list",
        "data": shown,
        "first_id": shown[0]["id"] if shown else None,
        "last_id": shown[-1]["id"] if shown else None,
        "has_more": len(left) > len(shown),
    }
