"""What a replay does otherwise than the call did."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Change:
    """What is changed; what is left out stays as it was then, or with `pinned=False` as it is today.

    `target` is `provider/model`; `template` a reference as the configuration writes it (`handbook@4`); `retrieval` are
    settings of the model's entry by name (`{"top_k": 3}`), and passages are searched anew where there are any.
    `input_guardrails` and `output_guardrails` name sets of the configuration, in place of the model's own rules: `()`
    is none. `pinned`: the passages, features, template version and target that the call had then; otherwise passages,
    features, template and routing of today. Caches are never asked, and arms and shadows not chosen anew.
    """

    target: str | None = None
    template: str | None = None
    retrieval: Mapping[str, Any] = field(default_factory=dict)
    input_guardrails: tuple[str, ...] | None = None
    output_guardrails: tuple[str, ...] | None = None
    pinned: bool = True

    @property
    def searches(self) -> bool:
        """Whether passages are searched for anew."""
        return not self.pinned or bool(self.retrieval)

    def told(self) -> dict[str, Any]:
        """For reports and `--json`: what was changed, by name."""
        told: dict[str, Any] = {"pinned": self.pinned}
        if self.target is not None:
            told["target"] = self.target
        if self.template is not None:
            told["template"] = self.template
        if self.retrieval:
            told["retrieval"] = dict(self.retrieval)
        if self.input_guardrails is not None:
            told["input_guardrails"] = list(self.input_guardrails)
        if self.output_guardrails is not None:
            told["output_guardrails"] = list(self.output_guardrails)
        return told


class ReplayFault(Exception):
    """A call can't be replayed, or a change not be made. The message is one line: what, why, what to do."""
