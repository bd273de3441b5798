"""An answer from passages says which."""

from __future__ import annotations

import pytest

from guardrails.checks.citations import Citations
from guardrails.text_checks import Context

_TWO = Context("output", passages=("The first passage.", "The second passage."))


async def _found(text: str, context: Context = _TWO, **settings: float) -> list[tuple[str, str]]:
    (found,) = await Citations(**settings).judge([text], context)  # type: ignore[arg-type]  # by name
    return [(finding.kind, text[finding.start : finding.end]) for finding in found]


@pytest.mark.parametrize(
    "text",
    [
        "Hotels are paid for [1].",
        "Hotels are paid for. [2] Trains are as well.",
        "Hotels are paid for[1][2]",
        "Hello! What can I do for you?",
        "I don't know.",
        "Hotels are paid [1], see `rows[7]` and\n```\nx[9] = [4]\n```",
        "Hotels are paid [1], see [7](https://example.com).",
    ],
)
async def test_one_mark_that_points_to_a_passage_is_enough(text: str) -> None:
    assert await _found(text) == []


async def test_an_answer_without_marks_is_told_whole() -> None:
    text = "Hotels are paid for by the company."
    assert await _found(text) == [("missing", text)]
    assert await _found(f"{text} `x [1]`") == [("missing", f"{text} `x [1]`")]


async def test_a_mark_that_points_nowhere_is_told_where_it_stands() -> None:
    assert await _found("Hotels are paid for [1], trains too [3] or [0].") == [("unknown", "[3]"), ("unknown", "[0]")]
    kinds = [kind for kind, _ in await _found("Hotels are paid for [7].")]
    assert kinds == ["missing", "unknown"]


async def test_a_share_of_the_statements_may_be_asked_for() -> None:
    text = "Hotels are paid for [1]. Trains are paid for. [2] Cars are not paid for. Ships are not paid for."
    assert await _found(text, min_share=0.5) == []
    assert await _found(text, min_share=0.6) == [("few", text)]


async def test_without_passages_no_marks_are_needed() -> None:
    assert await _found("Hotels are paid for by the company.", Context("output")) == []
    assert await _found("See [3] for all of it.", Context("output", passages=(" ",))) == []


def test_a_share_is_from_0_to_1() -> None:
    with pytest.raises(ValueError, match="min_share"):
        Citations(min_share=2)
    assert Citations(min_share=0.5).version != Citations().version
