"""Masks inside JSON leave JSON behind, wherever the text is cut."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrails.assembly import build_check
from guardrails.json_text import JsonPlace, Unescaped
from guardrails.masks import masked
from guardrails.policy import Policy, Rule

POLICY = Policy([Rule(build_check("secrets", {}), "mask"), Rule(build_check("pii", {}), "mask")])  # type: ignore[arg-type]  # both are checks of runs
KEY = "-----BEGIN RSA PRIVATE KEY-----\nMIIEowIBAAKCAQEA7\nxyz\n"

documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)


@given(document=documents, ascii_only=st.booleans(), data=st.data())
def test_whatever_is_masked_json_stays_json(document: Any, ascii_only: bool, data: st.DataObject) -> None:
    text = json.dumps(document, ensure_ascii=ascii_only)
    ends = st.tuples(st.integers(0, len(text)), st.integers(0, len(text)))
    drawn = sorted(data.draw(st.lists(ends.map(sorted).map(tuple), max_size=3)))
    spans = [(low, high, "<m>") for low, high in drawn if low < high]
    json.loads(masked(text, JsonPlace().fit(text, spans)))


@given(document=documents, cut=st.integers(0, 60))
def test_where_a_text_stands_is_known_across_a_cut(document: Any, cut: int) -> None:
    text = json.dumps(document)
    head, rest = text[:cut], text[cut:]
    place = JsonPlace()
    place.fit(head, [])
    json.loads(head + masked(rest, place.fit(rest, [(0, len(rest), "<m>")])) if not _in_word(head, rest) else text)


def _in_word(head: str, rest: str) -> bool:
    """A number or a literal that is cut in two: no run of a stream ever is."""
    return bool(head and rest) and head[-1] not in ' {}[]:,"\\' and rest[0] not in ' {}[]:,"\\'


@given(text=st.text(st.sampled_from('ab"\\u0041n\u00e9{'), max_size=30), escaped=st.booleans(), size=st.integers(1, 7))
def test_escapes_of_plain_characters_are_undone_alike_cut_anywhere(text: str, escaped: bool, size: int) -> None:
    written = json.dumps({"k": text})
    if escaped:
        written = '{"k": "' + "".join(f"\\u{ord(c):04x}" for c in text) + '"}'
    whole, pieces = Unescaped(), Unescaped()
    told = whole.feed(written) + whole.finish()
    cut = "".join(pieces.feed(written[i : i + size]) for i in range(0, len(written), size)) + pieces.finish()
    assert cut == told
    assert json.loads(told) == {"k": text}
    assert "\\u0061" not in told


@pytest.mark.parametrize("size", [1, 4, 1000])
def test_nothing_is_hidden_in_escapes(size: int) -> None:
    text = '{"to": "' + "".join(f"\\u{ord(c):04X}" for c in "jane.doe@example.org") + '"}'
    stream = POLICY.stream(in_json=True)
    told = "".join(stream.feed(text[i : i + size]) for i in range(0, len(text), size)) + stream.finish()
    assert json.loads(told) == {"to": "<EMAIL_ADDRESS>"}


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({"card": 4111111111111111}, {"card": "<CREDIT_CARD>"}),
        ({"to": "a\njane.doe@example.org"}, {"to": "a\n<EMAIL_ADDRESS>"}),
        ({"to": ["jane.doe@example.org", "x"], "n": 1}, {"to": ["<EMAIL_ADDRESS>", "x"], "n": 1}),
        ({"key": KEY, "then": "this"}, {"key": "<SECRET:private_key>", "then": "this"}),
        ({"key": KEY + "-----END RSA PRIVATE KEY-----\nrest"}, {"key": "<SECRET:private_key>\nrest"}),
    ],
)
def test_arguments_are_masked_alike_whole_and_cut_anywhere(document: Any, expected: Any) -> None:
    text = json.dumps(document)
    assert json.loads(POLICY.screen(text, in_json=True).text) == expected
    for size in (1, 2, 3, 7):
        stream = POLICY.stream(in_json=True)
        told = "".join(stream.feed(text[i : i + size]) for i in range(0, len(text), size)) + stream.finish()
        assert json.loads(told) == expected
