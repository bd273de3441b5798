"""Answers that are made of the passages' own sentences."""

from __future__ import annotations

from markdown_it import MarkdownIt

from gateway.providers.extractive import extract
from retrieval.passages import Passage


def passage(text: str, name: str = "d") -> Passage:
    return Passage(name, "1", f"{name}#0", "c", 0.5, "Title", "url", text)


def test_the_best_sentences_are_cited_in_the_order_of_their_passages() -> None:
    bees = passage("Bees store honey in combs of wax. The weather was fine that day in the valley.", "bees")
    trains = passage("The night train leaves from platform nine.", "trains")
    assert extract("Where do bees store honey?", [trains, bees], 2) == "Bees store honey in combs of wax. [2]"
    assert "nothing" in extract("Who was Umbrella?", [trains, bees], 2)


def test_a_code_block_is_closed_before_its_mark() -> None:
    text = "Start the gateway with this command:\n\n```sh\nrag-gateway serve\n```\n\nIt listens on port 8080."
    answer = extract("How do I start the gateway?", [passage(text)], 1)
    assert "rag-gateway serve" in answer
    tokens = MarkdownIt().parse(answer)
    assert [token.content for token in tokens if token.type == "fence"] == ["rag-gateway serve\n"]
    assert tokens[-2].content == "[1]"
