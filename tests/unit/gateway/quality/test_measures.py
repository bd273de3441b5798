"""Groundedness and relevance as numbers, by an embedder and by a judge."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Sequence

import pytest

from gateway.quality.measures import By, groundedness, relevance
from guardrails.text_checks import CheckUnavailable, Context

PASSAGES = ("Hotels are paid up to 120 EUR a night.", "The travel desk answers within two days.")
CONTEXT = Context("output", "How fast does the travel desk answer?", PASSAGES)


async def embed(texts: Sequence[str]) -> list[list[float]]:
    """Words by their hashes: near where the same words are used."""
    vectors = []
    for text in texts:
        vector = [0.0] * 512
        for word in re.findall(r"\w+", text.lower()):
            vector[zlib.crc32(word.encode()) % 512] += 1.0
        vectors.append(vector)
    return vectors


def judge(said: str) -> By:
    asked: list[list[dict[str, str]]] = []

    async def complete(messages: list[dict[str, str]]) -> str:
        asked.append(messages)
        return said

    return By("mock/judge", complete=complete)


async def test_groundedness_is_the_share_of_statements_that_are_supported() -> None:
    measure = groundedness(By("local", embed=embed), min_similarity=0.6, language="en")
    assert await measure("The travel desk answers within two days.", CONTEXT) == 1.0
    half = "The travel desk answers within two days. Gym memberships cost nothing for managers."
    assert await measure(half, CONTEXT) == 0.5
    assert await measure("Gym memberships cost nothing for managers.", CONTEXT) == 0.0


@pytest.mark.parametrize(
    ("answer", "context"),
    [("I am sorry, I do not know.", CONTEXT), ("Hotels are free.", Context("output", "Are hotels free?"))],
)
async def test_where_there_is_nothing_to_rest_on_or_nothing_is_stated_there_is_no_number(
    answer: str, context: Context
) -> None:
    measure = groundedness(By("local", embed=embed), min_similarity=0.6, language="en")
    assert await measure(answer, context) is None


async def test_a_judge_names_what_is_not_supported() -> None:
    answer = "The travel desk answers within two days. It is open at night."
    measure = groundedness(judge("[2]"), min_similarity=0.6, language="en")
    assert await measure(answer, CONTEXT) == 0.5


async def test_relevance_by_embeddings_is_that_of_the_nearest_sentence() -> None:
    measure = relevance(By("local", embed=embed), language="en")
    near = await measure("Gym memberships cost nothing. The travel desk does answer fast.", CONTEXT)
    far = await measure("Gym memberships cost nothing for managers.", CONTEXT)
    assert near is not None
    assert far is not None
    assert 0 <= far < 0.3 < near <= 1


@pytest.mark.parametrize(("said", "score"), [("4", 1.0), (" 3\n", 0.75), ("0", 0.0)])
async def test_relevance_by_a_judge_is_its_grade(said: str, score: float) -> None:
    assert await relevance(judge(said), language="en")("Within two days.", CONTEXT) == score


@pytest.mark.parametrize("said", ["", "5", "I would say 3", "4.5", json.dumps({"grade": 4})])
async def test_what_is_no_grade_is_no_judgement(said: str) -> None:
    with pytest.raises(CheckUnavailable, match="0 to 4"):
        await relevance(judge(said), language="en")("Within two days.", CONTEXT)
