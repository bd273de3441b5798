"""What became of a call that was run again, beside what it was."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.replay.changes import Change
from gateway.replay.stored import StoredCall


@dataclass(frozen=True, slots=True)
class Run:
    """One time that a call was run: then, or again.

    `answer` is None where it was not kept, or refused; `outcome` as in the record (ok | error | cancelled | blocked),
    `error` its code with the message. `passages` and `verdicts` are named as `Differences` names them. `cost` in USD,
    None where no price is known.
    """

    call_id: str
    answer: str | None
    outcome: str
    error: str | None
    target: str | None
    template: str | None
    passages: tuple[str, ...]
    verdicts: tuple[str, ...]
    finish_reason: str | None
    prompt_tokens: int | None
    completion_tokens: int | None
    cost: float | None
    ms: float

    def told(self) -> dict[str, Any]:
        return {
            "call_id": self.call_id,
            "answer": self.answer,
            "outcome": self.outcome,
            "error": self.error,
            "target": self.target,
            "template": self.template,
            "passages": list(self.passages),
            "verdicts": list(self.verdicts),
            "finish_reason": self.finish_reason,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "cost": self.cost,
            "ms": round(self.ms, 1),
        }


@dataclass(frozen=True, slots=True)
class Differences:
    """`text` is a unified diff of the answers, "" where they are the same. Passages are `section_id@version`, verdicts
    `stage check action kind,kind`. `outcome` is (then, again) where they differ."""

    text: str = ""
    passages_gained: tuple[str, ...] = ()
    passages_lost: tuple[str, ...] = ()
    verdicts_gained: tuple[str, ...] = ()
    verdicts_lost: tuple[str, ...] = ()
    outcome: tuple[str, str] | None = None

    def __bool__(self) -> bool:
        return any(
            (
                self.text,
                self.passages_gained,
                self.passages_lost,
                self.verdicts_gained,
                self.verdicts_lost,
                self.outcome,
            )
        )

    def told(self) -> dict[str, Any]:
        return {
            "text": self.text,
            "passages_gained": list(self.passages_gained),
            "passages_lost": list(self.passages_lost),
            "verdicts_gained": list(self.verdicts_gained),
            "verdicts_lost": list(self.verdicts_lost),
            "outcome": list(self.outcome) if self.outcome is not None else None,
        }


@dataclass(frozen=True, slots=True)
class Quality:
    """What could be measured; what could not is None or missing, and `faults` say why.

    `similarity` is the cosine of the two answers' embeddings, -1 to 1. `then` and `again` are measures of each answer
    by itself, 0 to 1: `groundedness`, `judged_groundedness`, `citation_support`, … (retrieval.answer_evaluation).
    """

    similarity: float | None = None
    then: Mapping[str, float] = field(default_factory=dict)
    again: Mapping[str, float] = field(default_factory=dict)
    faults: tuple[str, ...] = ()

    def told(self) -> dict[str, Any]:
        similarity = round(self.similarity, 4) if self.similarity is not None else None
        then, again = ({name: round(value, 4) for name, value in one.items()} for one in (self.then, self.again))
        return {"similarity": similarity, "then": then, "again": again, "faults": list(self.faults)}


@dataclass(frozen=True, slots=True)
class Replayed:
    """One stored call, run again with a change.

    `failure` says why it was not run at all (no content was kept, the change does not fit): then `again` is None. An
    error of the run itself is in `again.outcome` and `again.error`.
    """

    call: StoredCall
    change: Change
    then: Run
    again: Run | None = None
    differences: Differences = Differences()
    quality: Quality = Quality()
    notes: tuple[str, ...] = ()
    failure: str | None = None

    def told(self) -> dict[str, Any]:
        """As `--json` prints it."""
        return {
            "call_id": self.call.id,
            "model": self.call.model,
            "then": self.then.told(),
            "again": self.again.told() if self.again is not None else None,
            "differences": self.differences.told(),
            "quality": self.quality.told(),
            "notes": list(self.notes),
            "failure": self.failure,
        }
