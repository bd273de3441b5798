"""Cohere's v2 API: chat, embed, rerank. https://docs.cohere.com/reference/chat and …/chat-stream"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import msgspec

from gateway.chat import JSON
from gateway.chunks import Chunk
from gateway.errors import BadRequest, UpstreamFailed
from gateway.providers import shapes
from gateway.providers.dialect import Asked, Capabilities, Outgoing
from gateway.providers.refusals import Said
from gateway.providers.sse import SseReader

_FINISH = {
    "COMPLETE": "stop",
    "STOP_SEQUENCE": "stop",
    "MAX_TOKENS": "length",
    "TOOL_CALL": "tool_calls",
    "TIMEOUT": "length",
}
_RENAMED = {
    "max_completion_tokens": "max_tokens",
    "max_tokens": "max_tokens",
    "temperature": "temperature",
    "top_p": "p",
    "top_k": "k",
    "seed": "seed",
    "frequency_penalty": "frequency_penalty",
    "presence_penalty": "presence_penalty",
    "logprobs": "logprobs",
    "safety_mode": "safety_mode",
    "documents": "documents",
}


class Cohere:
    """The dialect."""

    stream_type: ClassVar[bytes] = b"text/event-stream"
    capabilities: ClassVar[Capabilities] = Capabilities(
        fields={
            "chat.completions": frozenset(_RENAMED)
            | {"stop", "tools", "tool_choice", "response_format", "reasoning_effort"},
            "embeddings": frozenset({"input", "dimensions", "encoding_format", "input_type"}),
            "rerank": frozenset({"query", "documents", "top_n", "return_documents", "max_tokens_per_doc"}),
        },
        images=True,
        tools=True,
        json_schema=True,
        reasoning=True,
        notes=(
            "`tool_choice` can't name a function: `auto`, `required` and `none` are there.",
            "`reasoning_effort` switches thinking on or off (`none`); their API has no grades of it.",
            "`logprobs` come by pieces of text, which may be several tokens; there are no `top_logprobs`.",
            "`input_type` of embeddings is `search_document` where a request has none; theirs is required.",
        ),
    )

    def outgoing(self, endpoint: str, asked: Asked, model: str, *, stream: bool) -> Outgoing:
        if endpoint == "embeddings":
            return Outgoing(b"/v2/embed", JSON.encode(_embed(asked, model)))
        if endpoint == "rerank":
            names = ("query", "documents", "top_n", "max_tokens_per_doc")
            body = {name: asked[name] for name in names if asked.get(name) is not None}
            body["documents"] = [one if isinstance(one, str) else one.get("text", "") for one in body["documents"]]
            return Outgoing(b"/v2/rerank", JSON.encode({"model": model, **body}))
        body = {"model": model, "messages": [_message(m, order) for order, m in enumerate(asked["messages"])]}
        for ours, theirs in _RENAMED.items():
            if asked.get(ours) is not None:
                body[theirs] = asked[ours]
        body["stream"] = stream
        if stop := asked.get("stop"):
            body["stop_sequences"] = [stop] if isinstance(stop, str) else stop
        _tools(asked, body)
        form = asked.get("response_format") or {}
        if form.get("type") in ("json_object", "json_schema"):
            body["response_format"] = {"type": "json_object"}
            if schema := (form.get("json_schema") or {}).get("schema"):
                body["response_format"]["json_schema"] = schema
        effort = asked.get("reasoning_effort")
        if effort is not None:
            body["thinking"] = {"type": "disabled" if effort == "none" else "enabled"}
        return Outgoing(b"/v2/chat", JSON.encode(body))

    def answer(self, endpoint: str, body: bytes, asked: Asked) -> dict[str, Any]:
        told = shapes.json_object(body)
        try:
            if endpoint == "rerank":
                return _reranked(told, asked)
            if endpoint == "embeddings":
                billed = ((told.get("meta") or {}).get("billed_units") or {}).get("input_tokens") or 0
                form = asked.get("encoding_format")
                vectors = [shapes.vector(one, form) for one in told["embeddings"]["float"]]
                return shapes.embeddings(str(asked["model"]), vectors, shapes.usage(int(billed), 0))
            finish = _finish(told.get("finish_reason"))
            message = told["message"]
            blocks = message.get("content") or ()
            text = [block["text"] for block in blocks if block.get("type") == "text"]
            thinking = [block["thinking"] for block in blocks if block.get("type") == "thinking"]
            reasoning = "".join(thinking) + (message.get("tool_plan") or "")
            choice = shapes.choice(
                0,
                finish,
                content="".join(text) if text or not message.get("tool_calls") else None,
                tool_calls=[_tool_call(call) for call in message.get("tool_calls") or ()],
                logprobs=_logprobs(told.get("logprobs") or ()),
                reasoning_content=reasoning or None,
                citations=message.get("citations") or None,
            )
            return shapes.completion(str(asked["model"]), [choice], _usage(told.get("usage")), told.get("id"))
        except (LookupError, TypeError, AttributeError, ValueError):
            raise UpstreamFailed("The provider's answer can't be read.", code="upstream_bad_answer") from None

    def decoder(self, asked: Asked) -> StreamDecoder:
        return StreamDecoder(str(asked["model"]))

    def read_error(self, status: int, headers: Mapping[bytes, bytes], body: bytes) -> Said:
        if status == 498:
            return Said(status=401)  # their word for a bad token; the gateway's own, so no caller's matter
        try:
            return Said(str(msgspec.json.decode(body)["message"]))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, KeyError, TypeError):
            return Said()


class StreamDecoder:
    """Their typed events to chunks: https://docs.cohere.com/docs/streaming"""

    __slots__ = ("_model", "_reader", "_writer", "done")

    def __init__(self, model: str) -> None:
        self._model = model
        self._reader = SseReader()
        self._writer = shapes.ChunkWriter(model)
        self.done = False

    @property
    def may_end(self) -> bool:
        return False  # a whole stream says message-end

    def feed(self, segment: bytes) -> list[Chunk]:
        chunks: list[Chunk] = []
        for payload in self._reader.feed(segment):
            if payload == b"[DONE]":
                continue
            try:
                chunks += self._event(shapes.json_object(payload))
            except (KeyError, TypeError, AttributeError, ValueError):
                raise UpstreamFailed(
                    "The provider sent an event that can't be read.", code="upstream_bad_answer"
                ) from None
            if self.done:
                break
        return chunks

    def _event(self, event: dict[str, Any]) -> list[Chunk]:
        kind = event.get("type")
        if kind == "message-start":
            self._writer = shapes.ChunkWriter(self._model, event.get("id"))
            return []
        if kind == "message-end":
            return self._end(event["delta"])
        if kind == "citation-start":
            return [self._writer.delta({"citations": [event["delta"]["message"]["citations"]]})]
        if kind not in ("content-start", "content-delta", "tool-plan-delta", "tool-call-start", "tool-call-delta"):
            return []  # ends of blocks, and whatever else they may add
        message = event["delta"]["message"]
        if kind in ("content-start", "content-delta"):
            content = message["content"]
            if content.get("thinking"):
                return [self._writer.delta({"reasoning_content": content["thinking"]})]
            logprobs = _logprobs([event["logprobs"]]) if event.get("logprobs") else None
            return [self._writer.delta({"content": content["text"]}, 0, logprobs)] if content.get("text") else []
        if kind == "tool-plan-delta":
            return [self._writer.delta({"reasoning_content": message["tool_plan"]})]
        call = message["tool_calls"]
        if kind == "tool-call-start":
            function = call["function"]
            return [
                self._writer.tool_call(
                    event["index"], id=call["id"], name=function["name"], arguments=function.get("arguments") or ""
                )
            ]
        return [self._writer.arguments(event["index"], call["function"]["arguments"])]

    def _end(self, delta: Mapping[str, Any]) -> list[Chunk]:
        if delta.get("error"):
            raise UpstreamFailed("The provider reported an error in its stream.")
        finish = _finish(delta.get("finish_reason"))
        self.done = True
        return [self._writer.finish(finish), self._writer.usage(_usage(delta.get("usage")))]


