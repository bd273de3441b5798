"""`POST /v1/messages`: Anthropic's Messages API over the same journey as every call, streamed and not.

https://platform.claude.com/docs/en/api/messages/create and …/build-with-claude/streaming
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from fastapi import APIRouter, Request, Response

from gateway.api.identity import Identified
from gateway.api.messages_request import GATEWAY_SIGNATURE, chat_request, count_tokens
from gateway.chat import JSON, ChatRequest
from gateway.chunks import Chunk
from gateway.errors import GatewayError, UpstreamFailed
from gateway.exchange import Exchange
from gateway.runtime import Gateway

_decode = msgspec.json.Decoder().decode
_STOP = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "content_filter": "refusal",
}
_MARK = re.compile(r"\[(\d{1,2})\]")
_ERROR_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}


class Messages:
    """The inbound API."""

    endpoint = "messages"

    def open(self, body: bytes) -> MessagesCall:
        return MessagesCall(chat_request(body))

    def refusal(self, error: GatewayError) -> bytes:
        return _error(error)


class MessagesCall:
    """One call's answer. In a stream, each block of content is opened when its first piece comes.

    A block that was closed because another began may still get pieces: a guardrail lets the last words of every text
    go at the end only, and clients put pieces together by their block's index.
    """

    def __init__(self, request: ChatRequest) -> None:
        self.request = request
        self._blocks: dict[str, int] = {}  # "text", "thinking", "redacted 0", "tool 0", … to their index
        self._open: str | None = None
        self._signatures: dict[int, str] = {}  # by the index of a thought among the vendor's
        self._held: dict[int, dict[str, str]] = {}  # tool calls whose name has not come
        self._text: list[str] = []
        self._begun = False
        self._stop: dict[str, Any] = {"stop_reason": None, "stop_sequence": None}
        self._usage: dict[str, Any] = {"input_tokens": 0, "output_tokens": 0}
        self._rag: dict[str, Any] = {}

    async def begin(self, exchange: Exchange) -> None:
        """Nothing is continued."""

    # -- whole --------------------------------------------------------------------------------------------
    async def whole(self, chunk: Chunk, exchange: Exchange) -> bytes:
        document: dict[str, Any] = _decode(chunk.data)
        (choice, *_) = document.get("choices") or [{}]
        message = choice.get("message") or {}
        blocks = _thoughts(message)
        text = "".join(message.get(key) or "" for key in ("content", "refusal"))
        cited = _citations(message.get("annotations") or (), document.get("rag") or {}, text)
        if text:
            blocks.append({"type": "text", "text": text, "citations": cited or None})
        for call in message.get("tool_calls") or ():
            function = call["function"]
            given = _input(function.get("arguments"), cut_off=choice.get("finish_reason") == "length")
            blocks.append({"type": "tool_use", "id": call["id"], "name": function["name"], "input": given})
        told = {**self._frame(chunk, exchange), "content": blocks, **_stopped(choice, message.get("refusal"))}
        told["usage"] = _usage(document.get("usage") or {})
        if "rag" in document:
            told["rag"] = document["rag"]
        return JSON.encode(told)

    def _frame(self, chunk: Chunk, exchange: Exchange) -> dict[str, Any]:
        facts = chunk.facts
        told = facts.id or exchange.call_id
        return {
            "id": told if told.startswith("msg_") else "msg_" + told.removeprefix("chatcmpl-"),
            "type": "message",
            "role": "assistant",
            "model": facts.model or self.request.model,
        }

    # -- streamed -----------------------------------------------------------------------------------------
    def events(self, chunks: Sequence[Chunk], exchange: Exchange) -> bytes:
        told: list[bytes] = []
        for chunk in chunks:
            if not self._begun:
                self._begun = True
                empty: dict[str, Any] = {
                    "content": [],
                    "stop_reason": None,
                    "stop_sequence": None,
                    "usage": self._usage,
                }
                told.append(_event("message_start", message={**self._frame(chunk, exchange), **empty}))
                told.append(_event("ping"))
            document: dict[str, Any] = _decode(chunk.data)
            if document.get("rag"):
                self._rag = {"rag": document["rag"]}
            for choice in (document.get("choices") or ())[:1]:
                told += self._delta(choice)
            if document.get("usage"):
                self._usage = _usage(document["usage"])
        return b"".join(told)

    def _delta(self, choice: Mapping[str, Any]) -> list[bytes]:
        delta = choice.get("delta") or {}
        told: list[bytes] = []
        for key in ("reasoning_content", "reasoning"):
            if delta.get(key):
                told += self._piece("thinking", "thinking_delta", "thinking", delta[key])
                break
        for order, block in enumerate(delta.get("thinking_blocks") or ()):
            told += self._thought(block.get("index", order), block)
        for key in ("content", "refusal"):
            if delta.get(key):
                self._text.append(delta[key])
                told += self._piece("text", "text_delta", "text", delta[key])
        for order, call in enumerate(delta.get("tool_calls") or ()):
            told += self._tool(call.get("index", order), call)
        cited: list[dict[str, Any]] = []
        if annotations := delta.get("annotations"):
            cited = _citations(annotations, self._rag.get("rag") or {}, "".join(self._text))
        for citation in cited:
            told += self._piece("text", "citations_delta", "citation", citation)
        if choice.get("finish_reason"):
            if self._held and choice["finish_reason"] not in ("length", "content_filter"):
                raise UpstreamFailed("The provider sent a tool call without a name.", code="upstream_bad_answer")
            self._stop = _stopped(choice, delta.get("refusal"))
        return told

    def _piece(self, block: str, kind: str, key: str, value: Any) -> list[bytes]:
        """One piece of `block`, which is opened if it is not yet."""
        told = []
        if block not in self._blocks:
            empty = {"text": ""} if block == "text" else {"thinking": "", "signature": ""}
            told = self._begin(block, {"type": block, **empty})
        told.append(_event("content_block_delta", index=self._blocks[block], delta={"type": kind, key: value}))
        return told

    def _begin(self, block: str, content: Mapping[str, Any]) -> list[bytes]:
        told = self._end_block()
        index = self._blocks[block] = len(self._blocks)
        self._open = block
        return [*told, _event("content_block_start", index=index, content_block=content)]

    def _end_block(self) -> list[bytes]:
        block, self._open = self._open, None
        if block is None:
            return []
        index = self._blocks[block]
        told = []
        if block == "thinking" and not self._signatures:
            told = [self._signature(GATEWAY_SIGNATURE)]
        return [*told, _event("content_block_stop", index=index)]

    def _signature(self, signature: str) -> bytes:
        delta = {"type": "signature_delta", "signature": signature}
        return _event("content_block_delta", index=self._blocks["thinking"], delta=delta)

    def _thought(self, index: int, block: Mapping[str, Any]) -> list[bytes]:
        """The vendor's proof of a thought whose words have come as reasoning."""
        if block.get("data"):
            name = f"redacted {index}"
            return (
                [] if name in self._blocks else self._begin(name, {"type": "redacted_thinking", "data": block["data"]})
            )
        if not block.get("signature"):
            return []
        told = []
        if "thinking" not in self._blocks:
            told = self._begin("thinking", {"type": "thinking", "thinking": "", "signature": ""})
        signature = self._signatures[index] = self._signatures.get(index, "") + block["signature"]
        return [*told, self._signature(signature)]

    def _tool(self, order: int, call: Mapping[str, Any]) -> list[bytes]:
        """A piece of a tool call. Its block opens with its name, which a guardrail may hold back for a while."""
        block = f"tool {order}"
        function = call.get("function") or {}
        arguments = function.get("arguments") or ""
        told = []
        if block not in self._blocks:
            held = self._held.setdefault(order, {"id": "", "name": "", "arguments": ""})
            held["id"] = call.get("id") or held["id"]
            held["name"] += function.get("name") or ""
            held["arguments"] += arguments
            if not held["id"] or not held["name"]:
                return []
            del self._held[order]
            told = self._begin(block, {"type": "tool_use", "id": held["id"], "name": held["name"], "input": {}})
            arguments = held["arguments"]
        if arguments:
            delta = {"type": "input_json_delta", "partial_json": arguments}
            told.append(_event("content_block_delta", index=self._blocks[block], delta=delta))
        return told

    async def end(self, exchange: Exchange) -> bytes:
        if self._stop["stop_reason"] is None:
            self._stop["stop_reason"] = "end_turn"
        last = _event("message_delta", delta=self._stop, usage=self._usage, **self._rag)
        return b"".join([*self._end_block(), last, _event("message_stop")])

    def broken(self, error: GatewayError) -> bytes:
        return b"event: error\ndata: " + _error(error) + b"\n\n"


