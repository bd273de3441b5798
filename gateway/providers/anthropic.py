"""Anthropic's Messages API, both ways: https://docs.anthropic.com/en/api/messages and …/messages-streaming

What is theirs alone and must come back with the next call, the signature of a thinking block, travels in the
message's `thinking_blocks`; clients that send an assistant message back as they got it keep a tool loop whole.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import msgspec

from gateway.chat import JSON, Chunk
from gateway.errors import BadRequest, UpstreamError, UpstreamFailed
from gateway.providers import shapes
from gateway.providers.dialect import Asked, Capabilities, Outgoing
from gateway.providers.refusals import Said, as_error
from gateway.providers.sse import SseReader

VERSION = "2023-06-01"
_MAX_TOKENS = 4096  # theirs is required; OpenAI's is not
_JSON_TOOL = "answer_in_json"
_FINISH = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
# Tokens to think with for each of OpenAI's levels: https://docs.anthropic.com/en/docs/build-with-claude/extended-thinking
_BUDGETS = {"minimal": 1024, "low": 1024, "medium": 4096, "high": 16384, "xhigh": 32768}
_TYPES = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "overloaded_error": 503,
    "timeout_error": 504,
}


class Anthropic:
    """The dialect. `default_max_tokens` is sent where a request has none."""

    stream_type: ClassVar[bytes] = b"text/event-stream"
    capabilities: ClassVar[Capabilities] = Capabilities(
        fields={
            "chat.completions": frozenset(
                {
                    "max_tokens", "max_completion_tokens", "temperature", "top_p", "top_k", "stop", "tools",
                    "tool_choice", "parallel_tool_calls", "response_format", "reasoning_effort", "thinking",
                }
            )
        },
        images=True,
        tools=True,
        json_schema=True,
        reasoning=True,
        notes=(
            "`temperature` above 1 is refused, as their range ends there.",
            "`response_format` is asked for by a tool whose input is the answer; it can't be mixed with `tools`.",
            "`reasoning_effort` becomes a thinking budget; `thinking` is passed on as it is.",
        ),
    )  # fmt: skip

    def __init__(self, default_max_tokens: int = _MAX_TOKENS) -> None:
        self._max_tokens = default_max_tokens

    def outgoing(self, endpoint: str, asked: Asked, model: str, *, stream: bool) -> Outgoing:
        system, messages = _messages(asked["messages"])
        body: dict[str, Any] = {
            "model": model,
            "messages": messages,
            "max_tokens": asked.get("max_completion_tokens") or asked.get("max_tokens") or self._max_tokens,
        }
        if system:
            body["system"] = system
        if stream:
            body["stream"] = True
        for name in ("top_p", "top_k"):
            if asked.get(name) is not None:
                body[name] = asked[name]
        if (temperature := asked.get("temperature")) is not None:
            if temperature > 1:
                raise BadRequest("This target takes a temperature from 0 to 1.", param="temperature")
            body["temperature"] = temperature
        if stop := asked.get("stop"):
            body["stop_sequences"] = [stop] if isinstance(stop, str) else stop
        _tools(asked, body)
        _thinking(asked, body)
        return Outgoing(b"/v1/messages", JSON.encode(body))

    def answer(self, endpoint: str, body: bytes, asked: Asked) -> dict[str, Any]:
        told = shapes.json_object(body)
        blocks = told.get("content")
        if not isinstance(blocks, list):
            raise UpstreamFailed("The provider's answer holds no content.", code="upstream_bad_answer")
        text, reasoning = [], []
        thinking: list[dict[str, Any]] = []
        calls: list[dict[str, Any]] = []
        for block in blocks:
            kind = block.get("type")
            if kind == "text":
                text.append(block["text"])
            elif kind == "thinking":
                reasoning.append(block["thinking"])
                thinking.append(block)
            elif kind == "redacted_thinking":
                thinking.append(block)
            elif kind == "tool_use" and block["name"] == _JSON_TOOL:
                text.append(json.dumps(block["input"], ensure_ascii=False))
            elif kind == "tool_use":
                arguments = json.dumps(block["input"], ensure_ascii=False)
                call = {"name": block["name"], "arguments": arguments}
                calls.append({"id": block["id"], "type": "function", "function": call})
        finish = _finish(told.get("stop_reason"), calls=bool(calls))
        choice = shapes.choice(
            0,
            finish,
            content="".join(text) if text else None,
            tool_calls=calls,
            reasoning_content="".join(reasoning) or None,
            thinking_blocks=thinking or None,
        )
        return shapes.completion(told.get("model", ""), [choice], _usage(told.get("usage") or {}), told.get("id"))

    def decoder(self, asked: Asked) -> StreamDecoder:
        return StreamDecoder()

    def read_error(self, status: int, headers: Mapping[bytes, bytes], body: bytes) -> Said:
        try:
            error = msgspec.json.decode(body)["error"]
            return _said(error, status)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, KeyError, TypeError):
            return Said(status=503 if status == 529 else None)


class StreamDecoder:
    """Their events, each named by its `type`, to chunks; https://docs.anthropic.com/en/api/messages-streaming"""

    __slots__ = ("_blocks", "_calls", "_finish", "_reader", "_usage", "_writer", "done")

    def __init__(self) -> None:
        self._reader = SseReader()
        self._writer = shapes.ChunkWriter("")
        self._blocks: dict[int, dict[str, Any]] = {}  # by their index, those that are open
        self._calls = 0
        self._finish: str | None = None
        self._usage: dict[str, Any] = {}
        self.done = False

    @property
    def may_end(self) -> bool:
        return False  # a whole stream says message_stop

    def feed(self, segment: bytes) -> list[Chunk]:
        chunks: list[Chunk] = []
        for payload in self._reader.feed(segment):
            event = shapes.json_object(payload)
            try:
                chunks += self._event(event)
            except (KeyError, TypeError, AttributeError):
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
            self._writer = shapes.ChunkWriter(message.get("model", ""), message.get("id"))
            self._usage |= message.get("usage") or {}
            return []
        if kind == "content_block_start":
            return self._start(event["index"], event["content_block"])
        if kind == "content_block_stop":
            return self._stop(event["index"])
        if kind == "message_delta":
            self._finish = event["delta"].get("stop_reason") or self._finish
            self._usage |= {name: value for name, value in (event.get("usage") or {}).items() if value is not None}
            return []
        if kind == "message_stop":
            self.done = True
            finish = _finish(self._finish, calls=self._calls > 0)
            return [self._writer.finish(finish), self._writer.usage(_usage(self._usage))]
        if kind == "error":
            raise _reported(event["error"])
        return []  # ping, and whatever else they may add

    def _start(self, index: int, block: dict[str, Any]) -> list[Chunk]:
        self._blocks[index] = block
        if block["type"] == "text" and block.get("text"):
            return [self._writer.delta({"content": block["text"]})]
        if block["type"] == "tool_use" and block["name"] != _JSON_TOOL:
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
            if block["name"] == _JSON_TOOL:
                return [self._writer.delta({"content": delta["partial_json"]})]
            block["told"] = True
            return [self._writer.arguments(block["order"], delta["partial_json"])]
        if kind == "thinking_delta":
            block["thinking"] = block.get("thinking", "") + delta["thinking"]
            return [self._writer.delta({"reasoning_content": delta["thinking"]})]
        if kind == "signature_delta":
            block["signature"] = block.get("signature", "") + delta["signature"]
        return []

    def _stop(self, index: int) -> list[Chunk]:
        block = self._blocks.pop(index)
        if block["type"] == "tool_use" and block["name"] != _JSON_TOOL and not block.get("told"):
            return [self._writer.arguments(block["order"], "{}")]  # a tool without input streams none
        if block["type"] in ("thinking", "redacted_thinking"):
            return [self._writer.delta({"thinking_blocks": [block]})]
        return []


