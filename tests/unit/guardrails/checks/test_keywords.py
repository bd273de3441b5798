"""Words, phrases and patterns of an operator's lists are found, also where they are disguised, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrails.checks.keywords import Keywords, WordList
from guardrails.text_checks import Context

_INPUT = Context("input")


async def _found(text: str, *words: str, patterns: Sequence[str] = (), **settings: bool) -> list[str]:
    check = Keywords([WordList("list", words, patterns, **settings)])
    (found,) = await check.judge([text], _INPUT)
    assert {finding.kind for finding in found} <= {"list"}
    return [text[finding.start : finding.end] for finding in found]


@pytest.mark.parametrize(
    ("word", "text", "as_written"),
    [
        ("acid", "no acid, please", "acid"),
        ("acid", "ACID", "ACID"),
        ("acid", "(acid)", "acid"),
        ("acid", "acid's", "acid"),
        ("acid", "aci\u200bd here", "aci\u200bd"),
        ("acid", "a\u00adc\u2060id", "a\u00adc\u2060id"),
        ("acid", "\u0430\u0441id", "\u0430\u0441id"),  # Cyrillic а and с
        ("acid", "ａｃｉｄ", "ａｃｉｄ"),
        ("acid", "𝖆𝖈𝖎𝖉 and", "𝖆𝖈𝖎𝖉"),
        ("acid", "áçíd", "áçíd"),
        ("office", "my oﬃce.", "oﬃce"),
        ("sulfuric acid", "sulfuric\n  acid", "sulfuric\n  acid"),
        ("C++", "use c++, not C", "c++"),
        (".NET", "the .net way", ".net"),
        ("straße", "STRASSE 5", "STRASSE"),
        ("να", "ΝΑ ΠΑΩ", "ΝΑ"),
        ("привет", "ну ПРИВЕТ всем", "ПРИВЕТ"),
        ("毒药", "这是毒药吗", "毒药"),
        ("iphone", "新iPhone手机", "iPhone"),
        ("한국", "한국 사람", "한국"),
        ("naïve", "nai\u0308ve", "nai\u0308ve"),
    ],
)
async def test_a_word_is_found_however_it_is_written_and_where_it_stands(word: str, text: str, as_written: str) -> None:
    assert await _found(text, word) == [as_written]


@pytest.mark.parametrize(
    ("word", "text"),
    [
        ("acid", "a placid lake, acids and antacid, acid_test"),
        ("acid", "acidé"),
        ("c", "c'est"[2:]),
        ("sulfuric acid", "sulfuric, acid"),
        ("привет", "приветик"),
        ("한국", "한국어"),
    ],
)
async def test_a_part_of_another_word_is_not_found(word: str, text: str) -> None:
    assert await _found(text, word) == []
    assert await _found(text, word, whole_words=False) or word not in text


async def test_the_longest_of_a_list_is_told_and_neighbours_are_all_found() -> None:
    assert await _found("acid acid rain acid rainy", "acid", "acid rain") == ["acid", "acid rain", "acid"]


async def test_a_list_may_ask_for_capitals() -> None:
    assert await _found("us and US", "US", case_sensitive=True) == ["US"]
    assert await _found("ab-1 AB-2", patterns=[r"AB-\d"], case_sensitive=True) == ["AB-2"]


async def test_patterns_read_the_text_as_it_came_and_folded() -> None:
    assert await _found("АВ-12 ＡＢ－３４ ab-56", patterns=[r"\bAB-\d+"]) == ["АВ-12", "ＡＢ－３４", "ab-56"]
    assert await _found("это Проект Х", patterns=[r"проект \pL"]) == ["Проект Х"]
    assert await _found("anything", patterns=["x*"]) == []


async def test_each_list_has_its_kind() -> None:
    check = Keywords([WordList("rivals", ["Acme"]), WordList("projects", patterns=["acme-[0-9]+"])])
    texts = ["Acme", "acme-7", "none", "\ud800 acme"]
    kinds = [[finding.kind for finding in found] for found in await check.judge(texts, _INPUT)]
    assert kinds == [
        ["rivals"], ["projects", "rivals"], [], ["rivals"],
    ]  # fmt: skip


async def test_beyond_the_most_findings_the_rest_of_the_text_is_one() -> None:
    text = "bad " * 5_000
    (found,) = await Keywords([WordList("list", ["bad"])]).judge([text], _INPUT)
    assert len(found) == 4_001
    assert (found[-1].start, found[-1].end) == (16_000, 20_000)


@pytest.mark.parametrize(
    ("lists", "told"),
    [
        ([], "at least one list"),
        ([WordList("x")], "neither"),
        ([WordList("x y", ["a"])], "kind"),
        ([WordList("x", ["\u200b"])], "visible"),
        ([WordList("x", patterns=[r"(a)\1"])], "RE2"),
    ],
)
def test_a_list_that_can_find_nothing_is_refused(lists: list[WordList], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Keywords(lists)


def test_the_version_follows_the_lists() -> None:
    lists = [
        WordList("x", ["a"]), WordList("x", ["b"]), WordList("y", ["a"]), WordList("x", patterns=["a"]),
        WordList("x", ["a"], whole_words=False), WordList("x", ["a"], case_sensitive=True),
    ]  # fmt: skip
    assert len({Keywords([each]).version for each in lists}) == len(lists)
    assert Keywords([WordList("x", ["a"])]).version == Keywords([WordList("x", ["a"])]).version


_SECRET = Keywords([WordList("x", ["secret"])])


@given(st.text(max_size=40), st.text(alphabet="\u200b\u2060\u00ad\ufe0f", max_size=3), st.text(max_size=40))
async def test_a_span_is_always_where_the_word_stands(before: str, within: str, after: str) -> None:
    text = f"{before} sec{within}ret {after}"
    (found,) = await _SECRET.judge([text], _INPUT)
    spans = [(finding.start, finding.end) for finding in found]
    assert (len(before) + 1, len(before) + 7 + len(within)) in spans
