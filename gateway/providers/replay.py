"""A whole completion as a stream, and a stream as a whole completion: what a shared answer needs to fit its asker."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from gateway.chat import JSON
from gateway.chunks import Chunk, Facts
from gateway.providers.protocol import Chunks

_decode: Final = msgspec.json.Decoder().decode
_TEXTS: Final = ("content", "refusal", "reasoning_content", "reasoning")


def whole(chunks: Sequence[Chunk]) -> Chunk:
    """The completion that a stream's chunks make up together; a plain answer's one chunk as it is."""
    if len(chunks) == 1 and not any(choice.delta for choice in chunks[0].facts.choices or ()):
        return chunks[0]
    frame: dict[str, Any] = {}
    choices: dict[int, dict[str, Any]] = {}
    for chunk in chunks:
        document: dict[str, Any] = _decode(chunk.data)
        for key, value in document.items():
            if key not in ("choices", "object") and value is not None:
                frame[key] = value
        for part in document.get("choices") or ():
            index = part.get("index", 0)
            choice = choices.setdefault(
                index,
                {"index": index, "message": {"role": "assistant", "content": None, "refusal": None},
                 "logprobs": None, "finish_reason": None},
            )  # fmt: skip
            _merge(choice["message"], part.get("delta") or {})
            choice["finish_reason"] = part.get("finish_reason") or choice["finish_reason"]
            if part.get("logprobs"):
                choice["logprobs"] = _merged_logprobs(choice["logprobs"], part["logprobs"])
    ordered = [choices[index] for index in sorted(choices)]
    return Chunk(JSON.encode({**frame, "object": "chat.completion", "choices": ordered}))


def split(completion: Chunk) -> list[Chunk]:
    """A completion as the chunks of a stream: role, content, end, and usage in a chunk of its own."""
    document: dict[str, Any] = _decode(completion.data)
    extra = {key: document[key] for key in ("rag",) if key in document}
    frame = {k: v for k, v in document.items() if k not in ("choices", "usage", "object", "rag")}
    frame["object"] = "chat.completion.chunk"
    parts: list[dict[str, Any]] = []
    for choice in document["choices"]:
        index, message = choice["index"], dict(choice["message"])
        annotations = message.pop("annotations", None)
        for order, call in enumerate(message.get("tool_calls") or ()):
            call.setdefault("index", order)
        role = {"role": message.pop("role", "assistant"), "content": ""}
        delta = {key: value for key, value in message.items() if value is not None}
        end = {"annotations": annotations} if annotations is not None else {}
        parts.append({**frame, "choices": [{"index": index, "delta": role, "finish_reason": None}]})
        parts.append({**frame, "choices": [
            {"index": index, "delta": delta, "logprobs": choice.get("logprobs"), "finish_reason": None}
        ]})  # fmt: skip
        finish = {"index": index, "delta": end, "finish_reason": choice["finish_reason"]}
        parts.append({**frame, "choices": [finish], **extra})
    if document.get("usage"):
        parts.append({**frame, "choices": [], "usage": document["usage"]})
    return [Chunk(JSON.encode(part)) for part in parts]


def under_id(new_id: str, chunk: Chunk) -> Chunk:
    """The same chunk under another id: an id names one answer to one call."""
    facts = chunk.facts
    if facts.id is None:
        return chunk
    data = chunk.data.replace(JSON.encode(facts.id), b'"%b"' % new_id.encode("ascii"), 1)
    return Chunk(data, Facts(new_id, facts.model, facts.choices, facts.usage, facts.error))


class Replayed:
    """An answer that is already here."""

    __slots__ = ("_chunks",)

    def __init__(self, chunks: list[Chunk]) -> None:
        self._chunks = chunks

    async def next(self) -> list[Chunk]:
        chunks, self._chunks = self._chunks, []
        return chunks

    def close(self) -> None:
        self._chunks = []


class Renamed:
    """Another's answer as it comes, under an id of its own."""

    def __init__(self, chunks: Chunks, new_id: str) -> None:
        self._chunks = chunks
        self._id = new_id

    async def next(self) -> list[Chunk]:
        return [under_id(self._id, chunk) for chunk in await self._chunks.next()]

    def close(self) -> None:
        self._chunks.close()


class Reshaped:
    """Another's answer, gathered whole and then given in the form that this caller asked for."""

    def __init__(self, chunks: Chunks, *, stream: bool) -> None:
        self._chunks = chunks
        self._stream = stream
        self._told = False

    async def next(self) -> list[Chunk]:
        if self._told:
            return []
        self._told = True
        gathered: list[Chunk] = []
        while burst := await self._chunks.next():
            gathered += burst
        completion = whole(gathered)
        return split(completion) if self._stream else [completion]

    def close(self) -> None:
        self._chunks.close()


def _merge(message: dict[str, Any], delta: dict[str, Any]) -> None:
    for key, value in delta.items():
        if value is None:
            continue
        if key in _TEXTS:
            message[key] = (message.get(key) or "") + value
        elif key == "thinking_blocks":
            _merge_thoughts(message.setdefault(key, []), value)
        elif key == "tool_calls":
            calls: list[dict[str, Any]] = message.setdefault("tool_calls", [])
            for part in value:
                _merge_call(calls, part)
        elif isinstance(value, list):
            message[key] = (message.get(key) or []) + value
        else:
            message[key] = value


def _merge_thoughts(known: list[dict[str, Any]], pieces: list[dict[str, Any]]) -> None:
    """Blocks of thought that a vendor wants back, by their `index`; pieces of one make one."""
    for order, piece in enumerate(pieces):
        index = piece.get("index", order)
        block = next((one for one in known if one["index"] == index), None)
        if block is None:
            known.append({**piece, "index": index})
            continue
        for name, value in piece.items():
            if name not in ("index", "type"):
                block[name] = block.get(name, "") + value


def _merge_call(calls: list[dict[str, Any]], part: dict[str, Any]) -> None:
    index = part.get("index", len(calls))
    call = next((known for known in calls if known.get("index") == index), None)
    if call is None:
        calls.append({"index": index, "type": "function", "function": {"name": "", "arguments": ""}})
        call = calls[-1]
    if part.get("id"):
        call["id"] = part["id"]
    function = part.get("function") or {}
    call["function"]["name"] += function.get("name") or ""
    call["function"]["arguments"] += function.get("arguments") or ""


def _merged_logprobs(known: dict[str, Any] | None, more: dict[str, Any]) -> dict[str, Any]:
    merged = dict(known or {})
    for key, value in more.items():
        merged[key] = (merged.get(key) or []) + value if isinstance(value, list) else value
    return merged
