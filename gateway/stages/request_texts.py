"""Every text of a request: where it stands, and by which way it came."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from gateway.chat import ChatRequest, Request
from gateway.stages.fragments import fragments, is_json, texts
from gateway.stages.variables import strings_of

_decode = msgspec.json.Decoder().decode
_TOOLS = ("tools", "functions")
# Fields without words for the model. In every other one there may be some: tools, schemas, predictions, documents.
_NO_WORDS = frozenset({
    "audio", "frequency_penalty", "logit_bias", "logprobs", "max_completion_tokens", "max_tokens", "messages",
    "metadata", "modalities", "model", "n", "parallel_tool_calls", "presence_penalty", "priority",
    "prompt_cache_key", "prompt_cache_retention", "reasoning_effort", "safety_identifier", "seed", "service_tier",
    "stop", "store", "stream", "stream_options", "temperature", "tool_choice", "top_k", "top_logprobs", "top_p",
    "user", "verbosity",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Place:
    """One text of a request: where it stands, and how a caller would find it."""

    holder: dict[str, Any]
    key: str
    param: str
    part: Literal["text", "definition", "call", "result"]
    tool: str
    json: bool = False
    content: bool = False  # of a message, what it says
    instructions: bool = False  # of a system or developer message


def fields_of(request: Request) -> dict[str, Any]:
    """What a request holds besides its messages that may have words for the model, decoded."""
    if not isinstance(request, ChatRequest):
        return {}
    return {
        name: _decode(value)
        for name, value in request.fields.items()
        if name not in _NO_WORDS and bytes(value).startswith((b'"', b"[", b"{"))
    }


def places_of(messages: list[dict[str, Any]], fields: dict[str, Any]) -> Iterable[Place]:
    """Every text of a request."""
    names: dict[str, str] = {}  # of tools, by the id of their call
    for index, message in enumerate(messages):
        result = message.get("role") in ("tool", "function")
        ours = message.get("role") in ("system", "developer")
        tool = names.get(str(message.get("tool_call_id")), str(message.get("name") or "")) if result else ""
        for call in message.get("tool_calls") or ():
            if isinstance(call, dict) and isinstance(call.get("function"), dict):
                names[str(call.get("id"))] = str(call["function"].get("name") or "")
        for holder, key, channel in texts(message):
            where, calls = f"messages[{index}]", channel.startswith(("tool_calls[", "function_call."))
            if calls:
                called = holder.get("name") if is_json(channel) else None
                yield Place(holder, key, where, "call", str(called or ""), is_json(channel))
            else:
                part: Literal["text", "result"] = "result" if result else "text"
                yield Place(holder, key, where, part, tool, content=channel.startswith("content"), instructions=ours)
    for name, value in fields.items():
        if isinstance(value, str):
            yield Place(fields, name, name, "text", "")
        elif name == "prompt" and isinstance(value, dict):
            for holder, key in strings_of(value.get("variables"), names=False):
                yield Place(holder, key, name, "text", "", content=True)
        elif name in _TOOLS and isinstance(value, list):
            for order, item in enumerate(value):
                for holder, key, _ in fragments(item) if isinstance(item, dict) else ():
                    yield Place(holder, key, f"{name}[{order}]", "definition", _tool_name(item))
        else:
            for holder, key, channel in fragments({name: value}):
                yield Place(holder, key, channel.partition(".")[0], "text", "")


def _tool_name(tool: Any) -> str:
    function = tool.get("function", tool) if isinstance(tool, dict) else None
    return str(function.get("name") or "") if isinstance(function, dict) else ""
