"""Checks of whole texts, asked in the order of what they cost: a dear one only where no cheap one has stopped the text.

A check that fails, or does not answer in time, has said nothing: its rule says what that means.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from time import perf_counter_ns

from cachetools import TTLCache

from guardrails.json_text import strings, with_strings
from guardrails.masks import masked_by, masked_parts
from guardrails.rules import TextRule, sampled
from guardrails.text_checks import CheckUnavailable, Context
from guardrails.verdicts import Finding, Screened, Verdict

log = logging.getLogger(__name__)

_COSTS = ("cheap", "local", "remote")
_OFF_LOOP = 2_000  # characters from which pure Python would hold up other calls, so a thread does it
_KEPT = 4_000  # verdicts of dear checks, so that a conversation's earlier turns are not judged again with each new one
_KEPT_FOR = 600.0  # seconds

_Key = tuple[str, str, str, bytes]
"""A check, its version, the road, and the text's SHA-256."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Texts that came the same way. `json`: they are JSON, whose strings are judged as they read without escapes, and
    which stays JSON once it is masked. `content`: they are what was asked for, and not what was said beside it. `instructions`: they are a caller's system or developer messages."""

    texts: tuple[str, ...]
    context: Context
    json: bool = False
    content: bool = True
    instructions: bool = False

    def concerns(self, rule: TextRule) -> bool:
        """Whether the rule looks here."""
        if rule.by_tool != bool(self.context.tool):
            return False
        there = rule.instructions if self.instructions else self.context.road in rule.roads
        return there and (self.content or not rule.content_only)


@dataclass(frozen=True, slots=True)
class Parted:
    """Rules over an answer, by what each of them lets leave before all of it has come.

    `flowing`: text, as far as it is certain. `on_calls`: what the same ones, and those about tools alone, say of its
    calls, which leave when they are complete. `others`: those that hold back everything, or nothing.
    """

    flowing: tuple[TextRule, ...]
    on_calls: Judges | None
    others: Judges | None


class Judges:
    """Rules over whole texts. `within`: the seconds that all of them have together for what is asked at once."""

    def __init__(
        self, rules: Sequence[TextRule], within: float = 5.0, known: TTLCache[_Key, tuple[Finding, ...]] | None = None
    ) -> None:
        """`known`: what another of these has found, where they are about the same calls."""
        self.rules = tuple(rules)
        self._known = TTLCache(_KEPT, _KEPT_FOR) if known is None else known
        self.within = within
        self.version = hashlib.sha256("\0".join(rule.told for rule in self.rules).encode()).hexdigest()[:16]
        self.alone = all(rule.alone for rule in self.rules)
        self.by_tool = any(rule.by_tool for rule in self.rules)
        self.sampled = any(rule.sample < 1 for rule in self.rules)

    def beside(self, other: Judges) -> Judges:
        return Judges([*self.rules, *other.rules], max(self.within, other.within))

    def only(self, rules: Sequence[TextRule]) -> Judges:
        return Judges(rules, self.within, self._known)

    def for_call(self, call_id: str) -> Judges | None:
        """The rules that look at this call; None where none does."""
        if not self.sampled:
            return self
        kept = [rule for order, rule in enumerate(self.rules) if sampled(rule, call_id, -1 - order)]
        return self.only(kept) if kept else None

    @cached_property
    def parted(self) -> Parted:
        """Where one rule holds back all of an answer, the others need not let go of it earlier."""
        strict = [rule for rule in self.rules if rule.acts and rule.strict]
        about_calls = [rule for rule in strict if rule.roads == {"tools"} and not rule.whole]
        if not strict or any(not rule.flows for rule in strict if rule not in about_calls):
            return Parted((), None, self)
        on_calls = [rule for rule in strict if "tools" in rule.roads and not rule.content_only]
        others = [rule for rule in self.rules if rule not in strict]
        return Parted(
            tuple(rule for rule in strict if "output" in rule.roads),
            self.only(on_calls) if on_calls else None,
            self.only(others) if others else None,
        )

    async def screen(self, batches: Sequence[Batch], *, each: bool = False) -> list[list[Screened]]:
        """Each text of each batch after all rules that concern it.

        Rules of one cost class are asked side by side. Once a text is stopped nothing dearer is asked, unless `each`
        text stands for itself: then only about the others.
        """
        unfolded = [_unfolded(batch) for batch in batches]
        told = await self._screen([batch for batch, _ in unfolded], each)
        return [
            answers if inside is None else _folded(batch, answers, inside)
            for batch, answers, (_, inside) in zip(batches, told, unfolded, strict=True)
        ]

    async def _screen(self, batches: Sequence[Batch], each: bool) -> list[list[Screened]]:
        deadline = asyncio.get_running_loop().time() + self.within
        verdicts: list[list[list[Verdict]]] = [[[] for _ in batch.texts] for batch in batches]
        for cost in _COSTS:
            work = [
                (rule, number)
                for rule in self.rules
                if rule.check.cost == cost
                for number, batch in enumerate(batches)
                if batch.concerns(rule)
            ]
            if not work:
                continue
            stopped = [[any(v.stops for v in said) for said in batch] for batch in verdicts]
            if not each and any(any(batch) for batch in stopped):
                break
            left = [[order for order, stop in enumerate(batch) if not stop] for batch in stopped]
            asked = [
                self._verdicts(rule, [batches[n].texts[order] for order in left[n]], batches[n].context, deadline)
                for rule, n in work
                if left[n]
            ]
            told = [await asked[0]] if len(asked) == 1 else await asyncio.gather(*asked)
            answered = iter(told)
            for _, n in work:
                if left[n]:
                    for order, verdict in zip(left[n], next(answered), strict=True):
                        verdicts[n][order].append(verdict)
        return [
            [_screened(text, said, in_json=batch.json) for text, said in zip(batch.texts, told, strict=True)]
            for batch, told in zip(batches, verdicts, strict=True)
        ]

    async def _verdicts(self, rule: TextRule, texts: list[str], context: Context, deadline: float) -> list[Verdict]:
        """What one rule says of each text; never raises, except when it is cancelled."""
        if rule.took is None:
            return await self._said(rule, texts, context, deadline)
        began = perf_counter_ns()
        verdicts = await self._said(rule, texts, context, deadline)
        rule.took(perf_counter_ns() - began)
        return verdicts

    async def _said(self, rule: TextRule, texts: list[str], context: Context, deadline: float) -> list[Verdict]:
        try:
            async with asyncio.timeout_at(deadline):
                found = await self._found(rule, texts, context)
            return [rule.judged(_counting(rule, one, len(text))) for one, text in zip(found, texts, strict=True)]
        except TimeoutError:
            why = "it took too long"
        except CheckUnavailable as failure:
            why = str(failure)
        except Exception as failure:
            # Whoever wrote the check may have put the text into its error; its type says enough.
            why = f"it failed with {type(failure).__name__}"
        log.warning("guardrail %s could not judge: %s", rule.check.name, why)
        return [rule.unavailable(why)] * len(texts)

    async def _found(self, rule: TextRule, texts: list[str], context: Context) -> list[tuple[Finding, ...]]:
        """What the check finds in each text; a dear one is not asked again about what it has just judged."""
        check = rule.check
        if check.cost == "cheap" or not rule.alone:
            return await _judge(rule, texts, context)
        keys: list[_Key] = [
            (check.name, check.version, context.road, hashlib.sha256(text.encode("utf-8", "replace")).digest())
            for text in texts
        ]
        new = {key: text for key, text in zip(keys, texts, strict=True) if key not in self._known}
        made = dict(zip(new, await _judge(rule, list(new.values()), context), strict=True)) if new else {}
        found = [made[key] if key in made else self._known.get(key) for key in keys]
        self._known.update(made)
        if None in found:  # it has just been forgotten
            return await _judge(rule, texts, context)
        return [one for one in found if one is not None]


