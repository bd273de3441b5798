"""What of a text states something, and where it stands."""

from __future__ import annotations

import pytest

from guardrails.statements import statements


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Hello there!",
        "Sure, happy to help!",
        "What would you like to know?",
        "I don't know.",
        "I'm sorry, but I can't find anything about that.",
        "Unfortunately, the passages do not say more about it.",
        "The context contains no information on that topic.",
        "Let me know if you need anything else, and I will look again!",
        "## The cap of a night",
        "Here is what the handbook says about it:",
        "```\nThe code is no statement.\n```",
        "~~~\nThe code that never ends is none.",
        "---\n\n| :-- | --: |\n",
        "[1]: https://example.com The source of it all",
        "Ich weiß es nicht.",
    ],
)
def test_what_claims_nothing_is_no_statement(text: str) -> None:
    assert list(statements(text)) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The cap is 3.5 kg [1]. Dr. Smith said so!", ["The cap is 3.5 kg.", "Dr. Smith said so!"]),
        ("Hello! The cap is high. Is it?", ["The cap is high."]),
        ("- one is **red**\n- two is [green](https://x.example)", ["one is red", "two is green"]),
        ("1. Claim the meal first.\n2) Then the hotel.", ["Claim the meal first.", "Then the hotel."]),
        ("It is wrapped\nover two lines.", ["It is wrapped over two lines."]),
        ("# Title\nThe text behind it.", ["The text behind it."]),
        ("Before the code.\n```\nx = 1\n```\nAnd behind the code.", ["Before the code.", "And behind the code."]),
        ("| rain is wet | snow is cold |", ["rain is wet | snow is cold |"]),
        ("I don't know why, but the fee is high.", ["I don't know why, but the fee is high."]),
        ("I don't know, it might be 500 EUR.", ["I don't know, it might be 500 EUR."]),
        ("价格是五百欧元。好。", ["价格是五百欧元。"]),
    ],
)
def test_what_states_something(text: str, words: list[str]) -> None:
    assert [each.words for each in statements(text)] == words


def test_a_statement_knows_where_it_stands() -> None:
    text = "Hi!\n\n- Größe is **𝓑ig** [2].  \n  It grows daily. "
    assert [each.words for each in statements("It is \ud800 half one.")] == ["It is ? half one."]
    assert [text[each.start : each.end] for each in statements(text)] == ["Größe is **𝓑ig** [2].", "It grows daily."]
