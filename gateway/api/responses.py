"""`POST /v1/responses`: OpenAI's Responses API over the same journey as every call, streamed and not.

https://platform.openai.com/docs/api-reference/responses
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from gateway.api.responses_output import Event, Output, consume
from gateway.api.responses_request import Item, ResponsesEnvelope, chat_request, items_of, read
from gateway.chat import JSON, last_question
from gateway.chunks import Chunk
from gateway.errors import BadRequest, GatewayError, NotFound, StageFailed
from gateway.exchange import Exchange
from gateway.records.database import StoreUnavailable
from gateway.records.files import file_of
from gateway.records.responses import ResponseStore, StoredResponse

log = logging.getLogger(__name__)
_decode = msgspec.json.Decoder().decode
_CUT_OFF = {"length": "max_output_tokens", "content_filter": "content_filter"}


class Responses:
    """The inbound API. Without a store nothing is kept, and no response can be continued."""

    endpoint = "responses"

    def __init__(self, store: ResponseStore | None) -> None:
        self._store = store

    def open(self, body: bytes) -> ResponseCall:
        return ResponseCall(read(body), self._store)

    def refusal(self, error: GatewayError) -> bytes:
        return JSON.encode(error.body())


class ResponseCall:
    """One call's answer."""

    def __init__(self, asked: ResponsesEnvelope, store: ResponseStore | None) -> None:
        """Raises BadRequest naming the field at fault."""
        self._asked = asked
        self._store = store if asked.store is not False else None
        self._all = store
        self._echo = msgspec.to_builtins((asked.reasoning, asked.text, asked.tool_choice, asked.tools))
        self._began_at = int(time.time())
        self._items = items_of(asked.input)
        self.request = chat_request(asked, ())
        self._exchange: Exchange | None = None
        self._output: Output | None = None
        self._status = "in_progress"
        self._cut_off: str | None = None
        self._usage: dict[str, Any] | None = None
        self._rag: dict[str, Any] | None = None
        self._model = asked.model
        self._events = 0

    async def begin(self, exchange: Exchange) -> None:
        """Put what is continued in front. Raises NotFound, BadRequest, StageFailed."""
        before = self._asked.previous_response_id
        if before is None:
            if self._store is not None:
                self.request.thread = self._id(exchange)
            return
        if self._all is None:
            raise BadRequest(
                "This gateway keeps no responses: send the whole conversation as input.", param="previous_response_id"
            )
        caller = exchange.caller
        assert caller is not None, "only an identified caller is answered"
        try:
            found = await asyncio.to_thread(self._all.conversation, before, caller.tenant, caller.user)
        except StoreUnavailable:
            raise StageFailed("The store of responses is unavailable. Try again shortly.", retry_after="2") from None
        if not found:
            raise NotFound(f"There is no response '{before}', or not any more.", param="previous_response_id")
        items: list[Item] = []
        for stored in found:
            items += [*stored.input, *stored.response["output"]]
        self.request = chat_request(self._asked, items)
        self.request.thread = found[0].id

    async def whole(self, chunk: Chunk, exchange: Exchange) -> bytes:
        document: dict[str, Any] = _decode(chunk.data)
        output = self._begin(exchange)
        consume(self._searched(exchange))
        self._note(document)
        (choice, *_) = document.get("choices") or [{}]
        consume(output.take(choice.get("message") or {}))
        self._end(choice.get("finish_reason"))
        consume(output.close(whole=self._cut_off is None))
        await self._keep(exchange)
        return JSON.encode(self._document(exchange))

    def events(self, chunks: Sequence[Chunk], exchange: Exchange) -> bytes:
        told: list[bytes] = []
        if self._output is None:
            self._begin(exchange)
            frame = {"response": self._document(exchange)}
            told += self._numbered([("response.created", frame), ("response.in_progress", frame)])
            told += self._numbered(self._searched(exchange))
        assert self._output is not None
        for chunk in chunks:
            document: dict[str, Any] = _decode(chunk.data)
            self._note(document)
            for choice in (document.get("choices") or ())[:1]:
                told += self._numbered(self._output.take(choice.get("delta") or {}))
                if choice.get("finish_reason"):
                    self._end(choice["finish_reason"])
        return b"".join(told)

    async def end(self, exchange: Exchange) -> bytes:
        assert self._output is not None, "a stream has at least one chunk"
        if self._status == "in_progress":
            self._end(None)
        closing = self._numbered(self._output.close(whole=self._cut_off is None))
        await self._keep(exchange)
        last = (f"response.{self._status}", {"response": self._document(exchange)})
        return b"".join([*closing, *self._numbered([last])])

    def broken(self, error: GatewayError) -> bytes:
        said = error.body()["error"]
        if self._exchange is None:
            told = {"code": said["code"], "message": said["message"], "param": said["param"]}
            return b"".join(self._numbered([("error", told)]))
        self._status = "failed"
        document = self._document(self._exchange)
        code = "rate_limit_exceeded" if error.status == 429 else "server_error"
        document["error"] = {"code": code, "message": said["message"]}
        return b"".join(self._numbered([("response.failed", {"response": document})]))

    async def _keep(self, exchange: Exchange) -> None:
        """Keep the response before its end is told; where that fails, the answer says that it is not kept."""
        exchange.answer_id = self._id(exchange)
        if self._store is None:
            return
        caller = exchange.caller
        assert caller is not None, "only an identified caller is answered"
        before = self._asked.previous_response_id
        kept = StoredResponse(self._id(exchange), before, self._items, self._document(exchange))
        try:
            await asyncio.to_thread(self._store.add, kept, caller.tenant, caller.user)
        except StoreUnavailable as failure:
            log.warning("a response could not be kept: %s", failure)
            exchange.degraded.append("responses")
            self._store = None

    def _begin(self, exchange: Exchange) -> Output:
        self._exchange = exchange
        files = [
            (file_id, passage.url) if (file_id := file_of(passage.document_id)) is not None else None
            for passage in exchange.passages
        ]
        self._output = Output(exchange.call_id.removeprefix("call_"), files)
        return self._output

    def _searched(self, exchange: Exchange) -> Iterable[Event]:
        """The events of the file search, where one was asked for."""
        assert self._output is not None
        if self.request.file_search is None:
            return ()
        results = None
        if "file_search_call.results" in (self._asked.include or ()):
            results = [
                {
                    "file_id": file_id, "filename": passage.url, "score": round(passage.score, 4), "text": passage.text,
                    "attributes": {}, "vector_store_id": passage.document_id.partition("/")[0],
                }
                for passage in exchange.passages
                if (file_id := file_of(passage.document_id)) is not None
            ]  # fmt: skip
        return self._output.searched(last_question(self.request.messages), results)

    def _note(self, document: dict[str, Any]) -> None:
        if document.get("model"):
            self._model = document["model"]
        if document.get("rag"):
            self._rag = document["rag"]
        if document.get("usage"):
            self._usage = _usage(document["usage"])

    def _end(self, finish: str | None) -> None:
        self._cut_off = _CUT_OFF.get(finish or "")
        self._status = "completed" if self._cut_off is None else "incomplete"

    def _id(self, exchange: Exchange) -> str:
        return "resp_" + exchange.call_id.removeprefix("call_")

    def _document(self, exchange: Exchange) -> dict[str, Any]:
        """https://platform.openai.com/docs/api-reference/responses/object, as far as the answer has come."""
        asked = self._asked
        reasoning, text, tool_choice, tools = self._echo
        told: dict[str, Any] = {
            "id": self._id(exchange),
            "object": "response",
            "created_at": self._began_at,
            "status": self._status,
            "background": False,
            "error": None,
            "incomplete_details": None if self._cut_off is None else {"reason": self._cut_off},
            "instructions": asked.instructions,
            "max_output_tokens": asked.max_output_tokens,
            "metadata": asked.metadata or {},
            "model": self._model,
            "output": list(self._output.items) if self._output is not None else [],
            "parallel_tool_calls": asked.parallel_tool_calls is not False,
            "previous_response_id": asked.previous_response_id,
            "prompt_cache_key": asked.prompt_cache_key,
            "reasoning": reasoning or {"effort": None, "summary": None},
            "safety_identifier": asked.safety_identifier,
            "service_tier": asked.service_tier or "auto",
            "store": self._store is not None,
            "temperature": asked.temperature,
            "text": text or {"format": {"type": "text"}},
            "tool_choice": tool_choice or "auto",
            "tools": tools or [],
            "top_p": asked.top_p,
            "truncation": "disabled",
            "usage": self._usage,
            "user": asked.user,
        }
        if self._status in ("completed", "incomplete"):
            told["completed_at"] = int(time.time())
        if self._rag is not None:
            told["rag"] = self._rag
        if asked.prompt is not None:
            version = str(asked.prompt.version) if asked.prompt.version is not None else None
            told["prompt"] = {"id": asked.prompt.id, "version": version, "variables": asked.prompt.variables}
        return told

    def _numbered(self, events: Iterable[Event]) -> list[bytes]:
        """Events as server-sent ones, numbered."""
        lines = []
        for kind, fields in events:
            data = JSON.encode({"type": kind, "sequence_number": self._events, **fields})
            lines.append(b"event: " + kind.encode() + b"\ndata: " + data + b"\n\n")
            self._events += 1
        return lines


def _usage(used: dict[str, Any]) -> dict[str, Any]:
    before, after = used.get("prompt_tokens") or 0, used.get("completion_tokens") or 0
    cached = (used.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
    reasoning = (used.get("completion_tokens_details") or {}).get("reasoning_tokens") or 0
    return {
        "input_tokens": before,
        "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": 0},
        "output_tokens": after,
        "output_tokens_details": {"reasoning_tokens": reasoning},
        "total_tokens": used.get("total_tokens") or before + after,
    }
