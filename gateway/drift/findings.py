"""What is compared of a model, and what of it counts as drift: large enough, and no chance among all that was looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from scipy.stats import false_discovery_control

from gateway.drift.comparisons import Comparison

Kind = Literal["input", "retrieval", "feature", "output", "concept"]
KINDS: tuple[Kind, ...] = ("input", "retrieval", "feature", "output", "concept")


@dataclass(frozen=True, slots=True)
class Finding:
    """`name` is the model, or `model/feature`; `what` was compared. `p` is corrected once all are known."""

    kind: Kind
    name: str
    what: str
    comparison: Comparison
    threshold: float
    p: float = 1.0
    drifted: bool = False


def judged(findings: Sequence[Finding], alpha: float) -> list[Finding]:
    """All of them, after Benjamini and Hochberg's correction over everything that was compared at once.

    So of the times when nothing has changed, at most about the share `alpha` has any finding that counts (J. R. Stat.
    Soc. B 57, 1995): where no change is real, the false discovery rate is the chance of a single false alarm.
    """
    if not findings:
        return []
    corrected = false_discovery_control([one.comparison.p for one in findings], method="bh")
    return [
        replace(one, p=float(p), drifted=bool(p <= alpha) and one.comparison.effect >= one.threshold)
        for one, p in zip(findings, corrected, strict=True)
    ]


@dataclass(frozen=True, slots=True)
class Summary:
    """One kind of one name: the finding that says most."""

    score: float
    threshold: float
    drifted: bool


def summaries(findings: Sequence[Finding]) -> Mapping[tuple[Kind, str], Summary]:
    """The largest effect that counts; where none does, the largest one."""
    told: dict[tuple[Kind, str], Finding] = {}
    for one in findings:
        best = told.get((one.kind, one.name))
        if best is None or (one.drifted, one.comparison.effect) > (best.drifted, best.comparison.effect):
            told[one.kind, one.name] = one
    return {key: Summary(one.comparison.effect, one.threshold, one.drifted) for key, one in told.items()}