# -- what goes out ----------------------------------------------------------------------------------------
def _message(message: Mapping[str, Any], order: int) -> dict[str, Any]:
    role = {"developer": "system", "function": "tool"}.get(message["role"], message["role"])
    told: dict[str, Any] = {"role": role}
    content = message.get("content")
    if content is None:
        content = message.get("refusal")
    if content is not None:
        told["content"] = content if isinstance(content, str) else [_part(part, order) for part in content]
    if role == "tool":
        told["tool_call_id"] = message.get("tool_call_id")
    if message.get("tool_calls"):
        told["tool_calls"] = [
            {"id": call.get("id"), "type": "function", "function": call.get("function")}
            for call in message["tool_calls"]
        ]
        if message.get("reasoning_content"):
            told["tool_plan"] = message["reasoning_content"]
    return told


def _part(part: Mapping[str, Any], order: int) -> dict[str, Any]:
    kind = part.get("type")
    if kind in ("text", "refusal"):
        return {"type": "text", "text": part.get(kind) or ""}
    if kind == "image_url":
        image = part.get("image_url") or {}
        return {"type": "image_url", "image_url": {name: image[name] for name in ("url", "detail") if image.get(name)}}
    where = f"messages[{order}].content"
    raise BadRequest(f"This target takes no content of type '{kind}'.", param=where, code="unsupported_parameter")


