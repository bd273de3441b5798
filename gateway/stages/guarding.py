"""Guardrails on what goes in: messages, tools and passages; and what stands behind an answer that comes out.

Rules over runs look at each text as it comes to them, without a pause. Rules over whole texts are asked about all
texts of a call together, once no rule over runs has blocked one.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal

import msgspec
from cachetools import LRUCache

from gateway.chat import JSON, ChatRequest, Request, last_question
from gateway.errors import BadRequest
from gateway.exchange import Exchange
from gateway.providers.protocol import Chunks
from gateway.stages.fragments import fragments, is_json, texts
from gateway.stages.guard_calls import guarding
from gateway.stages.judging import JudgedAnswer
from gateway.stages.restoring import restored
from gateway.stages.screening import ScreenedAnswer
from gateway.stages.verdicts import note, refusal, screened
from guardrails.judging import Batch, Judges
from guardrails.policy import Policy
from guardrails.pseudonyms import Pseudonyms
from guardrails.text_checks import Context
from guardrails.verdicts import Screened
from retrieval.passages import Passage

_decode = msgspec.json.Decoder().decode
_TOOLS = ("tools", "functions")
# Fields without words for the model. In every other one there may be some: tools, schemas, predictions, documents.
_NO_WORDS = frozenset({
    "audio", "frequency_penalty", "logit_bias", "logprobs", "max_completion_tokens", "max_tokens", "messages",
    "metadata", "modalities", "model", "n", "parallel_tool_calls", "presence_penalty", "priority",
    "prompt_cache_key", "prompt_cache_retention", "reasoning_effort", "safety_identifier", "seed", "service_tier",
    "stop", "store", "stream", "stream_options", "temperature", "tool_choice", "top_k", "top_logprobs", "top_p",
    "user", "verbosity",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Place:
    """One text of a request: where it stands, and how a caller would find it."""

    holder: dict[str, Any]
    key: str
    param: str
    part: Literal["text", "definition", "call", "result"]
    tool: str
    json: bool = False
    content: bool = False  # of a message, what it says
    instructions: bool = False  # of a system or developer message


class InputGuard:
    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        # A passage is the same for every call that finds it.
        self._passages: LRUCache[tuple[str, ...], list[Screened]] = LRUCache(2_000)

    async def screen(self, request: Request, exchange: Exchange) -> None:
        """Mask what the policy masks in the caller's messages, tools and whatever else the model would read.

        Raises ContentBlocked, and StageFailed where a check that may not be missed can't judge.
        """
        started = time.perf_counter_ns()
        policy = self.policy.for_call(exchange.call_id)
        if policy.pseudonymises and exchange.pseudonyms is None:
            exchange.pseudonyms = Pseudonyms()
        try:
            messages = request.messages
            fields = _fields(request)
            changed: set[str] = set()
            left: list[_Place] = []
            for place in _places(messages, fields):
                text = place.holder[place.key]
                if policy.rules:
                    told = await screened(policy, text, exchange.pseudonyms, in_json=place.json)
                    _pass(place, told, exchange, changed)
                if policy.judges is not None:
                    left.append(place)
            if policy.judges is not None and left:
                with guarding(request, exchange):
                    await _judge(policy.judges, left, last_question(messages), exchange, changed)
            if any(name not in fields for name in changed):
                request.messages = messages
            for name, value in fields.items():
                if name in changed:
                    request.fields[name] = msgspec.Raw(JSON.encode(value))
        finally:
            exchange.stage("input_guardrails", started)

    async def screen_passages(self, request: Request, exchange: Exchange) -> None:
        """Mask in the passages, and in their titles, what the policy masks; leave out a passage that it blocks.

        Raises StageFailed where a check that may not be missed can't judge.
        """
        policy = self.policy.for_call(exchange.call_id)
        keep = policy is self.policy and not policy.pseudonymises  # whose placeholders are the call's own
        keep = keep and (policy.judges is None or policy.judges.alone)
        passages = list(exchange.passages)
        found = [self._passages.get(_identity(passage)) if keep else None for passage in passages]
        new = [order for order, known in enumerate(found) if known is None]
        made = [
            [await screened(policy, text, exchange.pseudonyms) for text in _texts_of(passages[order])] for order in new
        ]
        if policy.judges is not None and made:
            with guarding(request, exchange):
                await _judge_passages(policy.judges, made, last_question(request.messages))
        for order, told in zip(new, made, strict=True):
            found[order] = told
            if keep and not any(verdict.action == "unavailable" for one in told for verdict in one.verdicts):
                self._passages[_identity(passages[order])] = told
        kept = []
        for passage, all_told in zip(passages, found, strict=True):
            assert all_told is not None
            note(exchange, "passages", [verdict for one in all_told for verdict in one.verdicts])
            if not any(one.blocked for one in all_told):
                kept.append(_rewritten(passage, all_told))
        exchange.passages = kept

    def restore(self, chunks: Chunks, exchange: Exchange) -> Chunks:
        """The answer with the caller's values where placeholders went out."""
        return restored(chunks, exchange)


