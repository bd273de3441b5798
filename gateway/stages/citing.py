"""Sources of an answer: `[n]` marks in its text become annotations, and the passages its `rag.sources`.

Chat completions know one kind of annotation, `url_citation`; the whole list goes into our own `rag` object.
https://platform.openai.com/docs/api-reference/chat/object#chat/object-choices-message-annotations
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from gateway.chat import JSON, Chunk
from gateway.exchange import Exchange
from gateway.providers.protocol import Chunks
from retrieval.passages import Passage

_decode = msgspec.json.Decoder().decode
_MARK = re.compile(r"\[(\d{1,2})\]")
_QUOTE = 300  # characters of a passage shown with its source


class CitedAnswer:
    """An answer with its sources, streamed (in the chunk that finishes a choice) or whole."""

    def __init__(self, chunks: Chunks, exchange: Exchange) -> None:
        self._chunks = chunks
        self._passages = exchange.passages
        self._told: dict[int, list[str]] = {}

    async def next(self) -> list[Chunk]:
        chunks = await self._chunks.next()
        for order, chunk in enumerate(chunks):
            for choice in chunk.facts.choices or ():
                if choice.delta and choice.delta.content:
                    self._told.setdefault(choice.index, []).append(choice.delta.content)
                if choice.finish_reason:
                    chunks[order] = self._with_sources(chunk)
                    break
        return chunks

    def close(self) -> None:
        self._chunks.close()

    def _with_sources(self, chunk: Chunk) -> Chunk:
        document: dict[str, Any] = _decode(chunk.data)
        for choice in document["choices"]:
            if "message" in choice:
                text = choice["message"].get("content") or ""
                choice["message"]["annotations"] = citations(text, self._passages)
            elif choice.get("finish_reason"):
                text = "".join(self._told.get(choice.get("index", 0), ()))
                choice.setdefault("delta", {})["annotations"] = citations(text, self._passages)
        document["rag"] = {"sources": sources(self._passages)}
        return Chunk(JSON.encode(document), chunk.facts)


def citations(text: str, passages: Sequence[Passage]) -> list[dict[str, Any]]:
    """One `url_citation` for each mark that names a passage; positions in characters of `text`."""
    found = []
    for mark in _MARK.finditer(text):
        n = int(mark[1])
        if 1 <= n <= len(passages):
            passage = passages[n - 1]
            citation = {
                "url": passage.url,
                "title": passage.title,
                "start_index": mark.start(),
                "end_index": mark.end(),
            }
            found.append({"type": "url_citation", "url_citation": citation})
    return found


def sources(passages: Sequence[Passage]) -> list[dict[str, Any]]:
    """All passages that the prompt held, in the order of their marks."""
    return [
        {
            "document_id": passage.document_id,
            "version": passage.version,
            "section_id": passage.section_id,
            "collection": passage.collection,
            "score": round(passage.score, 4),
            "title": " > ".join(passage.heading) or passage.title,
            "url": passage.url,
            "quote": passage.text[:_QUOTE],
        }
        for passage in passages
    ]