def _unfolded(batch: Batch) -> tuple[Batch, list[list[str]] | None]:
    """A batch of JSON as one of the strings in it, each text's one a line, and those strings; itself where it is none.

    A tool's own rules, about its arguments as a whole, are given them as they are.
    """
    if not batch.json or batch.context.tool:
        return batch, None
    inside = [strings(text) for text in batch.texts]
    told = [found for found in inside if found is not None]
    if len(told) < len(inside):
        return batch, None
    return replace(batch, texts=tuple("\n".join(found) for found in told), json=False), told


def _folded(batch: Batch, answers: list[Screened], inside: list[list[str]]) -> list[Screened]:
    """What was said of strings as what was said of the texts that they stand in."""
    return [
        Screened(with_strings(text, masked_parts(answer.verdicts, found)), answer.verdicts, True)
        if answer.changed
        else Screened(text, answer.verdicts, False)
        for text, answer, found in zip(batch.texts, answers, inside, strict=True)
    ]


def _screened(text: str, verdicts: list[Verdict], *, in_json: bool) -> Screened:
    told = masked_by(verdicts, text, in_json=in_json)
    return Screened(told, tuple(verdicts), told != text)


async def _judge(rule: TextRule, texts: list[str], context: Context) -> list[tuple[Finding, ...]]:
    """Raises CheckUnavailable."""
    if rule.check.cost == "cheap" and sum(map(len, texts)) >= _OFF_LOOP:
        found = await asyncio.to_thread(lambda: asyncio.run(rule.check.judge(texts, context)))
    else:
        found = await rule.check.judge(texts, context)
    if len(found) != len(texts):
        raise CheckUnavailable("it did not say something of each text")
    return found


def _counting(rule: TextRule, found: Sequence[Finding], length: int) -> tuple[Finding, ...]:
    """Those findings that reach the rule's threshold, within the text."""
    counting = [finding for finding in found if finding.score >= rule.threshold]
    if all(0 <= finding.start <= finding.end <= length for finding in counting):
        return tuple(counting)
    return tuple(
        replace(finding, start=max(0, min(finding.start, length)), end=max(0, min(finding.end, length)))
        for finding in counting
    )
