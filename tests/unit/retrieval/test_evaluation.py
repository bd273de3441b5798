"""Measures by hand-made answers, and the files of questions that are refused."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from retrieval.evaluation import BadQuestions, Question, evaluate, read_questions, significance, tokens
from retrieval.passages import Passage


def passage(document: str, text: str = "") -> Passage:
    return Passage(document, "v", f"{document}#0", "c", 0.5, document, document, text)


def test_the_measures_of_three_questions() -> None:
    found = {
        "first": [passage("a", "the answer is blue"), passage("b")],
        "second": [passage("x"), passage("x"), passage("b")],
        "nowhere": [],
    }
    questions = [
        Question("first", ("a",), ("blue",)),
        Question("second", ("b", "c")),
        Question("nowhere", ("z",), ("green sky",)),
    ]

    async def find(question: str) -> list[Passage]:
        return found[question]

    told: list[int] = []
    result = asyncio.run(evaluate("mine", find, questions, 3, told.append))

    assert result.values["recall"] == [1.0, 0.5, 0.0]
    assert result.values["mrr"] == [1.0, 0.5, 0.0]
    assert result.values["ndcg"][0] == 1.0
    assert 0 < result.values["ndcg"][1] < 1
    assert result.values["span_recall"] == [1.0, 0.0]
    assert result.values["token_precision"] == [0.25, 0.0]
    assert result.mean("recall") == 0.5
    assert len(result.seconds) == 3
    assert told == [0, 1, 2, 3]


def test_tokens_are_whole_words() -> None:
    assert tokens(["blue sky"], ["A blue sky, they said."]) == (1.0, 0.4, 0.4)
    assert tokens(["blue"], ["bluebird"]) == (0.0, 0.0, 0.0)
    assert tokens(["a"], []) == (0.0, 0.0, 0.0)


def test_significance() -> None:
    better = [1.0] * 30 + [0.0] * 10
    worse = [0.0] * 30 + [0.0] * 10

    assert significance(better, worse) < 0.001
    assert significance(better, better) == 1.0
    assert significance([1.0, 0.0], [0.0, 1.0]) > 0.5


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no question"),
        ("{}", ":1: should be like"),
        ("[]", ":1: should be like"),
        ('{"question": "q", "documents": ["a"]}\nno json', ":2: should be like"),
        ('{"question": "q"}', ":1: names neither"),
        ('{"question": "q", "documents": "a"}', ":1: `documents` and `spans` are lists"),
        ('{"question": 1, "documents": ["a"]}', ":1: `documents` and `spans` are lists"),
    ],
)
def test_questions_that_cannot_be_used(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "q.jsonl").write_text(text)
    with pytest.raises(BadQuestions, match=said):
        read_questions(tmp_path / "q.jsonl")


def test_questions_are_read(tmp_path: Path) -> None:
    (tmp_path / "q.jsonl").write_text('{"question": "q", "documents": ["a"]}\n\n{"question": "r", "spans": ["s"]}\n')
    assert read_questions(tmp_path / "q.jsonl") == [Question("q", ("a",)), Question("r", (), ("s",))]
