"""Rules over whole texts on an answer.

Where one of them is strict and acts, and its check needs the whole, nothing of the answer leaves before all of it is
judged: a stream is gathered, judged as a whole answer is, and then told. Those whose checks can let go of a text earlier
stand in `flowing`, before this. Otherwise the answer leaves as it comes and is judged as it leaves, over a
window; and once more before its end is told.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from gateway.chat import JSON, ChatRequest, Request, last_question, text_of
from gateway.chunks import Chunk
from gateway.errors import GatewayError, UpstreamFailed
from gateway.exchange import Exchange
from gateway.providers.protocol import Chunks
from gateway.providers.replay import split, whole
from gateway.stages.fragments import fragments, is_json
from gateway.stages.guard_calls import guarding
from gateway.stages.screening import blocked_chunk, seen
from gateway.stages.verdicts import note, refusal_text, screened
from gateway.stages.windows import Window, batches_of
from guardrails.judging import Judges
from guardrails.policy import Policy
from guardrails.text_checks import Context
from guardrails.verdicts import Verdict

_LONGEST = 16_000_000  # bytes of an answer that can be held back until it is judged


class JudgedAnswer:
    """An answer with its judges; see the module."""

    def __init__(
        self,
        chunks: Chunks,
        policy: Policy,
        judges: Judges,
        request: ChatRequest,
        exchange: Exchange,
        call: Callable[[Request, Exchange], Awaitable[Chunks]],
    ) -> None:
        """`judges` are those of the policy's that judge here; `call` asks the model's targets, where an answer may be
        repaired."""
        self._chunks = chunks
        self._policy = policy
        self._judges = judges
        self._request = request
        self._exchange = exchange
        self._call = call
        self._context = context_of(request, exchange)
        self._frame: dict[str, Any] = {}
        self._ended = False
        self._repaired = False
        self._hold = any(rule.acts and rule.strict for rule in self._judges.rules)
        sliding = [rule for rule in self._judges.rules if rule.acts]
        self._window = Window(self._judges.only(sliding), self._context) if sliding and not self._hold else None
        self._whole = [rule for rule in self._judges.rules if self._hold or not rule.acts]
        self._told: dict[tuple[int, str], list[str]] = {}  # what has left, for those who judge it whole

    async def next(self) -> list[Chunk]:
        if self._ended:
            return []
        if self._hold or not self._request.stream:
            return await self._all()
        incoming = await self._pull()
        if incoming is None:
            return [self._stop()]
        outgoing: list[Chunk] = []
        for chunk in incoming:
            if (last := await self._pass(chunk)) is not None:
                return [*outgoing, last]
            outgoing.append(chunk)
        if not incoming and (last := await self._pass(None)) is not None:
            return [last]
        return outgoing

    def close(self) -> None:
        self._ended = True
        self._chunks.close()
        if self._window is not None:
            self._window.close()
            self._window.note(self._exchange)

    # -- held back ----------------------------------------------------------------------------------------
    async def _all(self) -> list[Chunk]:
        """The whole answer, judged, in the form that was asked for."""
        self._ended = True
        gathered: list[Chunk] = []
        size = 0
        while burst := await self._chunks.next():
            gathered += burst
            size += sum(len(chunk.data) for chunk in burst)
            if size > _LONGEST:
                raise UpstreamFailed("The provider's answer is too long to be judged.", code="upstream_bad_answer")
        if not gathered:
            return []
        document, choices = seen(whole(gathered))
        started = time.perf_counter_ns()
        stopped = self._exchange.outcome == "blocked"
        for order, choice in enumerate(choices):
            choice.setdefault("index", order)
            if choice.get("finish_reason") == "content_filter" and stopped:
                # What other rules let out before they stopped it does not leave either.
                if len(gathered) == 1:
                    continue
                choice["message"] = {"role": "assistant", "content": _last_words(gathered[-1]), "refusal": None}
            elif isinstance(choice.get("message"), dict):
                await self._judge_choice(document, choice)
        self._exchange.stage("output_guardrails", started)
        completion = Chunk(JSON.encode(document))
        return split(completion) if self._request.stream else [completion]

    async def _judge_choice(self, document: dict[str, Any], choice: dict[str, Any]) -> None:
        """One choice's message masked, repaired, or replaced by the operator's words."""
        verdicts = await self._judged(choice["message"])
        blocking = [verdict for verdict in verdicts if verdict.action == "block"]
        if blocking and (instruction := self._instruction(blocking)) is not None:
            note(self._exchange, "output", [replace(v, action="flag") if v in blocking else v for v in verdicts])
            message = await self._repair(document, choice["message"], instruction)
            if message is not None:
                choice["message"], choice["finish_reason"] = message, "stop"
                verdicts = await self._judged(message)
        note(self._exchange, "output", verdicts)
        if any(verdict.action == "block" for verdict in verdicts):
            self._exchange.outcome = "blocked"
            choice["message"] = {"role": "assistant", "content": refusal_text(verdicts), "refusal": None}
            choice["finish_reason"] = "content_filter"

    async def _judged(self, message: dict[str, Any]) -> list[Verdict]:
        """What is said of a message; what is masked in it is masked."""
        places = fragments(message)
        batches, owners = batches_of(
            self._judges, [(channel, holder[key]) for holder, key, channel in places], self._context
        )
        with guarding(self._request, self._exchange):
            answers = await self._judges.screen(batches)
        verdicts: list[Verdict] = []
        for group, told in zip(owners, answers, strict=True):
            for order, one in zip(group, told, strict=True):
                verdicts += one.verdicts
                if one.changed and order >= 0:
                    holder, key, _ = places[order]
                    holder[key] = one.text
        return verdicts

    def _instruction(self, blocking: list[Verdict]) -> str | None:
        """What to ask for where a new answer may mend it: only if every rule that blocks lets it be mended."""
        names = {verdict.check for verdict in blocking}
        repairs = [rule.repair for rule in self._judges.rules if rule.check.name in names]
        if self._repaired or not all(repairs):
            return None
        self._repaired = True
        return "\n".join(repair for repair in repairs if repair)

    async def _repair(
        self, document: dict[str, Any], message: dict[str, Any], instruction: str
    ) -> dict[str, Any] | None:
        """The message of a second answer; None where there is none. Its tokens are added to the first one's."""
        asked = self._request.whole()
        asked.fields.pop("n", None)
        asked.messages = [
            *self._request.messages,
            {"role": "assistant", "content": str(message.get("content") or "")},
            {"role": "user", "content": instruction},
        ]
        try:
            chunks = await self._call(asked, self._exchange)
            try:
                (chunk,) = await chunks.next()
            finally:
                chunks.close()
        except GatewayError:
            return None  # the first answer's verdict stands
        again, choices = seen(chunk)
        _add_usage(document, again.get("usage"))
        found = choices[0].get("message") if choices else None
        if not isinstance(found, dict):
            return None
        for holder, key, channel in fragments(found):
            told = await screened(self._policy, holder[key], in_json=is_json(channel))
            note(self._exchange, "output", told.verdicts)
            if told.blocked:
                return None
            holder[key] = told.text
        return found

    # -- side by side with the stream ---------------------------------------------------------------------
    async def _pass(self, chunk: Chunk | None) -> Chunk | None:
        """Take note of a chunk that is about to leave, None for the end; the last chunk instead, if it may not."""
        finished = []
        if chunk is not None:
            document, choices = seen(chunk)
            self._frame = {k: v for k, v in document.items() if k in ("id", "object", "created", "model")}
            stopped = {
                choice.get("index", 0)
                for choice in choices
                if choice.get("finish_reason") == "content_filter" and self._exchange.outcome == "blocked"
            }
            if stopped:  # their text was stopped before it came here, and their end is in this chunk
                self._told = {place: told for place, told in self._told.items() if place[0] not in stopped}
                choices = [choice for choice in choices if choice.get("index", 0) not in stopped]
                if not choices:
                    return None
            for choice in choices:
                index = choice.get("index", 0)
                for holder, key, channel in fragments(choice.get("delta") or {}):
                    told = self._told.setdefault((index, channel), [])
                    if self._whole:
                        told.append(holder[key])
                    if self._window is not None:
                        self._window.feed((index, channel), holder[key])
                if choice.get("finish_reason"):
                    finished.append(index)
        else:
            finished = sorted({index for index, _ in self._told})
            self._ended = True
            if not finished:
                return None
        with guarding(self._request, self._exchange):
            if self._window is not None:
                if finished:
                    await self._window.last(finished)
                else:
                    self._window.judge()
                if self._window.stops:
                    return self._stop()
            for index in finished:
                await self._watch(index)
        return None

    async def _watch(self, index: int) -> None:
        """The rules that only take note, over one choice's whole text."""
        told = {
            channel: "".join(self._told.pop((index, channel))) for owner, channel in list(self._told) if owner == index
        }
        if not self._whole or not told:
            return
        judges = self._judges.only(self._whole)
        batches, _ = batches_of(judges, list(told.items()), self._context)
        for answers in await judges.screen(batches):
            note(self._exchange, "output", [verdict for one in answers for verdict in one.verdicts])

    async def _pull(self) -> list[Chunk] | None:
        """What comes next; None where what has left turns out to be blocked before anything comes."""
        window = self._window
        if window is None or window.running is None:
            return await self._chunks.next()
        pulling = asyncio.ensure_future(self._chunks.next())
        try:
            while window.running is not None and not pulling.done():
                await asyncio.wait((pulling, window.running), return_when=asyncio.FIRST_COMPLETED)
                with guarding(self._request, self._exchange):
                    window.judge()  # what has left meanwhile
            if not window.stops:
                return await pulling
        except BaseException:
            await _let_go(pulling)
            raise
        await _let_go(pulling)
        return None

    def _stop(self) -> Chunk:
        """The end of a stream that is blocked. The upstream call is cut off here, not when the caller is done."""
        self._ended = True
        self._chunks.close()
        assert self._window is not None
        said = refusal_text(self._window.verdicts)
        self._window.note(self._exchange)  # raises where a check was away that may not be missed
        self._exchange.outcome = "blocked"
        return blocked_chunk(self._frame, sorted({index for index, _ in self._told}), said)


def context_of(request: ChatRequest, exchange: Exchange) -> Context:
    """What a check may know of an answer to this request."""
    messages = request.messages
    passages = tuple(passage.text for passage in exchange.passages)
    ours = "\n".join(text_of(message) for message in messages if message.get("role") in ("system", "developer"))
    for passage in passages:
        ours = ours.replace(passage, "")  # what a document says may be told
    return Context("output", last_question(messages), passages, ours)


def _last_words(chunk: Chunk) -> str:
    """What a stream that was stopped says instead."""
    said = [choice.delta.content for choice in chunk.facts.choices or () if choice.delta and choice.delta.content]
    return said[0] if said else ""


def _add_usage(document: dict[str, Any], more: Any) -> None:
    usage = document.get("usage")
    if not isinstance(usage, dict) or not isinstance(more, dict):
        return
    for name in ("prompt_tokens", "completion_tokens", "total_tokens"):
        if isinstance(usage.get(name), int) and isinstance(more.get(name), int):
            usage[name] += more[name]


async def _let_go(pulling: asyncio.Future[list[Chunk]]) -> None:
    """End a wait for what nobody needs any more."""
    pulling.cancel()
    await asyncio.gather(pulling, return_exceptions=True)
