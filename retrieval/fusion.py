"""Several rankings of the same rows to one, and what of it is worth showing: fusion, near-duplicates, diversity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

K = TypeVar("K")
Vectors = NDArray[np.float32]

_RRF = 60.0
"""Cormack, Clarke, Büttcher: Reciprocal Rank Fusion outperforms Condorcet (SIGIR 2009), where it is 60."""


def reciprocal_ranks(rankings: Sequence[Sequence[str]]) -> dict[str, float]:
    """Scores by the places in each ranking alone."""
    scores: dict[str, float] = {}
    for ranking in rankings:
        for place, row in enumerate(ranking, 1):
            scores[row] = scores.get(row, 0.0) + 1.0 / (_RRF + place)
    return scores


def weighted(cosines: dict[str, float], keywords: dict[str, float], weight: float) -> dict[str, float]:
    """A convex combination of both scores, each first scaled to 0..1 over these rows; `weight` is the cosines' share.

    A row that no keyword found has 0 of it.
    https://arxiv.org/abs/2210.11934 (Bruch, Gai, Ingber: An Analysis of Fusion Functions for Hybrid Retrieval)
    """
    low, high = min(cosines.values(), default=0.0), max(cosines.values(), default=1.0)
    spread, most = (high - low) or 1.0, max(keywords.values(), default=1.0) or 1.0
    return {
        row: weight * (cosine - low) / spread + (1.0 - weight) * keywords.get(row, 0.0) / most
        for row, cosine in cosines.items()
    }


def of_the_best(scores: Mapping[K, float]) -> dict[K, float]:
    """Each score as a share of the highest, 0 to 1; what is not above zero is nothing.

    A reranker's scores may all be below zero: then they are scaled between the lowest and the highest.
    """
    low, high = min(scores.values(), default=0.0), max(scores.values(), default=0.0)
    if high > 0:
        return {key: max(score, 0.0) / high for key, score in scores.items()}
    return {key: (score - low) / (high - low) if high > low else 1.0 for key, score in scores.items()}


def unit(vectors: Sequence[Sequence[float]]) -> Vectors:
    """Rows of length one; a row of nothing stays so."""
    matrix = np.asarray(vectors, dtype=np.float32)
    lengths = np.linalg.norm(matrix, axis=-1, keepdims=True)
    result: Vectors = np.divide(matrix, lengths, out=np.zeros_like(matrix), where=lengths > 0)
    return result


def distinct(vectors: Vectors, threshold: float) -> list[int]:
    """The places of rows that are not nearly the same as one before them, by cosine above `threshold`."""
    kept: list[int] = []
    for place in range(len(vectors)):
        if not kept or float((vectors[kept] @ vectors[place]).max()) <= threshold:
            kept.append(place)
    return kept


def diverse(relevance: Sequence[float], vectors: Vectors, count: int, diversity: float) -> list[int]:
    """`count` places, chosen one by one for being relevant and unlike those chosen: maximal marginal relevance.

    `diversity` 0 is relevance alone, 1 is difference alone.
    Carbonell, Goldstein: The Use of MMR (SIGIR 1998).
    """
    scores: NDArray[Any] = np.asarray(relevance, dtype=np.float64)
    spread = float(scores.max() - scores.min()) if len(scores) else 0.0
    scores = (scores - scores.min()) / spread if spread else np.ones_like(scores)
    chosen: list[int] = []
    left = list(range(len(scores)))
    while left and len(chosen) < count:
        if chosen:
            likeness = (vectors[left] @ vectors[chosen].T).max(axis=1)
            gains = (1.0 - diversity) * scores[left] - diversity * likeness
        else:
            gains = scores[left]
        chosen.append(left.pop(int(np.argmax(gains))))
    return chosen
