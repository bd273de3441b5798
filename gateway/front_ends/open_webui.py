"""Open WebUI: its users in headers, its calls beside a conversation, its way to show sources.

Its headers are sent with ENABLE_FORWARD_USER_INFO_HEADERS=true (`open_webui/utils/headers.py` and `env.py` of 0.12.4).
Frames that hold an `event` are what its pipelines emit (`open_webui/utils/middleware.py`, `process_chat_response`); a
source has a name, texts and as many metadata: https://docs.openwebui.com/features/plugin/development/events
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from gateway.chat import JSON, ChatRequest, text_of
from gateway.chunks import Chunk
from gateway.errors import BadRequest, GatewayError
from gateway.stages.citing import cited
from gateway.values import FrontEnd, SideCall

if TYPE_CHECKING:
    from gateway.exchange import Exchange
    from retrieval.passages import Passage

_decode = msgspec.json.Decoder().decode

_USER = {"id": b"x-openwebui-user-id", "email": b"x-openwebui-user-email", "name": b"x-openwebui-user-name"}
_CHAT = b"x-openwebui-chat-id"
_MOST_WORDS = 1_000  # tokens of an answer to a side call that bounds it nowhere

# What its default templates for such calls begin with and hold (`open_webui/config.py`, DEFAULT_*_PROMPT_TEMPLATE).
_TASK = re.compile(r"\s*### Task:\s*\n(.{0,400})", re.DOTALL)
_TASKS = {
    "title": "concise title", "tags": "tags categorizing", "follow_ups": "send next", "queries": "search quer",
    "image_prompt": "image generation", "autocomplete": "autocompletion",
}  # fmt: skip
_HISTORY = ("<chat_history>", "### Chat History", "<text>")


class OpenWebui:
    """One call of it. A `Told` (gateway.api.inbound), whose `side_call` is None for a user's own question."""

    def __init__(self, request: ChatRequest, lines: Iterable[tuple[bytes, bytes]], front_end: FrontEnd) -> None:
        """`lines` are the request's headers. Raises BadRequest for a user who is named twice."""
        self.request = request
        self.user = _once(lines, _USER[front_end.user])
        chat = _once(lines, _CHAT)
        if chat and request.conversation is None:
            request.conversation = chat
        task = _task(request)
        self.side_call = SideCall("open_webui", task, request.model) if task is not None else None
        if task is not None:
            _bound(request)
            if front_end.side_calls is not None:
                request.model = front_end.side_calls
        self._said: list[str] = []
        self._found = False

    async def begin(self, exchange: Exchange) -> None:
        """Nothing is continued."""

    async def whole(self, chunk: Chunk, exchange: Exchange) -> bytes:
        return chunk.data

    def events(self, chunks: Sequence[Chunk], exchange: Exchange) -> bytes:
        """The chunks as they are, what was found before the first of them, and the sources before the last."""
        frames: list[bytes] = []
        if not self._found and exchange.passages:
            self._found = True
            count = len(exchange.passages)
            frames.append(_event("status", {"description": f"{count} passages found", "done": True}))
        for chunk in chunks:
            facts, data = chunk.facts, chunk.data
            if facts.usage is not None and not facts.choices and not self.request.include_usage:
                continue  # asked for by the gateway, not by the caller
            choice = facts.choices[0] if facts.choices else None
            if choice is not None and choice.index == 0 and exchange.passages:
                if choice.delta is not None and choice.delta.content:
                    self._said.append(choice.delta.content)
                if choice.finish_reason:
                    frames += _sources("".join(self._said), exchange.passages)
                    data = _without_annotations(data)
            if b'"event"' in data or b"\\u" in data:  # which may spell it
                data = _without_events(data)
            frames.append(b"data: " + data + b"\n\n")
        return b"".join(frames)

    async def end(self, exchange: Exchange) -> bytes:
        return b"data: [DONE]\n\n"

    def broken(self, error: GatewayError) -> bytes:
        return b"data: " + JSON.encode(error.body()) + b"\n\n"


def _once(lines: Iterable[tuple[bytes, bytes]], name: bytes) -> str | None:
    found = [value for line, value in lines if line == name]
    if len(found) > 1:
        raise BadRequest(f"The header {name.decode()} stands twice: send it once.", param=name.decode())
    return found[0].decode("utf-8", "replace") or None if found else None


def _task(request: ChatRequest) -> str | None:
    """What Open WebUI wants to know of a conversation; None where its user asks something."""
    raw = bytes(request.fields["messages"])
    if b"### Task:" not in raw:  # next to all calls: nothing is decoded
        return None
    if request.stream:  # none of these calls is, and nearly every question is
        return None
    messages = request.messages
    asked = [message for message in messages if message.get("role") == "user"]
    if len(asked) != 1 or len(messages) > 2:
        return None
    words = text_of(asked[0])
    begins = _TASK.match(words)
    if begins is None or not any(mark in words for mark in _HISTORY):
        return None
    said = begins[1].lower()
    return next((task for task, mark in _TASKS.items() if mark in said), "other")


def _bound(request: ChatRequest) -> None:
    """A title needs few words; a budget is not to be surprised by many."""
    if request.max_tokens is None:
        request.max_tokens = _MOST_WORDS
        request.fields["max_tokens"] = msgspec.Raw(JSON.encode(_MOST_WORDS))


def _sources(said: str, passages: Sequence[Passage]) -> list[bytes]:
    """One event for each passage up to the last that the answer cites: its `[n]` names the n-th."""
    last = max(cited(said, len(passages)), default=0)
    return [_event("source", _source(n, passage)) for n, passage in enumerate(passages[:last], 1)]


def _source(n: int, passage: Passage) -> dict[str, Any]:
    # What is told of one document under one id would be shown as one source, and the marks behind it would be off.
    name = " > ".join(passage.heading) or passage.title
    source = {"id": f"{passage.section_id}#{n}", "name": name}
    metadata = {"source": source["id"], "name": name, "document_id": passage.document_id, "version": passage.version}
    if passage.url.lower().startswith(("http://", "https://")):  # it makes a link of whatever stands here
        source["url"] = metadata["url"] = passage.url
    return {
        "source": source, "document": [passage.text], "metadata": [metadata], "distances": [round(passage.score, 4)],
    }  # fmt: skip


def _event(kind: str, data: dict[str, Any]) -> bytes:
    return b"data: " + JSON.encode({"event": {"type": kind, "data": data}}) + b"\n\n"


def _without_events(data: bytes) -> bytes:
    """What runs in its users' browsers comes from here alone, and not from whoever made the chunk."""
    document: dict[str, Any] = _decode(data)
    if "event" not in document:  # the model has said the word
        return data
    del document["event"]
    return JSON.encode(document)


def _without_annotations(data: bytes) -> bytes:
    """They would be shown as sources a second time."""
    document: dict[str, Any] = _decode(data)
    for choice in document["choices"]:
        (choice.get("delta") or {}).pop("annotations", None)
    return JSON.encode(document)
