"""How a question is searched for: the settings of a search."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Mode = Literal["hybrid", "dense", "keyword"]
Fusion = Literal["rrf", "weighted"]


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


PLAIN = SearchSettings()
