"""Pseudonyms back into values, in whatever of an answer holds text, streamed or not."""

from __future__ import annotations

from typing import Any

import msgspec

from gateway.chat import JSON
from gateway.chunks import Chunk
from gateway.exchange import Exchange
from gateway.providers.protocol import Chunks
from gateway.stages.fragments import append_fragment, fragments
from guardrails.pseudonyms import Pseudonyms, Restorer

_decode = msgspec.json.Decoder().decode


def restored(chunks: Chunks, exchange: Exchange) -> Chunks:
    """The answer with the caller's own values where the provider has seen placeholders."""
    pseudonyms = exchange.pseudonyms
    return RestoredAnswer(chunks, pseudonyms) if pseudonyms else chunks


class RestoredAnswer:
    def __init__(self, chunks: Chunks, pseudonyms: Pseudonyms) -> None:
        self._chunks = chunks
        self._pseudonyms = pseudonyms
        self._restorers: dict[tuple[int, str], Restorer] = {}

    async def next(self) -> list[Chunk]:
        return [self._restored(chunk) for chunk in await self._chunks.next()]

    def close(self) -> None:
        self._chunks.close()

    def _restored(self, chunk: Chunk) -> Chunk:
        if not chunk.facts.choices:
            return chunk
        document: dict[str, Any] = _decode(chunk.data)
        for choice in document["choices"]:
            message = choice.get("message")
            if message:
                for holder, key, channel in fragments(message):
                    one = self._pseudonyms.restorer(in_json=channel.endswith("arguments"))
                    holder[key] = one.feed(holder[key]) + one.finish()
                continue
            index, delta = choice.get("index", 0), choice.get("delta") or {}
            for holder, key, channel in fragments(delta):
                holder[key] = self._restorer(index, channel).feed(holder[key])
            if choice.get("finish_reason"):
                for (owner, channel), restorer in self._restorers.items():
                    if owner == index and (rest := restorer.finish()):
                        append_fragment(delta, channel, rest)
                choice["delta"] = delta
        return Chunk(JSON.encode(document))

    def _restorer(self, index: int, channel: str) -> Restorer:
        found = self._restorers.get((index, channel))
        if found is None:
            found = self._pseudonyms.restorer(in_json=channel.endswith("arguments"))
            self._restorers[index, channel] = found
        return found
