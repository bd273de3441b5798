"""Stretches of one text in another."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from guardrails.shingles import LENGTH, Shingles, hashes, letters, rot13, stretches

_LETTERS = st.text(alphabet="abcxyz", max_size=80)


@given(_LETTERS, _LETTERS)
def test_a_run_is_held_exactly_where_it_stands_in_the_other(one: str, other: str) -> None:
    held = Shingles(hashes(letters(one).codes)).holds(hashes(letters(other).codes))
    runs = {one[at : at + LENGTH] for at in range(len(one) - LENGTH + 1)}
    assert held.tolist() == [other[at : at + LENGTH] in runs for at in range(len(other) - LENGTH + 1)]


@given(_LETTERS, _LETTERS)
def test_what_is_taken_out_is_held_no_more(one: str, other: str) -> None:
    public = hashes(letters(other).codes)
    left = Shingles(hashes(letters(one).codes)).without(public)
    assert not left.holds(public).any()


def test_only_letters_and_digits_count_and_know_their_places() -> None:
    told = letters("A-b\u200b c!7")
    assert "".join(map(chr, told.codes)) == "abc7"
    assert told.places.tolist() == [0, 2, 5, 7]
    assert "".join(map(chr, rot13(told.codes))) == "nop7"


def test_stretches_are_joined_over_small_gaps_and_count_what_they_cover() -> None:
    held = np.zeros(300, dtype=np.bool_)
    held[10:20] = True  # covers 10 to 43
    held[60] = True  # 60 to 84: a gap of 17
    held[200] = True
    assert stretches(held) == [(10, 60 + LENGTH, 33 + LENGTH), (200, 200 + LENGTH, LENGTH)]
    assert stretches(np.zeros(5, dtype=np.bool_)) == []
