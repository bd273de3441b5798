"""Amazon Bedrock's Converse and ConverseStream: one format for all of its chat models.

https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html; streams come in AWS's event-stream
framing, which botocore reads. Reasoning that must come back with the next call travels in `thinking_blocks`.
"""

from __future__ import annotations

import base64
import binascii
import json
import secrets
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar
from urllib.parse import quote

import msgspec
from botocore.eventstream import EventStreamBuffer, ParserError

from gateway.chat import JSON
from gateway.chunks import Chunk
from gateway.errors import BadRequest, UpstreamError, UpstreamFailed
from gateway.providers import shapes
from gateway.providers.dialect import Asked, Capabilities, Outgoing
from gateway.providers.refusals import Said, as_error

_FINISH = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "guardrail_intervened": "content_filter",
    "content_filtered": "content_filter",
}
# Exceptions to statuses: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ConverseStream.html
_EXCEPTIONS = {
    "validationException": 400,
    "throttlingException": 429,
    "modelNotReadyException": 503,
    "serviceUnavailableException": 503,
    "modelTimeoutException": 408,
    "internalServerException": 500,
    "modelStreamErrorException": 502,
    "modelErrorException": 502,
}
_IMAGES = ("png", "jpeg", "gif", "webp")
_DOCUMENTS = {
    "application/pdf": "pdf",
    "text/csv": "csv",
    "text/html": "html",
    "text/plain": "txt",
    "text/markdown": "md",
}


class Bedrock:
    """The dialect."""

    stream_type: ClassVar[bytes] = b"application/vnd.amazon.eventstream"
    capabilities: ClassVar[Capabilities] = Capabilities(
        fields={
            "chat.completions": frozenset(
                {
                    "max_tokens", "max_completion_tokens", "temperature", "top_p", "stop", "tools", "tool_choice",
                    "additional_model_request_fields",
                }
            ),
            "embeddings": frozenset({"input", "dimensions", "encoding_format", "input_type"}),
        },
        images=True,
        tools=True,
        reasoning=True,
        notes=(
            "Images and documents are data URLs: Converse fetches nothing.",
            "`additional_model_request_fields` is passed on to the model as it is, such as Claude's `thinking`.",
            "Embeddings by Titan (one text a call) and Cohere models.",
        ),
    )  # fmt: skip

    def outgoing(self, endpoint: str, asked: Asked, model: str, *, stream: bool) -> Outgoing:
        where = f"/model/{quote(model, safe='')}"
        if endpoint == "embeddings":
            return Outgoing(f"{where}/invoke".encode("ascii"), JSON.encode(_embeddings(asked, model)))
        system, messages = _messages(asked["messages"])
        body: dict[str, Any] = {"messages": messages}
        if system:
            body["system"] = system
        inference: dict[str, Any] = {}
        for ours, theirs in (
            ("max_tokens", "maxTokens"),
            ("max_completion_tokens", "maxTokens"),
            ("temperature", "temperature"),
            ("top_p", "topP"),
        ):
            if asked.get(ours) is not None:
                inference[theirs] = asked[ours]
        if stop := asked.get("stop"):
            inference["stopSequences"] = [stop] if isinstance(stop, str) else stop
        if inference:
            body["inferenceConfig"] = inference
        _tools(asked, body)
        if asked.get("additional_model_request_fields"):
            body["additionalModelRequestFields"] = asked["additional_model_request_fields"]
        method = "converse-stream" if stream else "converse"
        return Outgoing(f"{where}/{method}".encode("ascii"), JSON.encode(body))

    def answer(self, endpoint: str, body: bytes, asked: Asked) -> dict[str, Any]:
        told = shapes.json_object(body)
        try:
            if endpoint == "embeddings":
                return _embedded(told, asked)
            text, reasoning = [], []
            thinking: list[dict[str, Any]] = []
            calls: list[dict[str, Any]] = []
            for block in told["output"]["message"]["content"]:
                if "text" in block:
                    text.append(block["text"])
                elif "toolUse" in block:
                    calls.append(_tool_call(block["toolUse"]))
                elif "reasoningContent" in block:
                    reasoning.append((block["reasoningContent"].get("reasoningText") or {}).get("text", ""))
                    thinking.append(block["reasoningContent"])
            choice = shapes.choice(
                0,
                _FINISH.get(told.get("stopReason", ""), "stop"),
                content="".join(text) if text else None,
                tool_calls=calls,
                reasoning_content="".join(reasoning) or None,
                thinking_blocks=thinking or None,
            )
            return shapes.completion(str(asked["model"]), [choice], _usage(told.get("usage") or {}))
        except (KeyError, TypeError, AttributeError):
            raise UpstreamFailed("The provider's answer can't be read.", code="upstream_bad_answer") from None

    def decoder(self, asked: Asked) -> StreamDecoder:
        return StreamDecoder(str(asked["model"]))

    def read_error(self, status: int, headers: Mapping[bytes, bytes], body: bytes) -> Said:
        kind = headers.get(b"x-amzn-errortype", b"").decode("latin-1").split(":")[0]
        try:
            told = msgspec.json.decode(body)
            message = str(told.get("message") or told.get("Message") or "")
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, AttributeError):
            message = ""
        # A model that is still being loaded answers 429 as a throttled one does; both come back by themselves.
        return Said(message, None, None, kind or None)


