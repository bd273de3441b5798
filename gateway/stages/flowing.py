"""Rules over whole texts that need not wait for the whole: an answer leaves as far as it is certain what they find.

Each text of an answer (content, reasoning, refusal, what the gateway does not know) goes its own way past them, whether
it comes in pieces or whole. Calls of tools are judged and leave when all of a choice are complete: nobody can use a part
of one, and what is masked in it must leave JSON.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import msgspec

from gateway.chat import JSON, ChatRequest
from gateway.chunks import Chunk
from gateway.exchange import Exchange
from gateway.providers.protocol import Chunks
from gateway.providers.replay import whole
from gateway.stages.fragments import append_fragment, fragments
from gateway.stages.guard_calls import guarding
from gateway.stages.judging import context_of
from gateway.stages.screening import blocked_chunk, fed, is_empty, seen
from gateway.stages.verdicts import note, refusal_text
from gateway.stages.windows import batches_of
from guardrails.flows import TextFlow
from guardrails.judging import Judges
from guardrails.rules import TextRule
from guardrails.verdicts import Verdict

_CALLS = "tool_calls"


class FlowedAnswer:
    """An answer whose text leaves once it is certain that no rule masks or blocks it."""

    def __init__(
        self,
        chunks: Chunks,
        rules: Sequence[TextRule],
        on_calls: Judges | None,
        request: ChatRequest,
        exchange: Exchange,
    ) -> None:
        """`rules` all `flows`; `on_calls` judge the calls of tools."""
        self._chunks = chunks
        self._content = tuple(rules)
        self._beside = tuple(rule for rule in rules if not rule.content_only)
        self._on_calls = on_calls
        self._request = request
        self._exchange = exchange
        self._context = context_of(request, exchange)
        self._flows: dict[int, dict[str, TextFlow]] = {}  # by choice, then by where the text stands
        self._calls: dict[int, list[Chunk]] = {}
        self._calling: set[int] = set()  # the choices that call tools
        self._blocked: set[int] = set()
        self._frame: dict[str, Any] = {}
        self._ended = False

    async def next(self) -> list[Chunk]:
        if self._ended:
            return []
        while True:
            stopped = self._exchange.outcome == "blocked"
            incoming = await self._chunks.next()
            if not incoming:
                return await self._last()
            outgoing: list[Chunk] = []
            # Rules over runs that stop an answer end it with a chunk of their own.
            own = (
                incoming.pop()
                if self._exchange.outcome == "blocked" and not stopped and _is_end(incoming[-1])
                else None
            )
            for chunk in incoming:
                outgoing += await self._pass(chunk)
                if self._ended:
                    return outgoing
            if own is not None:
                return [*outgoing, self._end_with(own)]
            if outgoing:
                return outgoing

    def close(self) -> None:
        self._chunks.close()
        for flows in self._flows.values():
            note(self._exchange, "output", [v for flow in flows.values() for v in flow.verdicts if not v.closed])
        self._flows = {}

    async def _pass(self, chunk: Chunk) -> list[Chunk]:
        document, choices = seen(chunk)
        if any("message" in choice for choice in choices):
            return [await self._whole(document, choices)]
        self._frame = {k: v for k, v in document.items() if k in ("id", "object", "created", "model")}
        told: list[dict[str, Any]] = []
        ends: list[Chunk] = []
        for choice in choices:
            index = choice.get("index", 0)
            if index in self._blocked:
                continue
            delta = choice["delta"] = choice.get("delta") or {}
            verdicts = await self._advance(index, delta, finished=bool(choice.get("finish_reason")))
            if verdicts is not None:
                choice["finish_reason"] = None  # what stands before leaves, and then its end
                ends.append(self._block(index, verdicts))
            if choice.get("finish_reason") or not is_empty(delta):
                told.append(choice)
        if choices and not told and not document.get("usage"):
            return ends  # all of it is held back
        return [Chunk(JSON.encode({**document, "choices": told} if choices else document)), *ends]

    async def _last(self) -> list[Chunk]:
        """What is still held where a provider left out `finish_reason`."""
        self._ended = True
        outgoing: list[Chunk] = []
        for index in sorted({*self._flows, *self._calls}):
            delta: dict[str, Any] = {}
            verdicts = await self._advance(index, delta, finished=True)
            if delta:
                choices = [{"index": index, "delta": delta, "finish_reason": None}]
                outgoing.append(Chunk(JSON.encode({**self._frame, "choices": choices})))
            if verdicts is not None:
                outgoing.append(self._block(index, verdicts))
        return outgoing

    async def _advance(self, index: int, delta: dict[str, Any], *, finished: bool) -> list[Verdict] | None:
        """Leave in a delta what may leave; the verdicts where the choice is stopped, of all its texts.

        Raises StageFailed where a check fails that may not be missed.
        """
        if delta.get(_CALLS):
            self._calling.add(index)
        if self._on_calls is not None and (calls := delta.pop(_CALLS, None)):
            part = {"index": 0, "delta": {_CALLS: calls}}
            self._calls.setdefault(index, []).append(Chunk(JSON.encode({"choices": [part]})))
        flows = self._flows.setdefault(index, {})
        stopped = False
        for holder, key, channel in fragments(delta):
            if (flow := self._flow(flows, channel)) is not None:
                holder[key] = await fed(flow, holder[key])
                stopped |= flow.stopped
        if finished and not stopped:
            stopped = await self._finish(index, flows, delta)
        if not (finished or stopped):
            return None
        verdicts = [verdict for flow in self._flows.pop(index).values() for verdict in flow.verdicts]
        if not stopped:
            calls, told = await self._judged_calls(index)
            verdicts += told
            if calls and not any(verdict.stops for verdict in told):
                delta[_CALLS] = calls
        note(self._exchange, "output", verdicts)
        return verdicts if any(verdict.stops for verdict in verdicts) else None

    def _flow(self, flows: dict[str, TextFlow], channel: str) -> TextFlow | None:
        """The text of a channel on its way; None where no rule looks."""
        if self._on_calls is not None and channel.startswith(f"{_CALLS}["):
            return None
        rules = self._content if channel == "content" else self._beside
        if channel.startswith(f"{_CALLS}[") or not rules:
            return None
        if channel not in flows:
            flows[channel] = TextFlow(rules, self._context)
        return flows[channel]

    async def _finish(self, index: int, flows: dict[str, TextFlow], delta: dict[str, Any]) -> bool:
        """Put what is still held into a choice's last delta; whether one of its texts is stopped."""
        if "content" not in flows and index not in self._calling and self._content:
            self._flow(flows, "content")  # nothing can be a wrong answer
        for channel, flow in flows.items():
            if rest := flow.finish():
                append_fragment(delta, channel, rest)
            if flow.stopped:
                return True
        return False

    async def _judged_calls(self, index: int) -> tuple[list[dict[str, Any]], list[Verdict]]:
        """A choice's calls as they may leave, and what is said of them."""
        gathered = self._calls.pop(index, None)
        if not gathered or self._on_calls is None:
            return [], []
        _, (choice,) = seen(whole(gathered))
        message = {_CALLS: choice["message"][_CALLS]}
        return message[_CALLS], await self._judged(message)

    async def _judged(self, message: dict[str, Any]) -> list[Verdict]:
        """What is said of the calls in a message; what is masked in them is masked."""
        assert self._on_calls is not None
        places = [place for place in fragments(message) if place[2].startswith(f"{_CALLS}[")]
        if not places:
            return []
        parts = [(channel, holder[key]) for holder, key, channel in places]
        batches, owners = batches_of(self._on_calls, parts, self._context, whole=False)
        with guarding(self._request, self._exchange):
            answers = await self._on_calls.screen(batches)
        verdicts: list[Verdict] = []
        for group, told in zip(owners, answers, strict=True):
            for order, one in zip(group, told, strict=True):
                verdicts += one.verdicts
                if one.changed:
                    holder, key, _ = places[order]
                    holder[key] = one.text
        return verdicts

    def _block(self, index: int, verdicts: list[Verdict]) -> Chunk:
        """The end of one choice. Once no other is left the upstream call is cut off, not when the caller is done."""
        self._blocked.add(index)
        self._calls.pop(index, None)
        self._exchange.outcome = "blocked"
        if len(self._blocked) >= _choices_of(self._request):
            self._ended = True
            self._chunks.close()
        return blocked_chunk(self._frame, [index], refusal_text(verdicts))

    def _end_with(self, chunk: Chunk) -> Chunk:
        """The end that other rules have made: what is held here stays here."""
        self._ended = True
        document, choices = seen(chunk)
        left = [choice for choice in choices if choice.get("index", 0) not in self._blocked]
        return Chunk(JSON.encode({**document, "choices": left})) if len(left) < len(choices) else chunk

    # -- whole --------------------------------------------------------------------------------------------
    async def _whole(self, document: dict[str, Any], choices: list[dict[str, Any]]) -> Chunk:
        started = time.perf_counter_ns()
        stopped = self._exchange.outcome == "blocked"
        for order, choice in enumerate(choices):
            message = choice.get("message")
            if not isinstance(message, dict) or (stopped and choice.get("finish_reason") == "content_filter"):
                continue
            verdicts = await self._message(choice.get("index", order), message)
            if verdicts is not None:
                self._exchange.outcome = "blocked"
                choice["message"] = {"role": "assistant", "content": refusal_text(verdicts), "refusal": None}
                choice["finish_reason"] = "content_filter"
        self._exchange.stage("output_guardrails", started)
        return Chunk(JSON.encode(document))

    async def _message(self, index: int, message: dict[str, Any]) -> list[Verdict] | None:
        """As a stream's choice would leave, put together again; the verdicts where it is stopped."""
        flows: dict[str, TextFlow] = {}
        stopped = False
        for holder, key, channel in fragments(message):
            if (flow := self._flow(flows, channel)) is not None and not stopped:
                told = await fed(flow, holder[key])
                holder[key] = told + flow.finish()
                stopped = flow.stopped
        if not stopped and not message.get("content") and not message.get(_CALLS) and self._content:
            empty = self._flow(flows, "content")
            assert empty is not None
            empty.finish()
            stopped = empty.stopped
        verdicts = [verdict for flow in flows.values() for verdict in flow.verdicts]
        if not stopped and self._on_calls is not None:
            verdicts += await self._judged(message)
        note(self._exchange, "output", verdicts)
        return verdicts if any(verdict.stops for verdict in verdicts) else None


def _is_end(chunk: Chunk) -> bool:
    choices = chunk.facts.choices or ()
    return bool(choices) and all(choice.finish_reason == "content_filter" for choice in choices)


def _choices_of(request: ChatRequest) -> int:
    given = request.fields.get("n")
    asked = msgspec.json.decode(given) if given is not None else 1
    return asked if isinstance(asked, int) else 1
