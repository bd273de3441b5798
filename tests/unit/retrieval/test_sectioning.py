"""Sections: cut in the model's tokens, under their headings, nothing of the text lost."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from retrieval.knowledge import tokenizer_file
from retrieval.loading import Document
from retrieval.sectioning import Section, Sectioner

SECTIONER = Sectioner(tokenizer_file(), most_tokens=60)
COUNTER = Tokenizer.from_file(str(tokenizer_file()))
COUNTER.no_truncation()
COUNTER.no_padding()


def sections(text: str, *, markdown: bool = True) -> list[Section]:
    return SECTIONER.sections(Document("d.md", "d", text, "v", markdown))


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text)


def test_each_section_stands_under_the_headings_above_it() -> None:
    filler = " ".join(["Wheat grows in the long valley by the river."] * 5)
    text = f"# Farm\n\n{filler}\n\n## Grain\n\n{filler}\n\n### Rye\n\n{filler}\n\n## Cattle\n\n{filler}\n"

    assert [section.heading for section in sections(text)] == [
        ("Farm",),
        ("Farm", "Grain"),
        ("Farm", "Grain", "Rye"),
        ("Farm", "Cattle"),
    ]


def test_offsets_hold_after_letters_of_several_bytes() -> None:
    filler = " ".join(["日本の電車は時間どおりに来る。😀"] * 4)
    text = f"# Züge 😀\n\n{filler}\n\n## Straßenbahn\n\n{filler}\n"

    found = sections(text)

    assert {section.heading for section in found} == {("Züge 😀",), ("Züge 😀", "Straßenbahn")}
    assert found[-1].heading == ("Züge 😀", "Straßenbahn")


def test_a_hash_inside_code_is_no_heading() -> None:
    filler = " ".join(["Wheat grows in the long valley by the river."] * 5)
    text = f"# Shell\n\n```sh\n# make it\nmake all\n```\n\n{filler}\n\n{filler}\n"

    assert {section.heading for section in sections(text)} == {("Shell",)}


def test_the_heading_is_embedded_with_the_text() -> None:
    assert Section("Smoke calms them.", ("Bees", "Keeping"), 0).embedded == "Bees > Keeping\nSmoke calms them."
    assert Section("Smoke calms them.", (), 0).embedded == "Smoke calms them."


@pytest.mark.parametrize("text", ["", " \n\n ", "# Only a heading\n", "# One\n\n## Two\n\n"])
def test_headings_alone_are_no_section(text: str) -> None:
    assert sections(text) == []


def test_plain_text_has_no_headings() -> None:
    assert [section.heading for section in sections("# 1 apple\n\n2 pears", markdown=False)] == [()]


_LINES = st.lists(
    st.one_of(
        st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), max_size=200),
        st.sampled_from(
            ["# One", "## Two", "### Three", "```", "~~~", "- item", "| a | b |", "> quoted", "", "    code"]
        ),
        st.lists(st.sampled_from(["rye", "wheat", "oats", "日本", "ключ"]), max_size=80).map(" ".join),
    ),
    max_size=12,
)


@given(_LINES, st.booleans())
@settings(max_examples=150, deadline=None)
def test_no_section_is_longer_than_the_model_reads_and_no_word_is_lost(lines: list[str], markdown: bool) -> None:
    text = "\n".join(lines)

    found = sections(text, markdown=markdown)

    assert [section.position for section in found] == list(range(len(found)))
    assert all(section.text.strip() for section in found)
    assert all(len(COUNTER.encode(section.text, add_special_tokens=False).ids) <= 60 for section in found)
    kept = words(" ".join([section.text for section in found] + [title for s in found for title in s.heading]))
    outside_headings = [line for line in lines if not re.match(r"^#{1,6}\s", line)]
    assert "".join(kept).count("wheat") >= "".join(outside_headings).count("wheat")


def test_the_tokenizer_is_found_without_loading_torch() -> None:
    assert tokenizer_file().name == "tokenizer.json"
    assert isinstance(tokenizer_file(), Path)
