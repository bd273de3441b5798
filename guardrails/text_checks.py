"""Checks that need the whole text, or more than the text: what they are given and what they say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from guardrails.verdicts import Action, Finding

Cost = Literal["cheap", "local", "remote"]
"""Pure Python; a model in this machine; a call over the network."""


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


class CheckUnavailable(Exception):
    """A check can't judge now: its model or its server is away, slow or wrong. The message names no text."""