# -- what goes out ----------------------------------------------------------------------------------------
def _messages(given: Sequence[Mapping[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The system blocks, and turns of user and assistant in alternation: neighbours of one role become one."""
    system: list[dict[str, Any]] = []
    turns: list[dict[str, Any]] = []
    for order, message in enumerate(given):
        role = message["role"]
        if role in ("system", "developer"):
            system += _content(message.get("content"), order)
            continue
        if role in ("tool", "function"):
            role, blocks = "user", [_tool_result(message, order)]
        elif role == "assistant":
            blocks = _assistant(message, order)
        else:
            blocks = _content(message.get("content"), order)
        if not blocks:
            continue
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"] += blocks
        else:
            turns.append({"role": role, "content": blocks})
    if not turns:
        raise BadRequest("This target needs at least one message by the user.", param="messages")
    return system, turns


def _assistant(message: Mapping[str, Any], order: int) -> list[dict[str, Any]]:
    # Thinking comes first, as they ask for when tools are in use; without its signature it could not be sent back.
    blocks = [
        {name: value for name, value in block.items() if name in ("type", "thinking", "signature", "data")}
        for block in message.get("thinking_blocks") or ()
    ]
    said = message.get("content") or message.get("refusal")
    blocks += _content(said, order)
    for call in message.get("tool_calls") or ():
        function = call.get("function") or {}
        arguments = function.get("arguments") or "{}"
        try:
            given = json.loads(arguments)
        except ValueError:
            given = None
        if not isinstance(given, dict):
            raise BadRequest(
                "The arguments of a tool call should be a JSON object.", param=f"messages[{order}].tool_calls"
            )
        blocks.append({"type": "tool_use", "id": call.get("id"), "name": function.get("name"), "input": given})
    return blocks


def _tool_result(message: Mapping[str, Any], order: int) -> dict[str, Any]:
    content = message.get("content")
    told = content if isinstance(content, str) else _content(content, order)
    return {"type": "tool_result", "tool_use_id": message.get("tool_call_id"), "content": told or ""}


def _content(content: Any, order: int) -> list[dict[str, Any]]:
    """OpenAI's content, text or parts, as blocks. They refuse empty text."""
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content else []
    return [block for part in content or () if (block := _part(part, order)) is not None]


def _part(part: Mapping[str, Any], order: int) -> dict[str, Any] | None:
    kind = part.get("type")
    where = f"messages[{order}].content"
    if kind in ("text", "refusal"):
        text = part.get(kind)
        if not text:
            return None
        cached = {"cache_control": part["cache_control"]} if part.get("cache_control") else {}
        return {"type": "text", "text": text, **cached}
    if kind == "image_url":
        url = str((part.get("image_url") or {}).get("url", ""))
        return {"type": "image", "source": _source(url, where)}
    if kind == "file":
        data = str((part.get("file") or {}).get("file_data", ""))
        return {"type": "document", "source": _source(data, where)}
    raise BadRequest(f"This target takes no content of type '{kind}'.", param=where, code="unsupported_parameter")


def _source(url: str, where: str) -> dict[str, Any]:
    """A data URL as base64, an https one as it is: they fetch that."""
    if url.startswith("data:"):
        head, comma, data = url[5:].partition(",")
        media, _, encoding = head.partition(";")
        if not comma or encoding != "base64" or not media:
            raise BadRequest("A data URL should be like data:image/png;base64,…", param=where)
        return {"type": "base64", "media_type": media, "data": data}
    if url.startswith("https://"):
        return {"type": "url", "url": url}
    raise BadRequest("An image or file is a data URL or an https URL.", param=where)


def _tools(asked: Asked, body: dict[str, Any]) -> None:
    tools = [_tool(tool) for tool in asked.get("tools") or ()]
    choice = asked.get("tool_choice")
    form = asked.get("response_format") or {}
    if form.get("type") in ("json_schema", "json_object"):
        if tools:
            raise BadRequest(
                "This target can't give `response_format` and `tools` at once.",
                param="response_format",
                code="unsupported_parameter",
            )
        wanted = form.get("json_schema") or {}
        schema = wanted.get("schema") or {"type": "object"}
        described = wanted.get("description") or "The whole answer, as JSON."
        body["tools"] = [{"name": _JSON_TOOL, "description": described, "input_schema": schema}]
        body["tool_choice"] = {"type": "tool", "name": _JSON_TOOL, "disable_parallel_tool_use": True}
        return
    if not tools:
        return
    body["tools"] = tools
    if isinstance(choice, dict):
        told: dict[str, Any] = {"type": "tool", "name": (choice.get("function") or {}).get("name")}
    else:
        told = {"type": {"required": "any", "none": "none"}.get(choice or "auto", "auto")}
    if asked.get("parallel_tool_calls") is False and told["type"] != "none":
        told["disable_parallel_tool_use"] = True
    if choice is not None or "disable_parallel_tool_use" in told:
        body["tool_choice"] = told


def _tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    function = tool.get("function")
    if tool.get("type") != "function" or not isinstance(function, dict):
        raise BadRequest("This target takes tools of type 'function'.", param="tools", code="unsupported_parameter")
    told = {
        "name": function.get("name"),
        "input_schema": function.get("parameters") or {"type": "object", "properties": {}},
    }
    if function.get("description"):
        told["description"] = function["description"]
    return told


def _thinking(asked: Asked, body: dict[str, Any]) -> None:
    if (thinking := asked.get("thinking")) is not None:
        body["thinking"] = thinking
        return
    budget = _BUDGETS.get(asked.get("reasoning_effort") or "none")
    if budget is None:
        return
    # An answer needs room beside its thinking, and thinking goes with their default temperature and no forced tool.
    if body["max_tokens"] <= budget:
        body["max_tokens"] += budget
    body["thinking"] = {"type": "enabled", "budget_tokens": budget}
    body.pop("temperature", None)
    body.pop("top_k", None)


# -- what comes back --------------------------------------------------------------------------------------
def _finish(reason: str | None, *, calls: bool) -> str:
    if reason == "tool_use" and not calls:
        return "stop"  # the tool that carries a JSON answer
    return _FINISH.get(reason or "", "stop")


def _usage(used: Mapping[str, Any]) -> dict[str, Any]:
    """Their input tokens leave out what was read from or written to the prompt cache; OpenAI's hold all."""
    read = used.get("cache_read_input_tokens") or 0
    written = used.get("cache_creation_input_tokens") or 0
    prompt = (used.get("input_tokens") or 0) + read + written
    return shapes.usage(prompt, used.get("output_tokens") or 0, cached=read, cache_written=written)


def _said(error: Mapping[str, Any], status: int) -> Said:
    """Their error types are OpenAI's for the most part; 529 means overloaded."""
    kind = str(error.get("type") or "")
    return Said(str(error.get("message") or ""), kind or None, None, None, 503 if status == 529 else None)


def _reported(error: Mapping[str, Any]) -> UpstreamError:
    """An error told in a stream, under status 200."""
    said = _said(error, 200)
    status = _TYPES.get(said.type or "", 500)
    return as_error(status, {}, said, ())
