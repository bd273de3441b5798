"""Anthropic's Messages API: what comes back, whole, streamed or as an error.

https://platform.claude.com/docs/en/api/messages, …/build-with-claude/streaming and …/api/errors
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from gateway.chunks import Chunk
from gateway.errors import UpstreamError, UpstreamFailed
from gateway.providers import shapes
from gateway.providers.refusals import Said, as_error
from gateway.providers.sse import SseReader

JSON_TOOL = "answer_in_json"
"""The tool whose input is an answer in JSON, for models that keep to no schema by themselves."""
_FINISH = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
_STATUSES = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "overloaded_error": 503,
    "timeout_error": 504,
}
_FIELD = re.compile(r"([a-z_]+(?:\.\w+)*): ")


def read_answer(body: bytes) -> dict[str, Any]:
    """A whole answer in OpenAI's shape. Raises UpstreamFailed."""
    told = _decoded(body)
    try:
        return _completion(told)
    except (KeyError, TypeError, AttributeError):
        raise UpstreamFailed("The provider's answer can't be read.", code="upstream_bad_answer") from None


def _completion(told: Mapping[str, Any]) -> dict[str, Any]:
    text, reasoning = [], []
    thinking: list[dict[str, Any]] = []
    calls: list[dict[str, Any]] = []
    for block in told["content"]:
        kind = block["type"]
        if kind == "text":
            text.append(block["text"])
        elif kind == "thinking":
            reasoning.append(block["thinking"])
            thinking.append(block)
        elif kind == "redacted_thinking":
            thinking.append(block)
        elif kind == "tool_use" and block["name"] == JSON_TOOL:
            text.append(json.dumps(block["input"], ensure_ascii=False))
        elif kind == "tool_use":
            arguments = json.dumps(block["input"], ensure_ascii=False)
            calls.append(shapes.tool_call(block["id"], block["name"], arguments))
    choice = shapes.choice(
        0,
        _finish(told.get("stop_reason"), calls=bool(calls)),
        content="".join(text) if text else None,
        tool_calls=calls,
        refusal=_refusal(told),
        reasoning_content="".join(reasoning) or None,
        thinking_blocks=thinking or None,
    )
    if told.get("stop_sequence"):
        choice["stop_reason"] = told["stop_sequence"]  # where vLLM says it too; OpenAI does not say
    return shapes.completion(told.get("model") or "", [choice], _usage(told.get("usage") or {}), told.get("id"))


def read_error(status: int, body: bytes) -> Said:
    """What an error's answer says; nothing where it can't be read."""
    try:
        return _said(msgspec.json.decode(body)["error"], status)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, KeyError, TypeError, AttributeError):
        return Said(status=503 if status == 529 else None)


