"""Sentences that the passages don't say are found, by an embedder or by a judge."""

from __future__ import annotations

import json
import math
import re
import zlib
from collections.abc import Sequence

import pytest

from guardrails.checks.groundedness import Groundedness
from guardrails.text_checks import CheckUnavailable, Context

_PASSAGES = (
    "Hotels are paid up to 120 EUR a night. Breakfast is included in the price of most hotels.",
    "Employees book train tickets with the travel desk. The travel desk answers within two days.",
)
_CONTEXT = Context("output", question="What is paid for hotels in 2025?", passages=_PASSAGES)


async def _embed(texts: Sequence[str]) -> list[list[float]]:
    """Words by their hashes, weighted by length: near where the same words are used."""
    vectors = []
    for text in texts:
        vector = [0.0] * 512
        for word in re.findall(r"\w+", text.lower()):
            vector[zlib.crc32(word.encode()) % 512] += math.log(len(word) + 1)
        vectors.append(vector)
    return vectors


async def _found(text: str, context: Context = _CONTEXT, **settings: object) -> list[tuple[str, str]]:
    (found,) = await Groundedness(embed=_embed, **settings).judge([text], context)  # type: ignore[arg-type]  # by name
    return [(finding.kind, text[finding.start : finding.end]) for finding in found]


async def test_what_the_passages_say_is_grounded() -> None:
    answer = "Hello! Hotels are paid up to 120 EUR a night [1]. The travel desk answers within 2 days. Anything else?"
    assert await _found(answer) == []


async def test_what_no_passage_speaks_of_is_not() -> None:
    answer = "Hotels are paid up to 120 EUR a night. Gym memberships cost nothing for managers."
    assert await _found(answer) == [("ungrounded", "Gym memberships cost nothing for managers.")]


async def test_a_number_that_stands_nowhere_is_told_unless_switched_off() -> None:
    answer = "Hotels are paid up to 150 EUR a night."
    assert await _found(answer) == [("number", answer)]
    assert await _found(answer, numbers=False) == []
    assert await _found("Hotels in 2025 are paid a night.") == []


async def test_how_near_is_near_enough_can_be_set() -> None:
    answer = "The travel desk sells tickets to employees for every train."
    assert [kind for kind, _ in await _found(answer, min_similarity=0.99)] == ["ungrounded"]
    assert await _found(answer, min_similarity=0.1) == []


async def test_without_passages_nothing_is_found_and_nobody_is_asked() -> None:
    async def never(texts: Sequence[str]) -> list[list[float]]:
        raise AssertionError("asked")

    assert await Groundedness(embed=never).judge(["Anything goes here."], Context("output")) == [()]
    assert await Groundedness(embed=never).judge(["Hello!"], _CONTEXT) == [()]


async def test_texts_are_embedded_together_and_told_apart() -> None:
    calls: list[int] = []

    async def counted(texts: Sequence[str]) -> list[list[float]]:
        calls.append(len(texts))
        assert len(set(texts)) == len(texts)
        return await _embed(texts)

    good, bad = "Breakfast is included in the price of most hotels.", "Penguins conquered the southern parking lot."
    found = await Groundedness(embed=counted).judge([good, bad, good], _CONTEXT)
    assert [len(findings) for findings in found] == [0, 1, 0]
    assert len(calls) == 1


async def test_the_rest_of_a_very_long_answer_is_one_finding() -> None:
    sentence = "Hotels are paid up to 120 EUR a night. "
    (found,) = await Groundedness(embed=_embed).judge([sentence * 301], _CONTEXT)
    assert [(finding.kind, finding.start, finding.end) for finding in found] == [
        ("unjudged", 300 * len(sentence), 301 * len(sentence))
    ]


@pytest.mark.parametrize("vectors", [[], [[1.0]], [[float("nan")]] * 20, [[1.0], [1.0, 2.0]]])
async def test_an_embedder_that_tells_nonsense_is_unavailable(vectors: list[list[float]]) -> None:
    async def broken(texts: Sequence[str]) -> list[list[float]]:
        return vectors

    with pytest.raises(CheckUnavailable, match="vector"):
        await Groundedness(embed=broken).judge(["Hotels are paid well here."], _CONTEXT)


class _Judge:
    def __init__(self, answer: str) -> None:
        self.answer = answer
        self.asked: list[list[dict[str, str]]] = []

    async def __call__(self, messages: list[dict[str, str]]) -> str:
        self.asked.append(messages)
        return self.answer


@pytest.mark.parametrize("answer", ["[2]", "```json\n[2]\n```", " [2, 2]\n"])
async def test_a_judge_names_the_statements_that_nothing_supports(answer: str) -> None:
    judge = _Judge(answer)
    text = "Hi! Hotels are paid up to 120 EUR. Gyms are free for all."
    (found,) = await Groundedness(complete=judge).judge([text], _CONTEXT)
    assert [(finding.kind, text[finding.start : finding.end]) for finding in found] == [
        ("ungrounded", "Gyms are free for all.")
    ]
    system, user = judge.asked[0]
    assert system["role"] == "system"
    assert json.loads(user["content"]) == {
        "question": _CONTEXT.question,
        "passages": list(_PASSAGES),
        "statements": {"1": "Hotels are paid up to 120 EUR.", "2": "Gyms are free for all."},
    }


@pytest.mark.parametrize("answer", ["", "none", "[3]", '["1"]', '{"1": true}', "[true]", "[" * 100_000])
async def test_a_judge_that_does_not_answer_the_question_is_unavailable(answer: str) -> None:
    with pytest.raises(CheckUnavailable, match="judge"):
        await Groundedness(complete=_Judge(answer)).judge(["Hotels are paid. Gyms are free for all."], _CONTEXT)


def test_exactly_one_of_embedder_and_judge_is_needed() -> None:
    with pytest.raises(ValueError, match="embedder or a judge"):
        Groundedness()
    with pytest.raises(ValueError, match="not both"):
        Groundedness(embed=_embed, complete=_Judge("[]"))
    assert (Groundedness(embed=_embed).cost, Groundedness(complete=_Judge("[]")).cost) == ("local", "remote")
    versions = {
        Groundedness(embed=_embed).version, Groundedness(embed=_embed, min_similarity=0.5).version,
        Groundedness(embed=_embed, numbers=False).version, Groundedness(embed=_embed, model="x").version,
        Groundedness(complete=_Judge("[]")).version,
    }  # fmt: skip
    assert len(versions) == 5
