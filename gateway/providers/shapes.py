"""OpenAI's answers, built by what has none of its own: dialects, the extractive provider.

https://platform.openai.com/docs/api-reference/chat/object and …/chat/streaming
"""

from __future__ import annotations

import base64
import struct
import time
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from gateway.chat import JSON
from gateway.chunks import Chunk, Facts
from gateway.errors import UpstreamFailed
from gateway.identifiers import answer_id

_decode_facts = msgspec.json.Decoder(Facts).decode


def json_object(data: bytes) -> dict[str, Any]:
    """A vendor's JSON object. Raises UpstreamFailed for anything else."""
    try:
        told = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        told = None
    if not isinstance(told, dict):
        raise UpstreamFailed("The provider's answer is not valid JSON.", code="upstream_bad_answer")
    return told


def chunk(document: Mapping[str, Any]) -> Chunk:
    """A translated answer, or a piece of one, as callers get it.

    Raises UpstreamFailed where a value of the vendor's has come into it that OpenAI's format has another type for.
    """
    data = JSON.encode(document)
    try:
        return Chunk(data, _decode_facts(data))
    except msgspec.ValidationError:
        raise unreadable() from None


def unreadable() -> UpstreamFailed:
    """The error for an answer whose JSON is not of the shape that its vendor documents."""
    return UpstreamFailed("The provider's answer can't be read.", code="upstream_bad_answer")


def usage(
    prompt: int, completion: int, *, cached: int = 0, cache_written: int = 0, reasoning: int = 0
) -> dict[str, Any]:
    """Tokens in OpenAI's terms: `prompt` includes what was read from and written to a cache, `completion` reasoning."""
    told: dict[str, Any] = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }
    if cached or cache_written:
        told["prompt_tokens_details"] = {"cached_tokens": cached, "cache_write_tokens": cache_written}
    if reasoning:
        told["completion_tokens_details"] = {"reasoning_tokens": reasoning}
    return told


def choice(
    index: int,
    finish_reason: str,
    *,
    content: str | None = None,
    tool_calls: Sequence[Mapping[str, Any]] = (),
    refusal: str | None = None,
    logprobs: Mapping[str, Any] | None = None,
    **more: Any,
) -> dict[str, Any]:
    """One choice of a completion. `more` goes into the message, such as `reasoning_content`."""
    message: dict[str, Any] = {"role": "assistant", "content": content, "refusal": refusal}
    if tool_calls:
        message["tool_calls"] = list(tool_calls)
    message |= {name: value for name, value in more.items() if value is not None}
    return {"index": index, "message": message, "logprobs": logprobs, "finish_reason": finish_reason}


def tool_call(id: str, name: str, arguments: str) -> dict[str, Any]:
    """One call of a function. Raises UpstreamFailed for what is no text."""
    if not (isinstance(id, str) and isinstance(name, str) and isinstance(arguments, str)):
        raise unreadable()
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def completion(
    model: str, choices: Sequence[Mapping[str, Any]], used: Mapping[str, Any], id: str | None = None
) -> dict[str, Any]:
    """A whole chat completion."""
    return {
        "id": id or answer_id(),
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model,
        "choices": list(choices),
        "usage": dict(used),
    }


def embeddings(model: str, vectors: Sequence[Any], used: Mapping[str, Any]) -> dict[str, Any]:
    """`vectors` are lists of floats, or base64 texts, in the order of the inputs."""
    data = [{"object": "embedding", "index": order, "embedding": vector} for order, vector in enumerate(vectors)]
    return {"object": "list", "data": data, "model": model, "usage": dict(used)}


def vector(values: Sequence[float], encoding_format: str | None) -> list[float] | str:
    """An embedding as floats, or as OpenAI's base64 of little-endian 32-bit ones. Raises UpstreamFailed for others."""
    try:
        checked = msgspec.convert(values, list[float])
        if encoding_format != "base64":
            return checked
        return base64.b64encode(struct.pack(f"<{len(checked)}f", *checked)).decode("ascii")
    except (msgspec.ValidationError, OverflowError):
        raise unreadable() from None


class ChunkWriter:
    """The chunks of one streamed completion: all with the same id, time and model, each choice opened once."""

    __slots__ = ("_frame", "_opened")

    def __init__(self, model: str, id: str | None = None) -> None:
        self._frame = {
            "id": id or answer_id(),
            "object": "chat.completion.chunk",
            "created": int(time.time()),
            "model": model,
        }
        self._opened: set[int] = set()

    def delta(self, delta: Mapping[str, Any], index: int = 0, logprobs: Mapping[str, Any] | None = None) -> Chunk:
        """A piece of choice `index`; its first carries the role, as OpenAI's does."""
        told = dict(delta)
        if index not in self._opened:
            self._opened.add(index)
            told = (
                {"role": "assistant", "content": None, **told}
                if "content" not in told
                else {"role": "assistant", **told}
            )
        return self._chunk({"index": index, "delta": told, "logprobs": logprobs, "finish_reason": None})

    def tool_call(self, order: int, *, id: str, name: str, arguments: str = "", index: int = 0) -> Chunk:
        """The beginning of tool call `order` (0, 1, … within its choice)."""
        return self._tool_calls(order, tool_call(id, name, arguments), index)

    def arguments(self, order: int, piece: str, index: int = 0) -> Chunk:
        """More of tool call `order`'s arguments."""
        if not isinstance(piece, str):
            raise unreadable()
        return self._tool_calls(order, {"function": {"arguments": piece}}, index)

    def _tool_calls(self, order: int, call: Mapping[str, Any], index: int) -> Chunk:
        if not isinstance(order, int):
            raise unreadable()
        return self.delta({"tool_calls": [{"index": order, **call}]}, index)

    def finish(self, reason: str, index: int = 0, **more: Any) -> Chunk:
        """The end of choice `index`; `more` goes into the choice."""
        return self._chunk({"index": index, "delta": {}, "logprobs": None, "finish_reason": reason, **more})

    def usage(self, used: Mapping[str, Any]) -> Chunk:
        return chunk({**self._frame, "choices": [], "usage": used})

    def _chunk(self, choice: Mapping[str, Any]) -> Chunk:
        return chunk({**self._frame, "choices": [choice]})