def counting(gateway: Gateway, caller: Identified) -> APIRouter:
    """`POST /v1/messages/count_tokens`, with its errors in the vendor's shape."""
    routes = APIRouter()

    @routes.post("/v1/messages/count_tokens", tags=["messages"])
    async def count(request: Request) -> Response:
        """About how many tokens a request's prompt has, before a template or passages are added to it."""
        try:
            who = await caller(request)
            model, tokens = count_tokens(await request.body())
            gateway.revision.pipeline(model, who)
        except GatewayError as error:
            return Response(_error(error), error.status, media_type="application/json")
        return Response(JSON.encode({"input_tokens": tokens}), media_type="application/json")

    return routes


def _event(kind: str, **fields: Any) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), JSON.encode({"type": kind, **fields}))


def _error(error: GatewayError) -> bytes:
    kind = _ERROR_TYPES.get(error.status) or ("invalid_request_error" if error.status < 500 else "api_error")
    told: dict[str, Any] = {"type": kind, "message": error.message}
    if error.code is not None:
        told["details"] = {"error_code": error.code}
    return JSON.encode({"type": "error", "error": told})


def _thoughts(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A message's thinking: the vendor's signed blocks as they are, else its reasoning under our own mark."""
    signed = [
        {name: value for name, value in block.items() if name != "index"}
        for block in message.get("thinking_blocks") or ()
    ]
    reasoning = message.get("reasoning_content") or message.get("reasoning")
    if signed or not reasoning:
        return signed
    return [{"type": "thinking", "thinking": reasoning, "signature": GATEWAY_SIGNATURE}]


def _stopped(choice: Mapping[str, Any], refusal: str | None) -> dict[str, Any]:
    """Why the answer ended. Providers that know which stop sequence it was say so in the choice's `stop_reason`."""
    sequence = choice.get("stop_reason")
    if isinstance(sequence, str) and choice.get("finish_reason") == "stop":
        return {"stop_reason": "stop_sequence", "stop_sequence": sequence}
    reason = "refusal" if refusal else _STOP.get(choice.get("finish_reason") or "stop", "end_turn")
    return {"stop_reason": reason, "stop_sequence": None}


def _input(arguments: str | None, *, cut_off: bool) -> dict[str, Any]:
    try:
        given = json.loads(arguments or "{}")
    except ValueError:
        given = {} if cut_off else None
    if not isinstance(given, dict):
        raise UpstreamFailed("The provider's tool call is not a JSON object.", code="upstream_bad_answer")
    return given


def _usage(used: Mapping[str, Any]) -> dict[str, Any]:
    """OpenAI's counts in their terms, where what a cache read or wrote is counted apart."""
    prompt = used.get("prompt_tokens_details") or {}
    read, written = prompt.get("cached_tokens") or 0, prompt.get("cache_write_tokens") or 0
    told: dict[str, Any] = {
        "input_tokens": max(0, (used.get("prompt_tokens") or 0) - read - written),
        "cache_read_input_tokens": read,
        "cache_creation_input_tokens": written,
        "output_tokens": used.get("completion_tokens") or 0,
    }
    reasoning = (used.get("completion_tokens_details") or {}).get("reasoning_tokens")
    if reasoning:
        told["output_tokens_details"] = {"thinking_tokens": reasoning}
    return told


def _citations(annotations: Sequence[Mapping[str, Any]], rag: Mapping[str, Any], text: str) -> list[dict[str, Any]]:
    """The sources that the marks of an answer's `text` name, as results of a search."""
    sources = rag.get("sources") or []
    told = []
    for annotation in annotations:
        cited = annotation.get("url_citation") or {}  # a vendor's own have no such mark
        mark = _MARK.fullmatch(text[cited.get("start_index", 0) : cited.get("end_index", 0)])
        if mark is None or not 1 <= int(mark[1]) <= len(sources):
            continue
        source = sources[int(mark[1]) - 1]
        told.append(
            {
                "type": "search_result_location",
                "cited_text": source["quote"],
                "source": source["url"],
                "title": cited.get("title"),
                "search_result_index": int(mark[1]) - 1,
                "start_block_index": 0,
                "end_block_index": 1,
            }
        )
    return told
