"""Mistral's chat API: OpenAI's in most, https://docs.mistral.ai/api

Theirs are `random_seed`, tool call ids of nine letters and digits, and content that may hold thinking as a part.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any, ClassVar

import msgspec

from gateway.chat import JSON
from gateway.chunks import Chunk
from gateway.providers import shapes
from gateway.providers.dialect import Asked, Capabilities, Outgoing
from gateway.providers.openai_compatible import OpenAIDecoder
from gateway.providers.refusals import Said

_CHAT = frozenset(
    {
        "temperature", "top_p", "max_tokens", "max_completion_tokens", "stop", "seed", "response_format", "tools",
        "tool_choice", "parallel_tool_calls", "presence_penalty", "frequency_penalty", "n", "prediction",
        "reasoning_effort", "safe_prompt", "prompt_mode",
    }
)  # fmt: skip
_RENAMED = {"seed": "random_seed", "max_completion_tokens": "max_tokens"}
_SENT = ("messages", "stream", "n")
_TOOL_ID = re.compile(r"[a-zA-Z0-9]{9}").fullmatch


class Mistral:
    """The dialect."""

    stream_type: ClassVar[bytes] = b"text/event-stream"
    capabilities: ClassVar[Capabilities] = Capabilities(
        fields={"chat.completions": _CHAT, "embeddings": frozenset({"input", "encoding_format", "dimensions"})},
        choices=True,
        images=True,
        tools=True,
        json_schema=True,
        reasoning=True,
        notes=("`reasoning_effort` other than `none` asks for `prompt_mode: reasoning`.",),
    )

    def outgoing(self, endpoint: str, asked: Asked, model: str, *, stream: bool) -> Outgoing:
        if endpoint == "embeddings":
            body: dict[str, Any] = {"model": model, "input": asked["input"]}
            for ours, theirs in (("dimensions", "output_dimension"), ("encoding_format", "encoding_format")):
                if asked.get(ours) is not None:
                    body[theirs] = asked[ours]
            return Outgoing(b"/v1/embeddings", JSON.encode(body))
        body = {
            name: value
            for name, value in asked.items()
            if (name in _CHAT or name in _SENT) and value is not None and name not in (*_RENAMED, "reasoning_effort")
        }
        for ours, theirs in _RENAMED.items():
            if asked.get(ours) is not None:
                body[theirs] = asked[ours]
        effort = asked.get("reasoning_effort")
        if effort is not None and effort != "none":
            body["prompt_mode"] = "reasoning"
        if asked.get("tool_choice") == "required":
            body["tool_choice"] = "any"
        body["model"] = model
        body["messages"] = [_message(message) for message in asked["messages"]]
        if not stream:
            body.pop("stream", None)
        return Outgoing(b"/v1/chat/completions", JSON.encode(body))

    def answer(self, endpoint: str, body: bytes, asked: Asked) -> dict[str, Any]:
        told = shapes.json_object(body)
        try:
            for choice in told.get("choices") or ():
                _plain(choice, "message")
        except (TypeError, AttributeError):
            raise shapes.unreadable() from None
        return told

    def decoder(self, asked: Asked) -> Decoder:
        return Decoder()

    def read_error(self, status: int, headers: Mapping[bytes, bytes], body: bytes) -> Said:
        """Theirs are flat, and a fault of validation is a list of them: https://docs.mistral.ai/api/#tag/errors"""
        try:
            told = msgspec.json.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return Said()
        if not isinstance(told, dict):
            return Said()
        if isinstance(told.get("message"), dict):  # a validation fault in another form
            told = told["message"]
        faults = told.get("detail")
        if isinstance(faults, list) and faults and isinstance(faults[0], dict):
            loc = faults[0].get("loc")
            where = ".".join(str(part) for part in loc if part != "body") if isinstance(loc, list) else ""
            return Said(str(faults[0].get("msg") or ""), "invalid_request_error", where or None, None, 400)
        message, param, code = told.get("message") or faults, told.get("param"), told.get("code")
        return Said(
            message if isinstance(message, str) else "",
            None,
            None if param is None else str(param),
            None if code is None else str(code),
        )


class Decoder:
    """OpenAI's stream, with usage in the last chunk that has a choice, and thinking among the content."""

    __slots__ = ("_inner",)

    def __init__(self) -> None:
        self._inner = OpenAIDecoder()

    @property
    def done(self) -> bool:
        return self._inner.done

    @property
    def may_end(self) -> bool:
        return self._inner.may_end

    def feed(self, segment: bytes) -> list[Chunk]:
        chunks: list[Chunk] = []
        for chunk in self._inner.feed(segment):
            if chunk.facts.choices is not None and chunk.facts.usage is None:
                chunks.append(chunk)
                continue
            told = msgspec.json.decode(chunk.data)
            used = told.pop("usage", None)
            try:
                for choice in told.get("choices") or ():
                    _plain(choice, "delta")
            except (TypeError, AttributeError):
                raise shapes.unreadable() from None
            if told.get("choices"):
                chunks.append(shapes.chunk(told))
            if used is not None:
                chunks.append(shapes.chunk({**told, "choices": [], "usage": used}))
        return chunks


def _message(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message with ids of their form; the same id always becomes the same."""
    told = {
        name: value for name, value in message.items() if name not in ("refusal", "annotations", "reasoning_content")
    }
    if told["role"] == "developer":
        told["role"] = "system"
    if told.get("tool_call_id"):
        told["tool_call_id"] = _tool_id(str(told["tool_call_id"]))
    if told.get("tool_calls"):
        told["tool_calls"] = [{**call, "id": _tool_id(str(call.get("id")))} for call in told["tool_calls"]]
    return told


def _tool_id(given: str) -> str:
    return given if _TOOL_ID(given) else hashlib.sha256(given.encode()).hexdigest()[:9]


def _plain(choice: dict[str, Any], where: str) -> None:
    """Content in parts as text, and its thinking as `reasoning_content`; their finish reasons as OpenAI's."""
    message = choice.get(where) or {}
    content = message.get("content")
    if isinstance(content, list):
        thinking = [
            part.get("text", "")
            for block in content
            if block.get("type") == "thinking"
            for part in block.get("thinking") or ()
        ]
        text = [block.get("text", "") for block in content if block.get("type") == "text"]
        message["content"] = "".join(text) if text else None
        if thinking:
            message["reasoning_content"] = "".join(thinking)
    if choice.get("finish_reason") == "model_length":
        choice["finish_reason"] = "length"
