"""How far a pattern's match can reach is never said too short."""

from __future__ import annotations

import pytest
import re2
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from guardrails.reach import reach
from guardrails.text_checks import Horizon


@pytest.mark.parametrize(
    ("pattern", "horizon"),
    [
        (r"SEC-\d{4,6}", 10),
        (r"a|bcd|(?:ef){2,3}", 6),
        (r"\bfoo(?: bar)?", 7),
        (r"(?m)^x$", 1),
        (r"[[:alpha:]]{3}[\]a][^]]", 5),
        (r"(?P<n>a)b\x{41}\pL", 4),
        (r"\Qa.b\E", 3),
        (r"проект \pL", 8),
        (r"a{2", 3),
        (r"SEC-\d{4,}", "word"),
        (r"\p{Greek}*", "word"),
        (r"x+?", "word"),
        (r".{0,5000}", "line"),
        (r"top.*secret", "line"),
        (r"[^\n]+", "line"),
        (r"(?i:a[ \t]+b)", "line"),
        (r"(?s)top.*secret", "whole"),
        (r"(?is:top.*secret)", "whole"),
        (r"a\s+b", "whole"),
        (r"[^x]+", "whole"),
        (r"\QEin\nBruch\E+\W*", "whole"),
        (r"^x", "whole"),
        (r"x\z", "whole"),
        (r"x\C", "whole"),
    ],
)
def test_a_pattern_reaches_as_far_as_its_longest_match(pattern: str, horizon: Horizon) -> None:
    assert reach(pattern) == horizon


_ATOMS = st.sampled_from(
    [
        "a",
        "b",
        ".",
        r"\d",
        r"\s",
        r"\W",
        "[ab]",
        "[^a]",
        r"[\s\d]",
        r"\bx",
        " ",
        r"\Qa b\E",
        r"\pL",
        "(?s:.)",
        r"\n",
        r"\x0a",
    ]
)
_PATTERNS = st.recursive(
    st.tuples(_ATOMS, st.sampled_from(["", "", "?", "*", "+", "{2}", "{1,3}", "{2,}", "*?"])).map("".join),
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map("".join),
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: f"({'|'.join(parts)})"),
        inner.map(lambda part: f"(?:{part}){{1,2}}"),
    ),
    max_leaves=5,
)


@settings(max_examples=300, deadline=None)
@given(pattern=_PATTERNS, text=st.text(alphabet="abx1 \n\t.", max_size=30))
def test_no_match_is_longer(pattern: str, text: str) -> None:
    options = re2.Options()
    options.longest_match = True
    options.log_errors = False
    try:
        compiled = re2.compile(pattern, options)
    except re2.error:
        assume(False)
    horizon = reach(pattern)
    for match in compiled.finditer(text):
        if isinstance(horizon, int):
            assert len(match[0]) <= horizon
        elif horizon != "whole":
            assert not set(match[0]) & set({"word": " \t\n\r", "line": "\n"}[horizon])
