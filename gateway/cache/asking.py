"""What a request asks, for a semantic cache: its last question, and a digest of all that must be equal beside it."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import msgspec

from gateway.cache.key import NOT_SHAPING
from gateway.cache.questions import Asked, Source
from gateway.chat import JSON, ChatRequest
from retrieval.expressions import token

if TYPE_CHECKING:
    from gateway.chat import Request
    from gateway.chunks import Chunk
    from gateway.exchange import Exchange

_decode = msgspec.json.Decoder().decode
_LONGEST_QUESTION = 1_000  # characters
# What an answer is made with that no digest could hold: tools, and what a provider searches for by itself.
_WITH_TOOLS = frozenset({
    "tools", "functions", "tool_choice", "function_call", "web_search_options", "modalities", "audio",
})  # fmt: skip


def can_be_asked(request: Request, exchange: Exchange) -> bool:
    """Whether it is a question in text, for an answer in text."""
    return (
        isinstance(request, ChatRequest)
        and _WITH_TOOLS.isdisjoint(request.fields)
        and _conversation(request, exchange) is not None
    )


def asked_in(scope: str, request: Request, exchange: Exchange) -> Asked | None:
    """The question of this request, with everything that must be equal; None where it can have no such answer.

    `scope` names the public model and all of its settings that shape an answer.
    """
    conversation = _conversation(request, exchange)
    if conversation is None:
        return None
    question, before = conversation
    caller, features = exchange.caller, exchange.features
    assert caller is not None
    parts: dict[str, object] = {
        "tenant": caller.tenant,
        "scope": scope,
        "template": exchange.template_hash,
        "endpoint": request.endpoint,
        "before": before,
        "sensitivity": [request.sensitivity, caller.sensitivity],
        "rag": request.rag,
        "file_search": request.file_search,
    }
    parts |= {
        "request." + name: request.fields[name]
        for name in sorted(request.fields)
        if name not in NOT_SHAPING and name != "messages"
    }
    if features is not None:
        parts["features"] = [features.service, sorted(features.values.items()), features.sensitivity]
        parts["user"] = caller.user
    partition = hashlib.sha256(JSON.encode(parts)).hexdigest()
    audience = token(caller.tenant, "audience", caller.user or "", *sorted(caller.groups))
    return Asked(question, partition, audience)


def _conversation(request: Request, exchange: Exchange) -> tuple[str, object] | None:
    """The last question, and all that comes before it; None where it is no question in text.

    As the caller said it, screened: a template's own text is in the model's settings, and passages are compared apart.
    """
    if request.prompt is not None:
        return None  # what a template's variables say is part of the question
    messages = exchange.asked if exchange.asked is not None else request.messages
    last = messages[-1] if messages else {}
    question = _plain(last.get("content"))
    if last.get("role") != "user" or not question or len(question) > _LONGEST_QUESTION:
        return None
    if any(message.get("role") in ("tool", "function") or message.get("tool_calls") for message in messages):
        return None
    return question, [*messages[:-1], {name: value for name, value in last.items() if name != "content"}]


def _plain(content: object) -> str | None:
    """The text of a message that has nothing else in it."""
    if isinstance(content, str):
        return content.strip()
    if isinstance(content, list) and all(isinstance(part, dict) and part.get("type") == "text" for part in content):
        return " ".join(str(part.get("text")) for part in content).strip()
    return None


def text_of(completion: Chunk) -> str | None:
    """What an answer says, where it is one text and no refusal."""
    choices = completion.facts.choices or []
    message = choices[0].message if len(choices) == 1 else None
    if message is None or message.refusal or message.tool_calls:
        return None
    return message.content


def sources_of(completion: Chunk, exchange: Exchange) -> tuple[Source, ...]:
    """The passages that the prompt held; cited are those that the text names, by their place."""
    named = _cited(completion) if exchange.passages else frozenset()
    return tuple(
        Source(passage.collection, passage.document_id, passage.section_id, passage.version, place in named)
        for place, passage in enumerate(exchange.passages, 1)
    )


def _cited(completion: Chunk) -> frozenset[int]:
    """The places of the passages that the text names, by its annotations: each spans a mark such as [2]."""
    message = _decode(completion.data)["choices"][0]["message"]
    text = message.get("content") or ""
    spans = [note["url_citation"] for note in message.get("annotations") or () if "url_citation" in note]
    marks = [text[span["start_index"] : span["end_index"]].strip("[]") for span in spans]
    return frozenset(int(mark) for mark in marks if mark.isdecimal())