class StreamDecoder:
    """Their events, each named by its `type`, to chunks.

    A thought's words come as `reasoning_content`; when it is whole, it comes again as it must be sent back, with its
    signature, in `thinking_blocks`, whose items carry an `index` in a stream, as tool calls do.
    """

    __slots__ = ("_blocks", "_calls", "_reader", "_stop", "_thoughts", "_usage", "_writer", "done")

    def __init__(self) -> None:
        self._reader = SseReader()
        self._writer = shapes.ChunkWriter("")
        self._blocks: dict[int, dict[str, Any]] = {}  # by their index, those that are open
        self._calls = 0
        self._thoughts = 0
        self._stop: dict[str, Any] = {}
        self._usage: dict[str, Any] = {}
        self.done = False

    @property
    def may_end(self) -> bool:
        return False  # a whole stream says message_stop

    def feed(self, segment: bytes) -> list[Chunk]:
        chunks: list[Chunk] = []
        for payload in self._reader.feed(segment):
            event = _decoded(payload)
            try:
                chunks += self._event(event)
            except (KeyError, TypeError, AttributeError, ValueError):
                raise UpstreamFailed(
                    "The provider sent an event that can't be read.", code="upstream_bad_answer"
                ) from None
            if self.done:
                break
        return chunks

    def _event(self, event: dict[str, Any]) -> list[Chunk]:
        kind = event.get("type")
        if kind == "content_block_delta":
            return self._delta(event["index"], event["delta"])
        if kind == "message_start":
            message = event["message"]
            self._writer = shapes.ChunkWriter(message.get("model") or "", message.get("id"))
            self._usage |= message.get("usage") or {}
            return []
        if kind == "content_block_start":
            return self._start(event["index"], event["content_block"])
        if kind == "content_block_stop":
            return self._end(event["index"])
        if kind == "message_delta":
            self._stop |= {name: value for name, value in event["delta"].items() if value is not None}
            self._usage |= {name: value for name, value in (event.get("usage") or {}).items() if value is not None}
            return []
        if kind == "message_stop":
            return self._last()
        if kind == "error":
            raise _reported(event["error"])
        return []  # ping, and whatever else they may add

    def _start(self, index: int, block: dict[str, Any]) -> list[Chunk]:
        self._blocks[index] = block
        if block["type"] == "text" and block.get("text"):
            return [self._writer.delta({"content": block["text"]})]
        if block["type"] == "tool_use" and block["name"] != JSON_TOOL:
            block["order"] = self._calls
            self._calls += 1
            return [self._writer.tool_call(block["order"], id=block["id"], name=block["name"])]
        return []

    def _delta(self, index: int, delta: dict[str, Any]) -> list[Chunk]:
        block = self._blocks[index]
        kind = delta["type"]
        if kind == "text_delta":
            return [self._writer.delta({"content": delta["text"]})]
        if kind == "input_json_delta":
            if not delta["partial_json"]:
                return []
            block["told"] = True
            return [self._arguments(block, delta["partial_json"])]
        if kind == "thinking_delta":
            block["thinking"] = block.get("thinking", "") + delta["thinking"]
            return [self._writer.delta({"reasoning_content": delta["thinking"]})]
        if kind == "signature_delta":
            block["signature"] = block.get("signature", "") + delta["signature"]
        return []

    def _end(self, index: int) -> list[Chunk]:
        block = self._blocks.pop(index)
        if block["type"] == "tool_use" and not block.get("told"):
            # A tool without input streams none; a server that imitates them may have told it at the start.
            return [self._arguments(block, json.dumps(block.get("input") or {}, ensure_ascii=False))]
        if block["type"] in ("thinking", "redacted_thinking"):
            thought = {"index": self._thoughts, **block}
            self._thoughts += 1
            return [self._writer.delta({"thinking_blocks": [thought]})]
        return []

    def _arguments(self, block: Mapping[str, Any], piece: str) -> Chunk:
        if block["name"] == JSON_TOOL:
            return self._writer.delta({"content": piece})
        return self._writer.arguments(block["order"], piece)

    def _last(self) -> list[Chunk]:
        self.done = True
        chunks = []
        if refusal := _refusal(self._stop):
            chunks.append(self._writer.delta({"refusal": refusal}))
        finish = _finish(self._stop.get("stop_reason"), calls=self._calls > 0)
        sequence = self._stop.get("stop_sequence")
        more = {"stop_reason": sequence} if sequence else {}
        return [*chunks, self._writer.finish(finish, **more), self._writer.usage(_usage(self._usage))]


def _finish(reason: str | None, *, calls: bool) -> str:
    if reason == "tool_use" and not calls:
        return "stop"  # the tool that carries a JSON answer
    return _FINISH.get(reason or "", "stop")


def _refusal(told: Mapping[str, Any]) -> str | None:
    """Why the vendor's own classifiers ended the answer, in its words."""
    if told.get("stop_reason") != "refusal":
        return None
    details = told.get("stop_details") or {}
    return details.get("explanation") or details.get("category") or None


def _usage(used: Mapping[str, Any]) -> dict[str, Any]:
    """Their input tokens leave out what was read from or written to the prompt cache; OpenAI's hold all."""
    read = used.get("cache_read_input_tokens") or 0
    written = used.get("cache_creation_input_tokens") or 0
    prompt = (used.get("input_tokens") or 0) + read + written
    thought = (used.get("output_tokens_details") or {}).get("thinking_tokens") or 0
    return shapes.usage(prompt, used.get("output_tokens") or 0, cached=read, cache_written=written, reasoning=thought)


def _decoded(data: bytes) -> dict[str, Any]:
    try:
        told = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        told = None
    if not isinstance(told, dict):
        raise UpstreamFailed("The provider's answer is not valid JSON.", code="upstream_bad_answer")
    return told


def _said(error: Mapping[str, Any], status: int) -> Said:
    """Their error types are OpenAI's for the most part; 529 means overloaded. The field at fault begins the words."""
    message, kind = str(error.get("message") or ""), error.get("type")
    field = _FIELD.match(message)
    code = (error.get("details") or {}).get("error_code")
    if message.startswith("prompt is too long"):
        code = "context_length_exceeded"  # by which OpenAI's clients know it
    return Said(
        message,
        str(kind) if kind else None,
        field[1] if field else None,
        str(code) if code else None,
        503 if status == 529 else None,
    )


def _reported(error: Mapping[str, Any]) -> UpstreamError:
    """An error told in a stream, under status 200."""
    said = _said(error, 200)
    return as_error(_STATUSES.get(said.type or "", 500), {}, said, ())
