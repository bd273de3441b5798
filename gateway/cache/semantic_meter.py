"""What semantic caches have found and how often they would have been wrong: for metrics and the admin view."""

from __future__ import annotations

from collections import Counter


class SemanticMeter:
    """One process's counts, by model and by outcome: those of `SemanticLook`, and `not_kept`."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()

    def count(self, model: str, outcome: str) -> None:
        self.counts[model, outcome] += 1

    def told(self) -> dict[str, dict[str, float]]:
        """Each model's counts; `false_hit_rate` is of its compared would-be hits, where there are any."""
        told: dict[str, dict[str, float]] = {}
        for (model, outcome), times in sorted(self.counts.items()):
            told.setdefault(model, {})[outcome] = times
        for counts in told.values():
            compared = counts.get("agreed", 0) + counts.get("false_hit", 0)
            if compared:
                counts["false_hit_rate"] = counts.get("false_hit", 0) / compared
        return told
