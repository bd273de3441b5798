"""Guardrails on what goes in (messages, passages) and on what comes out, streamed or not.

Every string of an answer passes a screen of its own, whatever field it stands in: content, reasoning, refusals,
tool names and arguments, and fields that the gateway does not know. What can't be screened piece by piece is
screened whole; what a check would block never leaves.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import msgspec
from cachetools import LRUCache

from gateway.chat import JSON, Chunk, Request
from gateway.errors import BadRequest, ContentBlocked, UpstreamFailed
from gateway.exchange import Exchange
from gateway.providers.protocol import Chunks
from gateway.stages.fragments import append_fragment, fragments, texts
from gateway.stages.restoring import restored
from guardrails.policy import Policy, StreamScreen
from guardrails.pseudonyms import Pseudonyms
from guardrails.verdicts import Screened, Verdict

_decode = msgspec.json.Decoder().decode
_OFF_LOOP = 4_000  # characters from which screening would hold up other calls, so a thread does it
_ANSWER = frozenset({"id", "object", "created", "model", "choices", "usage", "system_fingerprint", "service_tier"})
_CHOICE = frozenset({"index", "delta", "message", "finish_reason"})
_NO_TEXT: tuple[Any, ...] = (None, "", [], {})


class InputGuard:
    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        # A passage is the same for every call that finds it.
        self._passages: LRUCache[tuple[str, str], Screened] = LRUCache(2_000)

    async def screen(self, request: Request, exchange: Exchange) -> None:
        """Mask what the policy masks in the caller's messages. Raises ContentBlocked."""
        started = time.perf_counter_ns()
        if self._policy.pseudonymises and exchange.pseudonyms is None:
            exchange.pseudonyms = Pseudonyms()
        try:
            messages = request.messages
            changed = False
            for index, message in enumerate(messages):
                for holder, key in texts(message):
                    screened = await _screened(self._policy, holder[key], exchange.pseudonyms)
                    _record(exchange, "input", screened.verdicts)
                    if screened.blocked:
                        raise _refusal(screened.verdicts, f"messages[{index}]")
                    if screened.changed:
                        holder[key] = screened.text
                        changed = True
            if changed:
                request.messages = messages
        finally:
            exchange.stage("input_guardrails", started)

    async def screen_passages(self, exchange: Exchange) -> None:
        """Mask in the passages what the policy masks; leave out one that it blocks."""
        kept = []
        for passage in exchange.passages:
            key = (passage.section_id, passage.version)
            screened = self._passages.get(key)
            if screened is None:
                screened = await _screened(self._policy, passage.text, exchange.pseudonyms)
                if not self._policy.pseudonymises:  # whose placeholders are the call's own
                    self._passages[key] = screened
            _record(exchange, "passages", screened.verdicts)
            if not screened.blocked:
                kept.append(replace(passage, text=screened.text) if screened.changed else passage)
        exchange.passages = kept

    def restore(self, chunks: Chunks, exchange: Exchange) -> Chunks:
        """The answer with the caller's values where placeholders went out."""
        return restored(chunks, exchange)


class OutputGuard:
    def __init__(self, policy: Policy) -> None:
        self._policy = policy

    def check(self, request: Request) -> None:
        """Refuse what could carry text past the screens. Raises BadRequest."""
        if request.logprobs:
            raise BadRequest("logprobs can't be had from a model with output guardrails.", param="logprobs")

    def screen(self, chunks: Chunks, exchange: Exchange) -> Chunks:
        return _GuardedAnswer(chunks, self._policy, exchange)


class _GuardedAnswer:
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
        if self._exchange.endpoint in ("embeddings", "rerank"):
            return [chunk]  # numbers, and at most the caller's own documents
        document, choices = _seen(chunk)
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
                    screen = self._screens[index, channel] = self._policy.stream()
                holder[key] = await _fed(screen, holder[key])
                if screen.blocked:
                    return [self._blocked()]
            if choice.get("finish_reason"):
                if self._flush(index, delta):
                    return [self._blocked()]
                choice["delta"] = delta
            silent = silent and not choice.get("finish_reason") and _is_empty(delta)
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
        indexes = sorted({index for index, _ in self._screens}) or [0]
        choices = [{"index": index, "delta": {}, "finish_reason": "content_filter"} for index in indexes]
        return Chunk(JSON.encode({**self._frame, "choices": choices}))

    async def _whole(self, document: dict[str, Any], choices: list[dict[str, Any]]) -> Chunk:
        verdicts: list[Verdict] = []
        for choice in choices:
            message = choice.get("message") or {}
            for holder, key, _ in fragments(message):
                screened = await _screened(self._policy, holder[key])
                verdicts += screened.verdicts
                if screened.blocked:
                    choice["message"] = {"role": "assistant", "content": "", "refusal": None}
                    choice["finish_reason"] = "content_filter"
                    self._exchange.outcome = "blocked"
                    break
                holder[key] = screened.text
        _record(self._exchange, "output", verdicts)
        return Chunk(JSON.encode(document))

    def _note_verdicts(self) -> None:
        """Once, when the answer is let go, however it ended."""
        screens, self._screens = self._screens, {}
        for screen in screens.values():
            _record(self._exchange, "output", screen.verdicts)


def _seen(chunk: Chunk) -> tuple[dict[str, Any], list[dict[str, Any]]]:
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


async def _screened(policy: Policy, text: str, pseudonyms: Pseudonyms | None = None) -> Screened:
    if len(text) < _OFF_LOOP:
        return policy.screen(text, pseudonyms)
    return await asyncio.to_thread(policy.screen, text, pseudonyms)


async def _fed(screen: StreamScreen, text: str) -> str:
    if len(text) < _OFF_LOOP:
        return screen.feed(text)
    return await asyncio.to_thread(screen.feed, text)


def _record(exchange: Exchange, stage: str, verdicts: Iterable[Verdict]) -> None:
    exchange.verdicts += [(stage, verdict) for verdict in verdicts if verdict.action != "allow"]


def _refusal(verdicts: Iterable[Verdict], param: str) -> ContentBlocked:
    checks = ", ".join(sorted({verdict.check for verdict in verdicts if verdict.action == "block"}))
    return ContentBlocked(
        f"The request was blocked by a guardrail ({checks}). Remove what it found and try again.", param=param
    )


def _is_empty(delta: dict[str, Any]) -> bool:
    """Whether nothing is left in a delta once its held text is out."""
    if delta.get("role"):
        return False
    for key, value in delta.items():
        if key in ("id", "type") and value:
            return False
        if isinstance(value, dict):
            if not _is_empty(value):
                return False
        elif isinstance(value, list):
            if not all(isinstance(item, dict) and _is_empty(item) for item in value):
                return False
        elif key != "index" and value not in _NO_TEXT:
            return False
    return True
