"""How a question is searched for: the settings of a search."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

Mode = Literal["hybrid", "dense", "keyword"]
Fusion = Literal["rrf", "weighted"]


@dataclass(frozen=True, slots=True)
class Freshness:
    """Newer documents first, by the time that `attribute` tells: an ISO date, or seconds since 1970.

    The share `weight` (0 to 1) of a score is halved by each `half_life` (seconds) of age; without a time, all of it.
    """

    attribute: str
    half_life: float
    weight: float

    def factor(self, attributes: Mapping[str, Any], now: float) -> float:
        """What a document's score is multiplied by: 1 for a new one, 1 - weight for a very old one."""
        told = seconds_of(attributes.get(self.attribute))
        young = 0.0 if told is None else 0.5 ** (max(now - told, 0.0) / self.half_life)
        return 1.0 - self.weight + self.weight * young


def seconds_of(value: Any) -> float | None:
    """Seconds since 1970 of a time given as such or as an ISO 8601 date; None for anything else."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return None
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()


@dataclass(frozen=True, slots=True)
class SearchSettings:
    """How to search.

    `fusion` and `dense_weight` (the share of the cosine, 0 to 1) are for hybrid. `candidates` are rows taken from each
    ranking. `near_duplicates` is the cosine above which a passage repeats one before it; None keeps all. `diversity`
    is 0 (relevance alone) to 1. `neighbours` are sections shown on each side of a found one. `rerank_budget`, seconds:
    without an answer in time the order stays as it was.
    """

    mode: Mode = "dense"
    fusion: Fusion = "weighted"
    dense_weight: float = 0.6
    candidates: int = 40
    near_duplicates: float | None = 0.985
    diversity: float = 0.0
    neighbours: int = 0
    rerank: bool = False
    rerank_budget: float = 1.0
    freshness: Freshness | None = None


PLAIN = SearchSettings()
