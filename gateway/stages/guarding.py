"""Guardrails on what goes in: messages, tools and passages; and what stands behind an answer that comes out.

Rules over runs look at each text as it comes to them, without a pause. Rules over whole texts are asked about all
texts of a call together, once no rule over runs has blocked one.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Literal

import msgspec
from cachetools import LRUCache

from gateway.chat import JSON, ChatRequest, Request, last_question
from gateway.errors import BadRequest, ContentBlocked
from gateway.exchange import Exchange
from gateway.providers.protocol import Chunks
from gateway.stages.conversations import ConversationPseudonyms
from gateway.stages.flowing import FlowedAnswer
from gateway.stages.guard_calls import guarding
from gateway.stages.judging import JudgedAnswer
from gateway.stages.request_texts import Place, fields_of, places_of
from gateway.stages.restoring import restored
from gateway.stages.screening import ScreenedAnswer
from gateway.stages.verdicts import note, refusal, screened
from gateway.stages.withholding import withheld
from guardrails.judging import Batch, Judges
from guardrails.masks import masked_parts
from guardrails.policy import Policy
from guardrails.pseudonyms import Pseudonyms
from guardrails.text_checks import Context
from guardrails.verdicts import Screened
from retrieval.passages import Passage, dropped


class InputGuard:
    def __init__(
        self, policy: Policy, conversations: ConversationPseudonyms | None = None, *, keep_blocked: bool = False
    ) -> None:
        """Without `conversations`, pseudonyms are each call's own. `keep_blocked`: what is blocked may be recorded."""
        self.policy = policy
        self._conversations = conversations
        self._keep_blocked = keep_blocked
        # A passage is the same for every call that finds it.
        self._passages: LRUCache[tuple[str, ...], list[Screened]] = LRUCache(2_000)

    async def screen(self, request: Request, exchange: Exchange) -> None:
        """Mask what the policy masks in the caller's messages, tools and whatever else the model would read.

        Raises ContentBlocked, and StageFailed where a check that may not be missed can't judge.
        """
        started = time.perf_counter_ns()
        policy = self.policy.for_call(exchange.call_id)
        if policy.pseudonymises and exchange.pseudonyms is None:
            kept = self._conversations
            exchange.pseudonyms = await kept.begin(request, exchange) if kept is not None else Pseudonyms()
        try:
            messages = request.messages
            fields = fields_of(request)
            changed: set[str] = set()
            left: list[Place] = []
            for place in places_of(messages, fields):
                text = place.holder[place.key]
                if policy.rules:
                    told = await screened(policy, text, exchange.pseudonyms, in_json=place.json)
                    _pass([place], told, exchange, changed)
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
            if self._conversations is not None and exchange.pseudonyms is not None:
                await self._conversations.keep(request, exchange)
        except ContentBlocked:
            if self._keep_blocked and exchange.record_content:
                exchange.withheld = await withheld(policy, request, exchange)
            raise
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
            if any(one.blocked for one in all_told):
                exchange.dropped = (*exchange.dropped, dropped(passage, "guardrail"))
            else:
                kept.append(_rewritten(passage, all_told))
        exchange.passages = kept
        if self._conversations is not None and exchange.pseudonyms is not None:
            await self._conversations.keep(request, exchange)

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
            parted = policy.judges.parted
            if parted.flowing or parted.on_calls is not None:
                chunks = FlowedAnswer(chunks, parted.flowing, parted.on_calls, request, exchange)
            if parted.others is not None:
                chunks = JudgedAnswer(chunks, policy, parted.others, request, exchange, call)
        return chunks


def _pass(places: list[Place], told: Screened, exchange: Exchange, changed: set[str]) -> None:
    """Note the verdicts on what stands in these places, and put it there masked. Raises ContentBlocked, StageFailed."""
    first = places[0]
    note(exchange, "tools" if first.part != "text" else "input", told.verdicts)
    if told.blocked:
        raise refusal(told.verdicts, first.param)
    if told.changed:
        parts = [place.holder[place.key] for place in places]
        masked = masked_parts(told.verdicts, parts) if len(places) > 1 else [told.text]
        for place, text in zip(places, masked, strict=True):
            place.holder[place.key] = text
        changed.add(first.param.partition("[")[0])


async def _judge(judges: Judges, places: list[Place], question: str, exchange: Exchange, changed: set[str]) -> None:
    """All texts of a request, in batches of those that came the same way.

    What defines one tool is one text: a name or a word of it alone is too little to judge.
    """
    groups: dict[tuple[str, str, bool, bool, bool], list[list[Place]]] = {}
    for place in places:
        ways = [(place.part, "", place.json, place.content, place.instructions)]
        if judges.by_tool and place.tool:
            ways.append((place.part, place.tool, place.json, False, False))
        for way in ways:
            group = groups.setdefault(way, [])
            if place.part == "definition" and group and group[-1][0].param == place.param:
                group[-1].append(place)
            else:
                group.append([place])
    batches = []
    for (part, tool, json, content, instructions), group in groups.items():
        road: Literal["input", "tools"] = "input" if part == "text" else "tools"
        context = Context(road, question, part=group[0][0].part, tool=tool)
        written = tuple("\n".join(place.holder[place.key] for place in unit) for unit in group)
        batches.append(Batch(written, context, json, content, instructions))
    told = await judges.screen(batches)
    outcomes = [
        pair for group, answers in zip(groups.values(), told, strict=True) for pair in zip(group, answers, strict=True)
    ]
    # A block is said before a check's absence: it is the caller's to mend.
    for unit, one in sorted(outcomes, key=lambda pair: not any(v.action == "block" for v in pair[1].verdicts)):
        _pass(unit, one, exchange, changed)


async def _judge_passages(judges: Judges, made: list[list[Screened]], question: str) -> None:
    """Put what the judges say of each passage behind what the rules over runs have said of its texts.

    A passage is judged as one text, titles first, as a prompt shows it: a heading alone is too little to judge.
    """
    left = [told for told in made if not any(one.blocked for one in told)]
    if not left:
        return
    parts = [[one.text for one in (*told[1:], told[0])] for told in left]
    batch = Batch(tuple("\n".join(each) for each in parts), Context("passages", question))
    (answers,) = await judges.screen([batch], each=True)
    for told, answer, each in zip(left, answers, parts, strict=True):
        *names, text = masked_parts(answer.verdicts, each)
        for n, new in enumerate((text, *names)):
            before = told[n]
            verdicts = (*before.verdicts, *(answer.verdicts if n == 0 else ()))
            told[n] = Screened(new, verdicts, before.changed or new != before.text)


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
