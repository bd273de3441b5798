"""What a check found and what was done: values that carry positions and kinds, never the text itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Action = Literal["flag", "mask", "pseudonymise", "block"]
"""What a rule does with a finding: note it, replace it by its kind or by a placeholder, or stop the whole text."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Characters `start` to `end` of the screened text are of this kind. `score` is 0 to 1."""

    kind: str
    start: int
    end: int
    score: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """One check's word on one text. `version` names the check's rules, for the record.

    `would`: what a rule that only watches would have done. `message`: the operator's own words for a block.
    `failure`: why the check could not judge; where the rule fails `closed`, the text may not go on without it.
    """

    check: str
    action: Literal["allow", "flag", "mask", "pseudonymise", "block", "unavailable"]
    findings: tuple[Finding, ...]
    version: str
    would: Action | None = None
    message: str | None = None
    failure: str | None = None
    closed: bool = False

    @property
    def stops(self) -> bool:
        """Whether the text may not go on."""
        return self.action == "block" or self.closed


@dataclass(frozen=True, slots=True)
class Screened:
    """A text after its checks. `text` is masked; it is not to be used when `blocked`."""

    text: str
    verdicts: tuple[Verdict, ...]
    changed: bool

    @property
    def blocked(self) -> bool:
        return any(verdict.stops for verdict in self.verdicts)
