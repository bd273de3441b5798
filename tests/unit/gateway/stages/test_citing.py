"""Citations are checked before they are shown: a mark that names no passage is taken out and counted."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.chunks import Chunk
from gateway.exchange import Exchange
from gateway.stages.citing import CitedAnswer, Marks, citations
from retrieval.passages import Passage

TWO = [Passage(f"doc-{n}", "v", f"doc-{n}#0", "c", 0.5, f"Title {n}", f"url-{n}", f"Text {n}.") for n in (1, 2)]


class Given:
    def __init__(self, *chunks: dict[str, Any]) -> None:
        self.chunks = [Chunk(json.dumps(chunk).encode()) for chunk in chunks]

    async def next(self) -> list[Chunk]:
        return [self.chunks.pop(0)] if self.chunks else []

    def close(self) -> None:
        pass


def answered(*chunks: dict[str, Any]) -> list[dict[str, Any]]:
    exchange = Exchange("chat.completions")
    exchange.passages = TWO
    answer = CitedAnswer(Given(*chunks), exchange)

    async def all_of_it() -> list[dict[str, Any]]:
        got = []
        while chunks := await answer.next():
            got += [json.loads(chunk.data) for chunk in chunks]
        return got

    return asyncio.run(all_of_it())


@pytest.mark.parametrize(
    ("said", "shown", "removed"),
    [
        ("The sky is blue [1]. Grass is green [3].", "The sky is blue [1]. Grass is green.", 1),
        ("Both [1][2][9].", "Both [1][2].", 1),
        ("Nothing [0] and [99].", "Nothing and.", 2),
        ("Call `items[7]` or rows[7] or f(x)[7].", "Call `items[7]` or rows[7] or f(x)[7].", 0),
        ("```\nx = [7]\n``` and [7]", "```\nx = [7]\n``` and", 1),
        ("A list [12, 13], a link [7](x), a year [2024].", "A list [12, 13], a link(x), a year [2024].", 1),
    ],
)
def test_a_whole_answer(said: str, shown: str, removed: int) -> None:
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": said}}
    (document,) = answered({"id": "x", "choices": [choice]})
    message = document["choices"][0]["message"]

    assert message["content"] == shown
    assert document["rag"].get("invalid_citations", 0) == removed
    for annotation in message["annotations"]:
        citation = annotation["url_citation"]
        mark = message["content"][citation["start_index"] : citation["end_index"]]
        assert citation["url"] == f"url-{mark[1:-1]}"


@given(st.lists(st.sampled_from(["[", "]", "1", "2", "9", "[1]", "[9]", "`", "```", " ", "word", "a[", "[2", "\n"])))
def test_a_stream_shows_what_the_whole_answer_would(pieces: list[str]) -> None:
    """However the text is cut, as long as no run of backticks is."""
    whole = Marks(2)
    expected = whole.feed("".join(pieces)) + whole.finish()
    if "`" in "".join(pieces):
        return
    cut = Marks(2)
    shown = "".join(cut.feed(piece) for piece in pieces) + cut.finish()
    assert (shown, cut.removed) == (expected, whole.removed)


def test_a_stream_with_a_mark_in_pieces() -> None:
    def delta(content: str | None, finish: str | None = None) -> dict[str, Any]:
        told = {"content": content} if content is not None else {}
        return {"id": "x", "choices": [{"index": 0, "delta": told, "finish_reason": finish}]}

    chunks = answered(delta("Blue ["), delta("1"), delta("] and ["), delta("7]."), delta("["), delta(None, "stop"))

    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks) == "Blue [1] and.["
    assert chunks[-1]["rag"]["invalid_citations"] == 1
    (annotation,) = chunks[-1]["choices"][0]["delta"]["annotations"]
    assert (annotation["url_citation"]["start_index"], annotation["url_citation"]["end_index"]) == (5, 8)


def test_only_marks_are_annotated_not_brackets_in_code() -> None:
    text = "So `rows[1]` it is [1].\n\n```\na[2] [2]\n```\n\n[2] and list[1], twice [1][2]."
    found = [each["url_citation"] for each in citations(text, TWO)]
    assert [text[each["start_index"] : each["end_index"]] for each in found] == ["[1]", "[2]", "[1]", "[2]"]
    assert [text[: each["start_index"]].count("\n") for each in found] == [0, 6, 6, 6]
    assert [each["url"] for each in found] == ["url-1", "url-2", "url-1", "url-2"]
