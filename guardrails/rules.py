"""What an operator says of a check: what is done about its findings, and how far the check is trusted."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, Protocol

from guardrails.text_checks import FlowingCheck, TextCheck
from guardrails.verdicts import Action, Finding, Verdict

Road = Literal["input", "passages", "tools", "output"]


class _Named(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """`monitor`: verdicts are recorded and nothing is done. `sample`: the share of calls that the check looks at,
    0 to 1. `threshold`: findings with a lower score, 0 to 1, do not count. `message`: the operator's own words to a
    caller who is blocked. `took` is told how many nanoseconds the check took, each time that it has looked."""

    monitor: bool = False
    sample: float = 1.0
    threshold: float = 0.0
    message: str | None = None
    took: Callable[[int], None] | None = field(default=None, compare=False, repr=False)

    @property
    def terms(self) -> str:
        """All that decides about a text, for a version."""
        return f"{self.monitor} {self.sample} {self.threshold} {self.message}"

    def verdict(self, check: _Named, action: Action, found: tuple[Finding, ...]) -> Verdict:
        if not found:
            return Verdict(check.name, "allow", (), check.version)
        if self.monitor:
            return Verdict(check.name, "flag", found, check.version, would=action)
        return Verdict(check.name, action, found, check.version, message=self.message)


@dataclass(frozen=True, slots=True)
class TextRule(Terms):
    """What is done about what one check of whole texts finds.

    `closed`: a text that the check can't judge may not go on. `strict`: of an answer nothing leaves before its
    verdict; otherwise it is judged as it leaves, each time `every` characters have come, over the last `window`.
    `whole`: of an answer nothing leaves before all of it is judged, even where the check could let go of it earlier.
    `roads`: where the rule looks. `content_only`: of an answer, its content and no other field. `instructions`: it looks at the
    caller's own system and developer messages too. `by_tool`: asked
    about each tool by itself. `alone`: the same text is always judged alike, whatever stands around it. `repair`: what to
    tell a model whose answer is blocked, so that its second one may pass.
    """

    check: TextCheck
    action: Action
    closed: bool = True
    strict: bool = True
    whole: bool = False
    roads: frozenset[Road] = frozenset(("input", "passages", "tools", "output"))
    content_only: bool = False
    instructions: bool = True
    by_tool: bool = False
    alone: bool = True
    every: int = 200
    repair: str | None = None
    window: int = 2_000

    @property
    def acts(self) -> bool:
        """Whether anything but the record depends on its verdicts."""
        return not self.monitor and self.action != "flag"

    @property
    def flows(self) -> bool:
        """Whether an answer's text can leave piece by piece, and nothing with it that the rule would act on."""
        if not self.acts or not self.strict or self.whole or self.repair is not None:
            return False
        return isinstance(self.check, FlowingCheck) and self.check.horizon(self.action) != "whole"

    @property
    def told(self) -> str:
        """All that decides about a text, for a version."""
        return " ".join(
            (self.check.name, self.check.version, self.action, self.terms, str(self.closed), str(self.strict),
             str(sorted(self.roads)), str(self.every), str(self.window), str(self.repair),
             str(self.instructions), str(self.whole))
        )  # fmt: skip

    def judged(self, found: tuple[Finding, ...]) -> Verdict:
        return self.verdict(self.check, self.action, found)

    def unavailable(self, why: str) -> Verdict:
        closed = self.closed and not self.monitor
        return Verdict(self.check.name, "unavailable", (), self.check.version, failure=why, closed=closed)


def sampled(rule: Terms, call_id: str, order: int) -> bool:
    """Whether this call is in the rule's sample; the same answer for all texts of the call."""
    return rule.sample >= 1 or zlib.crc32(f"{order} {call_id}".encode()) < rule.sample * (1 << 32)