class StreamDecoder:
    """AWS's event stream to chunks."""

    __slots__ = ("_blocks", "_buffer", "_calls", "_ended", "_writer", "done")

    def __init__(self, model: str) -> None:
        self._buffer = EventStreamBuffer()
        self._writer = shapes.ChunkWriter(model)
        self._blocks: dict[int, dict[str, Any]] = {}
        self._calls = 0
        self._ended = False
        self.done = False

    @property
    def may_end(self) -> bool:
        return self._ended  # `metadata`, with the usage, may be left out

    def feed(self, segment: bytes) -> list[Chunk]:
        chunks: list[Chunk] = []
        try:
            self._buffer.add_data(segment)
            for message in self._buffer:
                headers = message.headers
                payload = shapes.json_object(message.payload)
                if headers.get(":message-type") != "event":
                    raise _reported(str(headers.get(":exception-type") or headers.get(":error-code") or ""), payload)
                chunks += self._event(str(headers.get(":event-type")), payload)
        except ParserError:
            raise UpstreamFailed("The provider's stream is damaged.", code="upstream_bad_answer") from None
        except (KeyError, TypeError, AttributeError):
            raise UpstreamFailed("The provider sent an event that can't be read.", code="upstream_bad_answer") from None
        return chunks

    def _event(self, kind: str, event: dict[str, Any]) -> list[Chunk]:
        if kind == "contentBlockDelta":
            return self._delta(event["contentBlockIndex"], event["delta"])
        if kind == "contentBlockStart":
            call = event["start"].get("toolUse")
            if call is None:
                return []
            self._blocks[event["contentBlockIndex"]] = {"order": self._calls, "told": False}
            self._calls += 1
            return [self._writer.tool_call(self._calls - 1, id=call["toolUseId"], name=call["name"])]
        if kind == "contentBlockStop":
            return self._stop(event["contentBlockIndex"])
        if kind == "messageStop":
            self._ended = True
            return [self._writer.finish(_FINISH.get(event.get("stopReason", ""), "stop"))]
        if kind == "metadata":
            self.done = True
            return [self._writer.usage(_usage(event.get("usage") or {}))]
        return []

    def _delta(self, index: int, delta: dict[str, Any]) -> list[Chunk]:
        if "text" in delta:
            return [self._writer.delta({"content": delta["text"]})]
        if "toolUse" in delta:
            block = self._blocks[index]
            piece = delta["toolUse"].get("input") or ""
            block["told"] = block["told"] or bool(piece)
            return [self._writer.arguments(block["order"], piece)] if piece else []
        if "reasoningContent" in delta:
            told = delta["reasoningContent"]
            block = self._blocks.setdefault(index, {"text": "", "signature": ""})
            if "redactedContent" in told:
                block["redacted"] = told["redactedContent"]
            block["signature"] += told.get("signature") or ""
            if text := told.get("text"):
                block["text"] += text
                return [self._writer.delta({"reasoning_content": text})]
        return []

    def _stop(self, index: int) -> list[Chunk]:
        block = self._blocks.pop(index, None)
        if block is None:
            return []
        if "order" in block:
            return [] if block["told"] else [self._writer.arguments(block["order"], "{}")]
        if "redacted" in block:
            return [self._writer.delta({"thinking_blocks": [{"redactedContent": block["redacted"]}]})]
        kept = {"text": block["text"]} | ({"signature": block["signature"]} if block["signature"] else {})
        return [self._writer.delta({"thinking_blocks": [{"reasoningText": kept}]})]


