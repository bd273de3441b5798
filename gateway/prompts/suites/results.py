"""What became of a suite's cases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from gateway.prompts.suites.assertions import Verdict


@dataclass(frozen=True, slots=True)
class CaseResult:
    """One case against one target. `error` says why there is no answer; `cost` in USD."""

    case: str
    target: str
    verdicts: tuple[Verdict, ...] = ()
    text: str = ""
    seconds: float = 0.0
    cost: float | None = None
    call_id: str = ""
    error: str | None = None
    threshold: float | None = None

    @property
    def score(self) -> float:
        """The weighted mean of its assertions' scores, 0 to 1."""
        weights = sum(verdict.weight for verdict in self.verdicts)
        if not weights:
            return float(all(verdict.passed for verdict in self.verdicts))
        return sum(verdict.score * verdict.weight for verdict in self.verdicts) / weights

    @property
    def passed(self) -> bool:
        if self.error is not None:
            return False
        if self.threshold is not None:
            return self.score >= self.threshold
        return all(verdict.passed for verdict in self.verdicts)

    @property
    def outcome(self) -> Literal["passed", "failed", "error"]:
        if self.error is not None:
            return "error"
        return "passed" if self.passed else "failed"

    def told(self) -> dict[str, Any]:
        return {
            "case": self.case,
            "target": self.target,
            "outcome": self.outcome,
            "score": round(self.score, 4),
            "seconds": round(self.seconds, 3),
            "cost": self.cost,
            "call_id": self.call_id,
            "error": self.error,
            "answer": self.text,
            "assertions": [
                {"type": each.name, "passed": each.passed, "score": round(each.score, 4), "reason": each.reason}
                for each in self.verdicts
            ],
        }


def whole(results: Sequence[CaseResult]) -> bool:
    """Whether all of them passed, and there are any."""
    return bool(results) and all(result.passed for result in results)
