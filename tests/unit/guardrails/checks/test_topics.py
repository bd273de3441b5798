"""Texts near to what is denied, or to nothing that is allowed."""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Sequence

import pytest

from guardrails.checks.topics import Topic, Topics
from guardrails.text_checks import CheckUnavailable, Context

_LAW = Topic("legal_advice", ["Can I sue my landlord for damages?", "Is this contract void in court?"], 0.6)
_TRAVEL = Topic("travel", ["What hotel price is paid on business trips?", "How do I book a train ticket?"], 0.4)
_INPUT = Context("input")


class _Embedder:
    """Words by their hashes, weighted by length: near where the same words are used."""

    def __init__(self, failures: int = 0) -> None:
        self.asked: list[list[str]] = []
        self.failures = failures

    async def __call__(self, texts: Sequence[str]) -> list[list[float]]:
        if self.failures:
            self.failures -= 1
            raise CheckUnavailable("the embedder is away")
        self.asked.append(list(texts))
        vectors = []
        for text in texts:
            vector = [0.0] * 512
            for word in re.findall(r"\w+", text.lower()):
                vector[zlib.crc32(word.encode()) % 512] += math.log(len(word) + 1)
            vectors.append(vector)
        return vectors


async def _kinds(check: Topics, *texts: str) -> list[list[str]]:
    return [[finding.kind for finding in found] for found in await check.judge(texts, _INPUT)]


async def test_what_is_near_to_a_denied_example_is_found_with_its_nearness() -> None:
    check = Topics(_Embedder(), denied=[_LAW])
    text = "Can I sue my landlord for the damages?"
    ((finding,), ()) = await check.judge([text, "How do I book a train?"], _INPUT)
    assert (finding.kind, finding.start, finding.end) == ("legal_advice", 0, len(text))
    assert 0.6 <= finding.score <= 1


async def test_a_denied_topic_in_the_middle_of_a_long_text_is_found_where_it_is() -> None:
    padding = "The weather stays fine. Birds sing all day. Flowers bloom outside. " * 10
    text = f"{padding}Can I sue my landlord for damages? {padding}"
    ((finding,),) = await Topics(_Embedder(), denied=[Topic("law", _LAW.examples, 0.4)]).judge([text], _INPUT)
    assert "landlord" in text[finding.start : finding.end]
    assert finding.end - finding.start < 200


async def test_what_is_near_to_nothing_allowed_is_off_topic() -> None:
    check = Topics(_Embedder(), allowed=[_TRAVEL])
    found = await _kinds(check, "How do I book a ticket?", "Sing a pirate's song about treasure", "Thanks, bye", "")
    assert found == [[], ["off_topic"], [], []]


async def test_both_lists_hold_at_once() -> None:
    check = Topics(_Embedder(), denied=[_LAW], allowed=[_TRAVEL])
    assert await _kinds(check, "Is this contract void in a court?") == [["legal_advice", "off_topic"]]


async def test_examples_are_embedded_once_and_again_only_when_that_failed() -> None:
    embed = _Embedder(failures=1)
    check = Topics(embed, denied=[_LAW])
    with pytest.raises(CheckUnavailable):
        await check.judge(["How do I book a train?"], _INPUT)
    for _ in range(3):
        await check.judge(["How do I book a train?"], _INPUT)
    assert sum(_LAW.examples[0] in texts for texts in embed.asked) == 1


async def test_texts_that_are_too_short_ask_nobody() -> None:
    embed = _Embedder()
    assert await _kinds(Topics(embed, allowed=[_TRAVEL]), "Hi!", "", "  ") == [[], [], []]
    assert embed.asked == []


def test_topics_need_examples() -> None:
    with pytest.raises(ValueError, match="denied"):
        Topics(_Embedder())
    with pytest.raises(ValueError, match="`x` has no examples"):
        Topics(_Embedder(), denied=[Topic("x", [" "])])
    versions = {
        Topics(_Embedder(), denied=[_LAW]).version, Topics(_Embedder(), allowed=[_LAW]).version,
        Topics(_Embedder(), denied=[_LAW], model="m").version, Topics(_Embedder(), denied=[_TRAVEL]).version,
    }  # fmt: skip
    assert len(versions) == 4
