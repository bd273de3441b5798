"""What semantic caches have found and how often they would have been wrong: for metrics and the admin view."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping


class SemanticMeter:
    """One process's counts, by model and by outcome: those of `SemanticLook`, and `not_kept`."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()

    def count(self, model: str, outcome: str) -> None:
        self.counts[model, outcome] += 1


def by_model(counts: Mapping[tuple[str, str], int]) -> dict[str, dict[str, float]]:
    """Each model's counts; `false_hit_rate` is of its compared would-be hits, where there are any."""
    told: dict[str, dict[str, float]] = {}
    for (model, outcome), times in sorted(counts.items()):
        told.setdefault(model, {})[outcome] = times
    for one in told.values():
        compared = one.get("agreed", 0) + one.get("false_hit", 0)
        if compared:
            one["false_hit_rate"] = one.get("false_hit", 0) / compared
    return told
