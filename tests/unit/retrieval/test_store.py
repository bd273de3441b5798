"""Filters of the vector store: what stands in a literal stays in it."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from retrieval.store import quoted

HOSTILE = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=40),
    st.sampled_from(['" or tenant != "', "a\\", 'a" or 1 == 1 or "', "%", "a' or '"]),
)


@given(HOSTILE)
def test_nothing_ends_its_own_literal(text: str) -> None:
    literal = quoted(text)
    assert re.fullmatch(r'"(?:[^"\\\n]|\\["\\nrt])*"', literal, re.DOTALL)
    meant = {"n": "\n", "r": "\r", "t": "\t"}
    assert re.sub(r"\\(.)", lambda found: meant.get(found[1], found[1]), literal[1:-1]) == text
