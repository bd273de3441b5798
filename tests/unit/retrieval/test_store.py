"""Filters of the vector store: what stands in a literal stays in it."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st
from retrieval.store import quoted

HOSTILE = st.one_of(st.text(max_size=40), st.sampled_from(['" or tenant != "', "a\\", 'a" or 1 == 1 or "', "%", "a' or '"]))


@given(HOSTILE)
def test_nothing_ends_its_own_literal(text: str) -> None:
    literal = quoted(text)
    assert json.loads(literal) == text
    inside = literal[1:-1].replace("\\\\", "").replace('\\"', "")
    assert '"' not in inside
    assert not inside.endswith("\\")
