"""Rules over runs on an answer, streamed or whole: text leaves piece by piece, each piece after its verdict.

Every string of an answer passes a screen of its own, whatever field it stands in: content, reasoning, refusals,
tool names and arguments, and fields that the gateway does not know. What can't be screened piece by piece is
screened whole; what a check would block never leaves.
"""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

import msgspec

from gateway.chat import JSON
from gateway.chunks import Chunk
from gateway.errors import UpstreamFailed
from gateway.exchange import Exchange
from gateway.providers.protocol import Chunks
from gateway.stages.fragments import append_fragment, fragments, is_json
from gateway.stages.verdicts import OFF_LOOP, note, refusal_text, screened
from guardrails.policy import Policy, StreamScreen
from guardrails.verdicts import Verdict

_decode = msgspec.json.Decoder().decode
_ANSWER = frozenset({"id", "object", "created", "model", "choices", "usage", "system_fingerprint", "service_tier"})
_CHOICE = frozenset({"index", "delta", "message", "finish_reason"})
_NO_TEXT: tuple[Any, ...] = (None, "", [], {})


class ScreenedAnswer:
    """An answer whose text leaves only after its verdict."""

    def __init__(self, chunks: Chunks, policy: Policy, exchange: Exchange) -> None:
        self._chunks = chunks
        self._policy = policy
        self._exchange = exchange
        self._screens: dict[tuple[int, str], StreamScreen] = {}
        self._frame: dict[str, Any] = {}
        self._ended = False

    async def next(self) -> list[Chunk]:
        if self._ended:
            return []
        while True:
            incoming = await self._chunks.next()
            if not incoming:
                return self._last()
            outgoing: list[Chunk] = []
            for chunk in incoming:
                outgoing += await self._pass(chunk)
                if self._ended:
                    break
            if outgoing:
                return outgoing

    def close(self) -> None:
        self._chunks.close()
        self._note_verdicts()

    def _last(self) -> list[Chunk]:
        """What is still held where a provider left out `finish_reason`."""
        self._ended = True
        choices: list[dict[str, Any]] = []
        for index in sorted({index for index, _ in self._screens}):
            delta: dict[str, Any] = {}
            if self._flush(index, delta):
                return [self._blocked()]
            if delta:
                choices.append({"index": index, "delta": delta, "finish_reason": None})
        return [Chunk(JSON.encode({**self._frame, "choices": choices}))] if choices else []

    async def _pass(self, chunk: Chunk) -> list[Chunk]:
        document, choices = seen(chunk)
        if any("message" in choice for choice in choices):
            return [await self._whole(document, choices)]
        self._frame = {k: v for k, v in document.items() if k in ("id", "object", "created", "model")}
        silent = True
        for choice in choices:
            index = choice.get("index", 0)
            delta = choice.get("delta") or {}
            for holder, key, channel in fragments(delta):
                screen = self._screens.get((index, channel))
                if screen is None:
                    screen = self._screens[index, channel] = self._policy.stream(in_json=is_json(channel))
                holder[key] = await fed(screen, holder[key])
                if screen.blocked:
                    return [self._blocked()]
            if choice.get("finish_reason"):
                if self._flush(index, delta):
                    return [self._blocked()]
                choice["delta"] = delta
            silent = silent and not choice.get("finish_reason") and is_empty(delta)
        if choices and silent and not document.get("usage"):
            return []  # all of it is held back
        return [Chunk(JSON.encode(document))]

    def _flush(self, index: int, delta: dict[str, Any]) -> bool:
        """Give out what the screens of a finished choice still hold, in its last delta; True when one blocks it."""
        for (owner, channel), screen in self._screens.items():
            if owner == index and (rest := screen.finish()):
                append_fragment(delta, channel, rest)
            if screen.blocked:
                return True
        return False

    def _blocked(self) -> Chunk:
        """The end that OpenAI's clients know. The upstream call is cut off here, not when the caller is done."""
        self._ended = True
        self._chunks.close()
        self._exchange.outcome = "blocked"
        said = refusal_text(verdict for screen in self._screens.values() for verdict in screen.verdicts)
        return blocked_chunk(self._frame, sorted({index for index, _ in self._screens}), said)

    async def _whole(self, document: dict[str, Any], choices: list[dict[str, Any]]) -> Chunk:
        verdicts: list[Verdict] = []
        for choice in choices:
            message = choice.get("message") or {}
            for holder, key, channel in fragments(message):
                told = await screened(self._policy, holder[key], in_json=is_json(channel))
                verdicts += told.verdicts
                if told.blocked:
                    said = refusal_text(told.verdicts)
                    choice["message"] = {"role": "assistant", "content": said, "refusal": None}
                    choice["finish_reason"] = "content_filter"
                    self._exchange.outcome = "blocked"
                    break
                holder[key] = told.text
        note(self._exchange, "output", verdicts)
        return Chunk(JSON.encode(document))

    def _note_verdicts(self) -> None:
        """Once, when the answer is let go, however it ended."""
        screens, self._screens = self._screens, {}
        for screen in screens.values():
            note(self._exchange, "output", screen.verdicts)


def blocked_chunk(frame: dict[str, Any], indexes: list[int], said: str) -> Chunk:
    """The end of a stream that a guardrail stops: `content_filter` for each choice, with the operator's words."""
    delta = {"content": said} if said else {}
    choices = [{"index": index, "delta": delta, "finish_reason": "content_filter"} for index in indexes or [0]]
    return Chunk(JSON.encode({**frame, "choices": choices}))


def seen(chunk: Chunk) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What of a chunk can be screened, and nothing else: a text in a field of its own would leave unread.

    Raises UpstreamFailed for an answer whose text is not where OpenAI's API has it.
    """
    document = {key: value for key, value in _decode(chunk.data).items() if key in _ANSWER}
    choices = document.get("choices")
    choices = [] if choices is None else choices
    if not isinstance(choices, list) or not all(isinstance(choice, dict) for choice in choices):
        raise UpstreamFailed("The provider's answer can't be screened.", code="upstream_bad_answer")
    choices = [{key: value for key, value in choice.items() if key in _CHOICE} for choice in choices]
    for choice in choices:
        held = [choice[key] for key in ("delta", "message") if choice.get(key) is not None]
        if len(held) > 1 or not all(isinstance(part, dict) for part in held):
            raise UpstreamFailed("The provider's answer can't be screened.", code="upstream_bad_answer")
    if "choices" in document:
        document["choices"] = choices
    return document, choices


class Screen(Protocol):
    def feed(self, text: str) -> str: ...


async def fed(screen: Screen, text: str) -> str:
    """What of `text` may leave now."""
    if len(text) < OFF_LOOP:
        return screen.feed(text)
    return await asyncio.to_thread(screen.feed, text)


def is_empty(delta: dict[str, Any]) -> bool:
    """Whether nothing is left in a delta once its held text is out."""
    if delta.get("role"):
        return False
    for key, value in delta.items():
        if key in ("id", "type") and value:
            return False
        if isinstance(value, dict):
            if not is_empty(value):
                return False
        elif isinstance(value, list):
            if not all(isinstance(item, dict) and is_empty(item) for item in value):
                return False
        elif key != "index" and value not in _NO_TEXT:
            return False
    return True
