"""Rankings joined, near-duplicates left out, what is alike put apart."""

from __future__ import annotations

import numpy as np
import pytest

from retrieval.fusion import distinct, diverse, of_the_best, reciprocal_ranks, unit, weighted


def test_reciprocal_ranks_prefer_what_both_rankings_have() -> None:
    scores = reciprocal_ranks([["a", "b", "c"], ["d", "b"]])

    assert max(scores, key=lambda row: scores[row]) == "b"
    assert scores["a"] == pytest.approx(1 / 61)
    assert scores["b"] == pytest.approx(2 / 62)


def test_a_weighted_sum_lets_either_side_win() -> None:
    cosines, words = {"a": 0.9, "b": 0.5, "c": 0.1}, {"b": 12.0, "c": 24.0}

    assert weighted(cosines, words, 1.0) == pytest.approx({"a": 1.0, "b": 0.5, "c": 0.0})
    assert weighted(cosines, words, 0.0) == pytest.approx({"a": 0.0, "b": 0.5, "c": 1.0})
    assert weighted({}, {}, 0.5) == {}
    assert weighted({"a": 0.3}, {}, 0.6) == {"a": 0.0}


def test_unit_vectors_and_nothing_of_nothing() -> None:
    assert unit([[3.0, 4.0], [0.0, 0.0]]).tolist() == pytest.approx(np.array([[0.6, 0.8], [0.0, 0.0]]), abs=1e-6)


def test_what_repeats_one_before_it_is_left_out() -> None:
    vectors = unit([[1, 0], [0.999, 0.01], [0, 1], [0.01, 1]])

    assert distinct(vectors, 0.98) == [0, 2]
    assert distinct(vectors, 1.1) == [0, 1, 2, 3]


def test_diversity_trades_relevance_for_difference() -> None:
    vectors = unit([[1, 0], [0.99, 0.1], [0, 1]])

    assert diverse([0.9, 0.8, 0.5], vectors, 2, 0.0) == [0, 1]
    assert diverse([0.9, 0.8, 0.5], vectors, 2, 0.7) == [0, 2]
    assert diverse([], unit([[1.0, 0.0]])[:0], 2, 0.5) == []


def test_scores_as_shares_of_the_best() -> None:
    assert of_the_best({"a": 0.8, "b": 0.4, "c": -0.1}) == {"a": 1.0, "b": 0.5, "c": 0.0}
    assert of_the_best({"a": -1.0, "b": -3.0, "c": -2.0}) == {"a": 1.0, "b": 0.0, "c": 0.5}
    assert of_the_best({"a": 0.0}) == {"a": 1.0}
    assert of_the_best({}) == {}
