"""Folded and rendered texts: what looks alike is alike, and every character knows where it came from."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrails.folding import fold
from guardrails.rendering import rendered


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("Plain text, 1 + 1.\n", "Plain text, 1 + 1.\n"),
        ("раypal", "paypal"),
        ("ｗｉｄｅ", "wide"),
        ("𝓬𝓾𝓻𝓼𝓲𝓿𝓮", "cursive"),
        ("ﬁne ①½", "fine 11/2"),
        ("Ünïcödé", "Unicode"),
        ("a\u200bb\u202ec\U000e0041d\u3164e\x00f", "abcdef"),
        ("“quoted” – so", '"quoted" - so'),
        ("\ud800x", "\ufffdx"),
        ("漢字", "漢字"),
    ],
)
def test_what_looks_alike_becomes_alike(text: str, folded: str) -> None:
    assert fold(text).text == folded


def test_lower_case_and_lookalikes_are_a_choice() -> None:
    assert fold("ΝΑ Straße", lower=True).text == "na strasse"
    assert fold("ΝΑ Straße", lower=True, lookalikes=False).text == "να strasse"
    assert fold("ABC", lower=True).text == "abc"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a &amp; b &lt &#104;&#x65; &colon;&sol;", "a & b < he :/"),
        ("AT&T &zzz; & ;", "AT&T &zzz; & ;"),
        ("h\u200bi\u00ad", "hi"),
    ],
)
def test_a_rendered_text_is_what_a_browser_shows(text: str, shown: str) -> None:
    assert rendered(text).text == shown


_ODD = st.text(alphabet=st.sampled_from("ab &lt;#6\u200b\u00adﬁéＡⅷ漢\ud800\U000e0041"), max_size=30)


@given(_ODD, st.booleans(), st.booleans())
def test_places_rise_and_lead_back(text: str, lower: bool, lookalikes: bool) -> None:
    for view in (fold(text, lower=lower, lookalikes=lookalikes), rendered(text)):
        assert len(view.places) == len(view.text) + 1
        assert list(view.places) == sorted(view.places)
        assert int(view.places[-1]) == len(text)
        for at in range(len(view.text)):
            start, end = view.span(at, at + 1)
            assert 0 <= start < end <= len(text)


@given(_ODD)
def test_a_span_rendered_alone_holds_what_was_found(text: str) -> None:
    view = rendered(text)
    at = view.text.find("a")
    if at >= 0:
        start, end = view.span(at, at + 1)
        assert rendered(text[start:end]).text == "a"