# -- what goes out ----------------------------------------------------------------------------------------
def _messages(given: Sequence[Mapping[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The system texts, and turns of user and assistant in alternation."""
    system: list[dict[str, Any]] = []
    turns: list[dict[str, Any]] = []
    for order, message in enumerate(given):
        role = message["role"]
        if role in ("system", "developer"):
            system += _content(message.get("content"), order)
            continue
        if role in ("tool", "function"):
            role = "user"
            result = {"toolUseId": message.get("tool_call_id"), "content": _result(message, order)}
            blocks: list[dict[str, Any]] = [{"toolResult": result}]
        elif role == "assistant":
            blocks = [{"reasoningContent": block} for block in message.get("thinking_blocks") or ()]
            blocks += _content(message.get("content") or message.get("refusal"), order)
            blocks += [_tool_use(call, order) for call in message.get("tool_calls") or ()]
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


def _result(message: Mapping[str, Any], order: int) -> list[dict[str, Any]]:
    content = message.get("content")
    if isinstance(content, str):
        return [{"text": content}]
    return _content(content, order) or [{"text": ""}]


def _tool_use(call: Mapping[str, Any], order: int) -> dict[str, Any]:
    function = call.get("function") or {}
    try:
        given = json.loads(function.get("arguments") or "{}")
    except ValueError:
        given = None
    if not isinstance(given, dict):
        where = f"messages[{order}].tool_calls"
        raise BadRequest("The arguments of a tool call should be a JSON object.", param=where)
    return {"toolUse": {"toolUseId": call.get("id"), "name": function.get("name"), "input": given}}


def _content(content: Any, order: int) -> list[dict[str, Any]]:
    if isinstance(content, str):
        return [{"text": content}] if content else []
    return [block for part in content or () if (block := _part(part, f"messages[{order}].content")) is not None]


def _part(part: Mapping[str, Any], where: str) -> dict[str, Any] | None:
    kind = part.get("type")
    if kind in ("text", "refusal"):
        return {"text": part[kind]} if part.get(kind) else None
    if kind == "image_url":
        media, data = _data(str((part.get("image_url") or {}).get("url", "")), where)
        form = media.removeprefix("image/").replace("jpg", "jpeg")
        if form not in _IMAGES:
            raise BadRequest(f"This target takes images of type {', '.join(_IMAGES)}.", param=where)
        return {"image": {"format": form, "source": {"bytes": data}}}
    if kind == "file":
        file = part.get("file") or {}
        media, data = _data(str(file.get("file_data", "")), where)
        if media not in _DOCUMENTS:
            raise BadRequest(f"This target takes documents of type {', '.join(_DOCUMENTS)}.", param=where)
        return {"document": {"format": _DOCUMENTS[media], "name": "document", "source": {"bytes": data}}}
    raise BadRequest(f"This target takes no content of type '{kind}'.", param=where, code="unsupported_parameter")


def _data(url: str, where: str) -> tuple[str, str]:
    """A data URL's media type and base64; anything else would have to be fetched, which Converse does not."""
    head, comma, data = url.removeprefix("data:").partition(",")
    media, _, encoding = head.partition(";")
    if not url.startswith("data:") or not comma or encoding != "base64":
        raise BadRequest(
            "This target takes images and files as data URLs only, like data:image/png;base64,…",
            param=where,
            code="unsupported_parameter",
        )
    try:
        base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        raise BadRequest("A data URL's data is not base64.", param=where) from None
    return media, data


def _tools(asked: Asked, body: dict[str, Any]) -> None:
    specs = []
    for tool in asked.get("tools") or ():
        function = tool.get("function")
        if tool.get("type") != "function" or not isinstance(function, dict):
            raise BadRequest("This target takes tools of type 'function'.", param="tools", code="unsupported_parameter")
        schema = function.get("parameters") or {"type": "object", "properties": {}}
        spec = {"name": function.get("name"), "inputSchema": {"json": schema}}
        if function.get("description"):
            spec["description"] = function["description"]
        specs.append({"toolSpec": spec})
    choice = asked.get("tool_choice")
    if not specs or choice == "none":
        return  # Converse has no "none": without tools there is none to call
    body["toolConfig"] = {"tools": specs}
    if isinstance(choice, dict):
        body["toolConfig"]["toolChoice"] = {"tool": {"name": (choice.get("function") or {}).get("name")}}
    elif choice == "required":
        body["toolConfig"]["toolChoice"] = {"any": {}}


def _embeddings(asked: Asked, model: str) -> dict[str, Any]:
    given = asked["input"]
    texts = [given] if isinstance(given, str) else list(given)
    if not all(isinstance(text, str) for text in texts):
        raise BadRequest("This target embeds texts, not tokens.", param="input", code="unsupported_parameter")
    if "cohere." in model:
        return {
            "texts": texts,
            "input_type": asked.get("input_type") or "search_document",
            "embedding_types": ["float"],
        }
    if len(texts) != 1:
        raise BadRequest("This target embeds one text a call.", param="input", code="unsupported_parameter")
    return {"inputText": texts[0]} | ({"dimensions": asked["dimensions"]} if asked.get("dimensions") else {})


# -- what comes back --------------------------------------------------------------------------------------
def _embedded(told: Mapping[str, Any], asked: Asked) -> dict[str, Any]:
    if "embedding" in told:
        vectors = [told["embedding"]]
    else:
        found = told["embeddings"]
        vectors = found["float"] if isinstance(found, dict) else found
    used = shapes.usage(told.get("inputTextTokenCount") or 0, 0)
    return shapes.embeddings(
        str(asked["model"]), [shapes.vector(one, asked.get("encoding_format")) for one in vectors], used
    )


def _tool_call(call: Mapping[str, Any]) -> dict[str, Any]:
    arguments = json.dumps(call.get("input") or {}, ensure_ascii=False)
    return shapes.tool_call(call.get("toolUseId") or f"call_{secrets.token_hex(12)}", call["name"], arguments)


def _usage(used: Mapping[str, Any]) -> dict[str, Any]:
    """Their input tokens leave out what was read from or written to the prompt cache; OpenAI's hold all."""
    read = used.get("cacheReadInputTokens") or 0
    written = used.get("cacheWriteInputTokens") or 0
    prompt = (used.get("inputTokens") or 0) + read + written
    return shapes.usage(prompt, used.get("outputTokens") or 0, cached=read, cache_written=written)


def _reported(kind: str, payload: Mapping[str, Any]) -> UpstreamError:
    status = _EXCEPTIONS.get(kind[:1].lower() + kind[1:], 500)
    return as_error(status, {}, Said(str(payload.get("message") or ""), None, None, kind or None), ())
