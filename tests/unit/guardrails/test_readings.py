"""A text that is read in pieces reads as the whole text does, and every character knows where it stood."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guardrails.readings import Reading

TEXTS = st.lists(
    st.one_of(
        st.sampled_from(["  ", "\n\t ", "ﬁ", "é", "e\u0301", "\u200b", "Ａ", "\x00", "\ud800", "Ab c"]),
        st.text(max_size=5),
    ),
    max_size=8,
)


@pytest.mark.parametrize("joined", [False, True])
@pytest.mark.parametrize(
    ("folded", "lower", "lookalikes"), [(False, False, False), (True, True, False), (True, False, True)]
)
@settings(deadline=None)
@given(pieces=TEXTS)
def test_pieces_read_as_the_whole(folded: bool, lower: bool, lookalikes: bool, joined: bool, pieces: list[str]) -> None:
    cut, whole = (Reading(folded, lower, lookalikes, joined) for _ in range(2))
    whole.feed("".join(pieces))
    for piece in pieces:
        cut.feed(piece)
    assert cut.text == whole.text
    assert [cut.place(at) for at in range(cut.end + 1)] == [whole.place(at) for at in range(whole.end + 1)]


def test_a_run_of_space_is_one_and_a_span_goes_up_to_the_next_character() -> None:
    reading = Reading(folded=True, lower=True, joined=True)
    for piece in ("Two ", "\n  WO", "\u200brds"):
        reading.feed(piece)
    assert (reading.text, reading.told) == ("two words", 13)
    assert reading.span(4, 6) == (7, 10)
    assert reading.span(4, 9) == (7, 13)


def test_what_is_forgotten_leaves_its_last_character_and_all_places() -> None:
    reading = Reading(folded=True)
    reading.feed("éabc")
    reading.forget(3)
    assert (reading.text, reading.start, reading.end) == ("bc", 2, 4)
    assert [reading.place(at) for at in (2, 3, 4)] == [2, 3, 4]
    same = Reading(folded=False)
    same.feed("abc")
    same.forget(3)
    other = same.also(folded=True, lookalikes=False)
    other.feed("é")
    assert (other.text, other.start, other.place(3)) == ("ce", 2, 3)