class OutputGuard:
    def __init__(self, policy: Policy) -> None:
        self.policy = policy

    def check(self, request: Request) -> None:
        """Refuse what could carry text past the screens. Raises BadRequest."""
        if request.logprobs:
            raise BadRequest("logprobs can't be had from a model with output guardrails.", param="logprobs")

    def screen(
        self,
        chunks: Chunks,
        request: Request,
        exchange: Exchange,
        call: Callable[[Request, Exchange], Awaitable[Chunks]],
    ) -> Chunks:
        """The answer as far as the policy lets it out. `call` asks the model's targets, for an answer to be repaired."""
        if not isinstance(request, ChatRequest):
            return chunks  # numbers, and at most the caller's own documents
        policy = self.policy.for_call(exchange.call_id)
        if policy.rules:
            chunks = ScreenedAnswer(chunks, policy, exchange)
        if policy.judges is not None:
            chunks = JudgedAnswer(chunks, policy, request, exchange, call)
        return chunks


def _fields(request: Request) -> dict[str, Any]:
    """What a request holds besides its messages that may have words for the model, decoded."""
    if not isinstance(request, ChatRequest):
        return {}
    return {
        name: _decode(value)
        for name, value in request.fields.items()
        if name not in _NO_WORDS and bytes(value).startswith((b'"', b"[", b"{"))
    }


def _places(messages: list[dict[str, Any]], fields: dict[str, Any]) -> Iterable[_Place]:
    """Every text of a request."""
    names: dict[str, str] = {}  # of tools, by the id of their call
    for index, message in enumerate(messages):
        result = message.get("role") in ("tool", "function")
        ours = message.get("role") in ("system", "developer")
        tool = names.get(str(message.get("tool_call_id")), str(message.get("name") or "")) if result else ""
        for call in message.get("tool_calls") or ():
            if isinstance(call, dict) and isinstance(call.get("function"), dict):
                names[str(call.get("id"))] = str(call["function"].get("name") or "")
        for holder, key, channel in texts(message):
            where, calls = f"messages[{index}]", channel.startswith(("tool_calls[", "function_call."))
            if calls:
                called = holder.get("name") if is_json(channel) else None
                yield _Place(holder, key, where, "call", str(called or ""), is_json(channel))
            else:
                part: Literal["text", "result"] = "result" if result else "text"
                yield _Place(holder, key, where, part, tool, content=channel.startswith("content"), instructions=ours)
    for name, value in fields.items():
        if isinstance(value, str):
            yield _Place(fields, name, name, "text", "")
        elif name in _TOOLS and isinstance(value, list):
            for order, item in enumerate(value):
                for holder, key, _ in fragments(item) if isinstance(item, dict) else ():
                    yield _Place(holder, key, f"{name}[{order}]", "definition", _tool_name(item))
        else:
            for holder, key, channel in fragments({name: value}):
                yield _Place(holder, key, channel.partition(".")[0], "text", "")


def _tool_name(tool: Any) -> str:
    function = tool.get("function", tool) if isinstance(tool, dict) else None
    return str(function.get("name") or "") if isinstance(function, dict) else ""


def _pass(place: _Place, told: Screened, exchange: Exchange, changed: set[str]) -> None:
    """Note the verdicts and put the masked text into its place. Raises ContentBlocked and StageFailed."""
    note(exchange, "tools" if place.part != "text" else "input", told.verdicts)
    if told.blocked:
        raise refusal(told.verdicts, place.param)
    if told.changed:
        place.holder[place.key] = told.text
        changed.add(place.param.partition("[")[0])


async def _judge(judges: Judges, places: list[_Place], question: str, exchange: Exchange, changed: set[str]) -> None:
    """All texts of a request, in batches of those that came the same way."""
    groups: dict[tuple[str, str, bool, bool, bool], list[_Place]] = {}
    for place in places:
        groups.setdefault((place.part, "", place.json, place.content, place.instructions), []).append(place)
        if judges.by_tool and place.tool:
            groups.setdefault((place.part, place.tool, place.json, False, False), []).append(place)
    batches = []
    for (part, tool, json, content, instructions), group in groups.items():
        road: Literal["input", "tools"] = "input" if part == "text" else "tools"
        context = Context(road, question, part=group[0].part, tool=tool)
        written = tuple(place.holder[place.key] for place in group)
        batches.append(Batch(written, context, json, content, instructions))
    told = await judges.screen(batches)
    outcomes = [
        pair for group, answers in zip(groups.values(), told, strict=True) for pair in zip(group, answers, strict=True)
    ]
    # A block is said before a check's absence: it is the caller's to mend.
    for place, one in sorted(outcomes, key=lambda pair: not any(v.action == "block" for v in pair[1].verdicts)):
        _pass(place, one, exchange, changed)


async def _judge_passages(judges: Judges, made: list[list[Screened]], question: str) -> None:
    """Put what the judges say of each passage's texts behind what the rules over runs have said."""
    open_ = [(told, n) for told in made if not any(one.blocked for one in told) for n in range(len(told))]
    batch = Batch(tuple(told[n].text for told, n in open_), Context("passages", question))
    if not open_:
        return
    (answers,) = await judges.screen([batch], each=True)
    for (told, n), answer in zip(open_, answers, strict=True):
        before = told[n]
        told[n] = Screened(answer.text, (*before.verdicts, *answer.verdicts), changed=before.changed or answer.changed)


def _identity(passage: Passage) -> tuple[str, ...]:
    return (passage.section_id, passage.version, passage.title, *passage.heading)


def _texts_of(passage: Passage) -> tuple[str, ...]:
    """All of a passage that a prompt shows: a document's name is written by whoever wrote the document."""
    return (passage.text, passage.title, *passage.heading)


def _rewritten(passage: Passage, told: list[Screened]) -> Passage:
    if not any(one.changed for one in told):
        return passage
    text, title, *heading = (one.text for one in told)
    return replace(passage, text=text, title=title, heading=tuple(heading))