def _tools(asked: Asked, body: dict[str, Any]) -> None:
    if asked.get("tools"):
        body["tools"] = [_tool(tool, order) for order, tool in enumerate(asked["tools"])]
        if any((tool.get("function") or {}).get("strict") for tool in asked["tools"]):
            body["strict_tools"] = True
    choice = asked.get("tool_choice")
    if isinstance(choice, dict):
        raise BadRequest(
            "This target can't be told which function to call: tool_choice is auto, required or none.",
            param="tool_choice",
            code="unsupported_parameter",
        )
    if choice in ("required", "none"):
        body["tool_choice"] = choice.upper()


def _tool(tool: Mapping[str, Any], order: int) -> dict[str, Any]:
    function = tool.get("function")
    if tool.get("type") != "function" or not isinstance(function, dict):
        where = f"tools[{order}].type"
        raise BadRequest("This target takes tools of type 'function'.", param=where, code="unsupported_parameter")
    told = {"name": function.get("name"), "parameters": function.get("parameters") or {"type": "object"}}
    if function.get("description"):
        told["description"] = function["description"]
    return {"type": "function", "function": told}


def _embed(asked: Asked, model: str) -> dict[str, Any]:
    given = asked["input"]
    texts = [given] if isinstance(given, str) else list(given)
    if not all(isinstance(text, str) for text in texts):
        raise BadRequest("This target embeds texts, not tokens.", param="input", code="unsupported_parameter")
    body = {
        "model": model,
        "texts": texts,
        "input_type": asked.get("input_type") or "search_document",
        "embedding_types": ["float"],
    }
    if asked.get("dimensions"):
        body["output_dimension"] = asked["dimensions"]
    return body


# -- what comes back --------------------------------------------------------------------------------------
def _tool_call(call: Mapping[str, Any]) -> dict[str, Any]:
    function = call["function"]
    return shapes.tool_call(call["id"], function["name"], function.get("arguments") or "{}")


def _reranked(told: Mapping[str, Any], asked: Asked) -> dict[str, Any]:
    """In the shape that Cohere, Jina and vLLM share, with the documents where they were asked for."""
    results = []
    for one in told["results"]:
        document = asked["documents"][one["index"]]
        result = {"index": one["index"], "relevance_score": float(one["relevance_score"])}
        if asked.get("return_documents"):
            result["document"] = {"text": document} if isinstance(document, str) else document
        results.append(result)
    units = ((told.get("meta") or {}).get("billed_units") or {}).get("search_units")
    return {"id": told.get("id"), "model": asked["model"], "results": results, "usage": {"search_units": units or 0}}


def _finish(reason: str | None) -> str:
    """Raises UpstreamFailed for an answer that they could not bring to its end."""
    if reason == "ERROR":
        raise UpstreamFailed("The provider broke its answer off.")
    return _FINISH.get(reason or "", "stop")


def _logprobs(items: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """One entry a piece of text: its tokens' probabilities together."""
    if not items:
        return None
    content = [
        {"token": text, "logprob": sum(item.get("logprobs") or ()), "bytes": list(text.encode()), "top_logprobs": []}
        for item in items
        for text in [item.get("text") or ""]
    ]
    return {"content": content, "refusal": None}


def _usage(used: Mapping[str, Any] | None) -> dict[str, Any]:
    """`tokens` is what the model saw; `billed_units`, which leaves out their own preamble, only where that is missing."""
    counted = (used or {}).get("tokens") or (used or {}).get("billed_units") or {}
    cached = int((used or {}).get("cached_tokens") or 0)
    return shapes.usage(int(counted.get("input_tokens") or 0), int(counted.get("output_tokens") or 0), cached=cached)
