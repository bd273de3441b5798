"""What leaves of an answer while it is judged, and how the texts of a message are parted among the judges."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace

from gateway.exchange import Exchange
from gateway.stages.fragments import is_json
from gateway.stages.verdicts import note
from guardrails.judging import Batch, Judges
from guardrails.text_checks import Context
from guardrails.verdicts import Finding, Verdict

_TOOL = "tool_calls["


@dataclass(slots=True)
class _Text:
    text: str = ""
    offset: int = 0  # where `text` begins in the whole
    judged: int = 0  # how much of the whole has been judged


@dataclass(slots=True)
class Window:
    """Judges what leaves, one judgement at a time: the last characters of each text, as soon as enough are new."""

    judges: Judges
    context: Context
    verdicts: list[Verdict] = field(default_factory=list)
    running: asyncio.Task[list[Verdict]] | None = None
    _texts: dict[tuple[int, str], _Text] = field(default_factory=dict)

    @property
    def stops(self) -> bool:
        return any(verdict.stops for verdict in self.verdicts)

    @property
    def _every(self) -> int:
        return min(rule.every for rule in self.judges.rules)

    @property
    def _overlap(self) -> int:
        return max(max(rule.window for rule in self.judges.rules) - self._every, 0)

    def feed(self, place: tuple[int, str], piece: str) -> None:
        self._texts.setdefault(place, _Text()).text += piece

    def judge(self) -> None:
        """Begin a judgement where one is due and none runs."""
        self.take()
        if self.running is None and not self.stops:
            due = [place for place, one in self._texts.items() if self._new(one) >= self._every]
            if due:
                self.running = asyncio.ensure_future(self._judged(due))

    async def last(self, finished: list[int]) -> None:
        """The verdict on all that is not judged yet of choices that end."""
        if self.running is not None:
            await asyncio.wait((self.running,))
            self.take()
        due = [place for place, one in self._texts.items() if place[0] in finished and self._new(one)]
        if due and not self.stops:
            self.verdicts += await self._judged(due)

    def take(self) -> None:
        """The verdicts of a judgement that has ended."""
        if self.running is not None and self.running.done():
            done, self.running = self.running, None
            self.verdicts += done.result()

    def note(self, exchange: Exchange) -> None:
        """Each check's verdicts on all windows as one, told once. Raises as `verdicts.note` does."""
        merged: dict[tuple[str, str], Verdict] = {}
        for verdict in self.verdicts:
            known = merged.get((verdict.check, verdict.action))
            found = dict.fromkeys((*known.findings, *verdict.findings) if known is not None else verdict.findings)
            merged[verdict.check, verdict.action] = replace(verdict, findings=tuple(found))
        self.verdicts = []
        note(exchange, "output", merged.values())

    def close(self) -> None:
        if self.running is not None:
            self.running.cancel()
            self.running = None

    @staticmethod
    def _new(one: _Text) -> int:
        return one.offset + len(one.text) - one.judged

    async def _judged(self, due: list[tuple[int, str]]) -> list[Verdict]:
        parts = []
        for place in due:
            one = self._texts[place]
            start = max(0, one.judged - self._overlap - one.offset)
            one.text, one.offset = one.text[start:], one.offset + start
            one.judged = one.offset + len(one.text)
            parts.append((place[1], one.text))
        offsets = [self._texts[place].offset for place in due]
        batches, owners = batches_of(self.judges, parts, self.context, whole=False)
        answers = await self.judges.screen(batches)
        return [
            _shifted(verdict, offsets[order])
            for group, told in zip(owners, answers, strict=True)
            for order, one in zip(group, told, strict=True)
            for verdict in one.verdicts
        ]


def _shifted(verdict: Verdict, by: int) -> Verdict:
    if not by or not verdict.findings:
        return verdict
    moved = tuple(Finding(f.kind, f.start + by, f.end + by, f.score) for f in verdict.findings)
    return replace(verdict, findings=moved)


def batches_of(
    judges: Judges, parts: list[tuple[str, str]], context: Context, *, whole: bool = True
) -> tuple[list[Batch], list[list[int]]]:
    """The texts of a message, (channel, text), in batches of those that are judged alike, and which part each is.

    A `whole` message without any content has that judged too, as part -1, unless it calls tools: nothing can be a wrong
    answer.
    """
    calls = any(channel.startswith(_TOOL) for channel, _ in parts)
    content = [order for order, (channel, _) in enumerate(parts) if channel == "content"]
    names = {channel.partition(".")[0]: text for channel, text in parts if channel.endswith(".function.name")}
    others = [
        order for order, (channel, _) in enumerate(parts) if channel != "content" and not channel.startswith(_TOOL)
    ]
    groups: list[tuple[list[int], Batch]] = []
    if content:
        groups.append((content, Batch(tuple(parts[order][1] for order in content), context)))
    elif whole and not calls:
        groups.append(([-1], Batch(("",), context)))
    if others:
        groups.append((others, Batch(tuple(parts[order][1] for order in others), context, content=False)))
    of_tools = [order for order, (channel, _) in enumerate(parts) if channel.startswith(_TOOL)]
    for json in (True, False):
        group = [order for order in of_tools if is_json(parts[order][0]) == json]
        told = replace(context, road="tools", part="call")
        if group:
            groups.append((group, Batch(tuple(parts[order][1] for order in group), told, json=json, content=False)))
        if json and judges.by_tool:
            for order in group:
                name = names.get(parts[order][0].partition(".")[0], "")
                groups.append(([order], Batch((parts[order][1],), replace(told, tool=name or "?"), json=True)))
    return [batch for _, batch in groups], [group for group, _ in groups]
