"""Checks that need more of a text than a run, or more than the text: what they are given and what they say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from guardrails.verdicts import Action, Finding

Cost = Literal["cheap", "local", "remote"]
"""Pure Python; a model in this machine; a call over the network."""

Horizon = int | Literal["word", "line", "paragraph", "start", "whole"]
"""What of a text must be there before it is certain that nothing begins at a place: so many characters behind it, the
end of its word, line or paragraph, enough of the text's beginning, or all of the text."""


@dataclass(frozen=True, slots=True)
class Context:
    """What a check may know besides the text itself."""

    road: Literal["input", "passages", "tools", "output"]
    question: str = ""  # the caller's last words
    passages: tuple[str, ...] = ()  # the texts that the prompt holds
    instructions: str = ""  # our own rendered system and developer words: what must not leak
    part: Literal["text", "definition", "call", "result"] = "text"  # on the road `tools`: which part of a tool
    tool: str = ""  # the name of that tool, where it is known


@runtime_checkable
class TextCheck(Protocol):
    """Judges whole texts. One file in guardrails/checks/ each.

    `version` changes whenever the same text might be judged otherwise. `default_action` is flag, mask or block;
    with mask, the findings' spans are replaced.
    """

    name: str
    version: str
    default_action: Action
    cost: Cost

    async def judge(self, texts: Sequence[str], context: Context) -> list[tuple[Finding, ...]]:
        """For each text what was found in it; () where nothing.

        A finding's kind is the reason code, its score 0 to 1; its span is the whole text where none is known.
        Raises CheckUnavailable.
        """
        ...


class Flow(Protocol):
    """One text on its way past one check, in pieces cut anywhere.

    What is found, and where, depends on the text alone and never on how it was cut. Positions count characters of the
    whole text.
    """

    def feed(self, text: str) -> tuple[int, Sequence[Finding]]:
        """Where it is not certain yet what begins, which never goes back; and what is found now, each finding once."""
        ...

    def finish(self) -> Sequence[Finding]:
        """What else is found, once no more text will come."""
        ...


@runtime_checkable
class FlowingCheck(TextCheck, Protocol):
    """A check that judges a text while it comes, so that what is certain can leave."""

    def horizon(self, action: Action) -> Horizon:
        """How far a text must be known before a place in it can leave, where the check's findings are acted on so."""
        ...

    def flow(self, context: Context) -> Flow:
        """For one text."""
        ...


class CheckUnavailable(Exception):
    """A check can't judge now: its model or its server is away, slow or wrong. The message names no text."""
