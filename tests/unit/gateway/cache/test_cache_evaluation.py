"""`rag-gateway eval cache`: what it counts, and what it says of a file that can't be used."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.cache.evaluation import BadPairs, Pair, Share, compare, read_pairs, report, share

PAIRS = [
    Pair("How do I log in?", "How can I log in?", True),
    Pair("How do I log in?", "How do I log out?", False),
    Pair("What is 2 + 2?", "What is 2 + 3?", False),
    Pair("Who pays?", "Who is it that pays?", True),
]


def test_hits_and_wrong_ones_with_and_without_the_refusals() -> None:
    compared = compare(PAIRS, [0.95, 0.93, 0.92, 0.5])
    assert share(compared, 0.9, same=True, refusals=True) == Share(1, 2)
    assert share(compared, 0.9, same=False, refusals=False) == Share(2, 2)
    assert share(compared, 0.9, same=False, refusals=True) == Share(0, 2)

    told = report(compared, 0.9, 5)
    assert told["with_refusals"] == {"hits": 1, "hit_rate": 0.5, "false_hits": 0, "false_hit_rate": 0.0}
    assert told["vectors_alone"] == {"hits": 1, "hit_rate": 0.5, "false_hits": 2, "false_hit_rate": 1.0}
    assert told["refused"] == {"same": {}, "different": {"words": 1, "numbers": 1}}
    assert told["wrong_hits"] == []


def test_wrong_hits_are_shown_the_most_alike_first() -> None:
    wrong = [Pair("Is it on?", "is it on", False), Pair("Is it off?", "is it off", False)]
    told = report(compare(wrong, [0.91, 0.99]), 0.9, 1)
    assert told["wrong_hits"] == [{"a": "Is it off?", "b": "is it off", "likeness": 0.99}]
    assert told["with_refusals"]["hit_rate"] is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "has no pairs"),
        ('{"a": "x", "b": "y", "same": true}\n\nnot json', "line 3"),
        ('{"a": "x", "b": "y"}', "missing required field `same`"),
        ('{"a": "x", "b": "y", "same": 1}', "Expected `bool`"),
        ('{"a": "x", "b": "y", "same": true, "c": 1}', "unknown field `c`"),
    ],
)
def test_a_file_that_cant_be_used_says_where(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "pairs.jsonl"
    file.write_text(text, "utf-8")
    with pytest.raises(BadPairs, match=said):
        read_pairs(file)
