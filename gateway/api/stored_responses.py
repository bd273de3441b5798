"""What is kept of `/v1/responses`: look at it, or have it forgotten."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal, TypeVar

from fastapi import APIRouter, Depends, Query
from starlette.concurrency import run_in_threadpool

from gateway.api.identity import Identified
from gateway.errors import BadRequest, NotFound, StageFailed
from gateway.records.database import StoreUnavailable
from gateway.records.responses import ResponseStore, StoredResponse
from gateway.values import Caller

T = TypeVar("T")


def router(caller: Identified, store: ResponseStore) -> APIRouter:
    """Somebody else's response is not there."""
    routes = APIRouter(prefix="/v1/responses", tags=["responses"])
    who_calls = Depends(caller)

    async def found(response_id: str, who: Caller) -> StoredResponse:
        stored = await _asked(store.find, response_id, who.tenant, who.user)
        if stored is None:
            raise _missing(response_id)
        return stored

    @routes.get("/{response_id}")
    async def get(response_id: str, stream: bool = False, who: Caller = who_calls) -> dict[str, Any]:
        """A response, as it was told."""
        if stream:
            raise BadRequest("A kept response is not streamed.", param="stream", code="unsupported_parameter")
        return (await found(response_id, who)).response

    @routes.delete("/{response_id}")
    async def delete(response_id: str, who: Caller = who_calls) -> dict[str, Any]:
        """Forget a response. What continued it can't be continued any more."""
        if not await _asked(store.remove, response_id, who.tenant, who.user):
            raise _missing(response_id)
        return {"id": response_id, "object": "response", "deleted": True}

    @routes.get("/{response_id}/input_items")
    async def input_items(
        response_id: str,
        limit: Annotated[int, Query(ge=1, le=100)] = 20,
        order: Literal["asc", "desc"] = "desc",
        after: str | None = None,
        who: Caller = who_calls,
    ) -> dict[str, Any]:
        """What was asked with this response alone, page by page."""
        stored = await found(response_id, who)
        items = listed(stored)
        if order == "desc":
            items.reverse()
        if after is not None:
            places = [place for place, item in enumerate(items) if item["id"] == after]
            if not places:
                raise BadRequest(f"There is no item '{after}' here.", param="after")
            items = items[places[0] + 1 :]
        page = items[:limit]
        return {
            "object": "list",
            "data": page,
            "first_id": page[0]["id"] if page else None,
            "last_id": page[-1]["id"] if page else None,
            "has_more": len(items) > limit,
        }

    return routes


def listed(stored: StoredResponse) -> list[dict[str, Any]]:
    """The input's items as OpenAI lists them: each with an id of its own, a message's content always in parts.

    An item keeps the id that it came with, unless one before it had the same: pages are found by it.
    """
    taken: set[str] = set()
    items = []
    for place, given in enumerate(stored.input):
        own = given.get("id")
        name = own if isinstance(own, str) and own and own not in taken else f"in_{place}_{stored.id}"
        taken.add(name)
        items.append({**given, "id": name, **_parts(given)})
    return items


def _parts(item: dict[str, Any]) -> dict[str, Any]:
    """A message's text as a part, where it came as a string."""
    text = item.get("content")
    if item["type"] != "message" or not isinstance(text, str):
        return {}
    if item["role"] == "assistant":
        return {"content": [{"type": "output_text", "text": text, "annotations": []}]}
    return {"content": [{"type": "input_text", "text": text}]}


async def _asked(ask: Callable[..., T], *given: str | None) -> T:
    """Ask the store in a thread. Raises StageFailed."""
    try:
        return await run_in_threadpool(ask, *given)
    except StoreUnavailable:
        raise StageFailed("The store of responses is unavailable. Try again shortly.", retry_after="2") from None


def _missing(response_id: str) -> NotFound:
    return NotFound(f"There is no response '{response_id}', or not any more.", param="response_id")
