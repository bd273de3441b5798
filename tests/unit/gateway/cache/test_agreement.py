"""Whether two answers say the same."""

from __future__ import annotations

import pytest

from gateway.cache.agreement import agree, cosine, overlap


@pytest.mark.parametrize(
    ("one", "other", "share"),
    [("", "", 1.0), ("a b", "A, b!", 1.0), ("a b [1]", "a b [2]", 1.0), ("a b", "c d", 0.0), ("a a b", "a b b", 2 / 3)],
)
def test_overlap_is_of_words(one: str, other: str, share: float) -> None:
    assert overlap(one, other) == pytest.approx(share)


def test_vectors_or_words_agree_and_other_figures_never_do() -> None:
    assert agree("It takes 14 weeks.", "You get 14 weeks.", 0.9, 0.85)
    assert not agree("It takes 14 weeks.", "You get 14 weeks.", 0.8, 0.85)
    assert agree("It takes 14 weeks [1].", "It takes 14 weeks [2].", 0.1, 0.85)
    assert not agree("It takes 14 weeks.", "It takes 15 weeks.", 0.99, 0.85)


def test_cosine() -> None:
    assert cosine([1.0, 0.0], [2.0, 0.0]) == pytest.approx(1.0)
    assert cosine([1.0, 0.0], [0.0, 0.0]) == 0.0
