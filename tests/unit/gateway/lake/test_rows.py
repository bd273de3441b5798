"""A call as the store has it becomes a row with no text in it."""

from __future__ import annotations

import pyarrow as pa
import pytest
from lake_calls import exchange_of, say

from gateway.lake.filling import table_of
from gateway.lake.lake import conformed
from gateway.lake.rows import call_row
from gateway.lake.schema import CALLS, TABLES, VERSION, VERSION_KEY
from gateway.lake.signals import Signals, question_of
from gateway.records.contents import Contents
from gateway.records.rows import COLUMNS, row
from retrieval.passages import Passage


def test_every_value_has_a_column_and_every_column_a_meaning() -> None:
    kept = dict(zip(COLUMNS, row(exchange_of("a", "jo"), Contents()), strict=True))
    made = call_row(kept, None, Signals())
    assert made.keys() == {column.name for column in CALLS.columns}
    for table in TABLES.values():
        assert all(column.meaning.endswith(".") for column in table.columns)
        assert table.schema.metadata[VERSION_KEY] == str(VERSION).encode()


def test_what_was_said_becomes_counts_and_no_text() -> None:
    passages = [
        Passage(f"d{n}", "1", f"s{n}", "handbook", 0.9 - n / 10, "A title", "", f"the passage's own words {n}")
        for n in range(3)
    ]
    said = say("Where is the bag of my aunt?", "It is in the hall [2][2], see [9].")
    exchange = exchange_of("a", "jo", passages=passages, **said)
    exchange.stages.append(("retrieval", exchange.started, exchange.started + 10))
    kept = dict(zip(COLUMNS, row(exchange, Contents()), strict=True))
    made = call_row(kept, {"messages": said["messages"], "answer": said["answer_text"]}, Signals(lambda text: "en"))
    assert (made["question_chars"], made["answer_chars"], made["cited"], made["refused"]) == (28, 34, 1, False)
    assert (made["passage_count"], made["top_score"], made["answer_language"]) == (3, 0.9, "en")
    text = str(table_of("calls", [made]).to_pylist())
    for word in ("aunt", "hall", "words", "Be brief"):
        assert word not in text


@pytest.mark.parametrize(
    ("answer", "refused"),
    [
        ("I'm sorry, but I can't help with that.", True),
        ("The handbook does not cover this.", True),
        ("I found nothing about this in the knowledge that I have.", True),
        ("Es tut mir leid, dazu habe ich nichts.", True),
        ("Nope, not today.", True),  # by the phrase below
        ("You can't miss it: second door on the left [1].", False),
        ("The policy covers sick leave of up to six weeks.", False),
    ],
)
def test_refusals_are_known_by_their_words(answer: str, refused: bool) -> None:
    assert Signals(refusals=["not today"]).of({"answer": answer}, ())["refused"] is refused


def test_the_question_is_the_last_users_message() -> None:
    parts = [{"type": "text", "text": "What"}, {"type": "image_url", "image_url": {"url": "data:"}}]
    said = {"messages": [{"role": "user", "content": "Old"}, {"role": "user", "content": parts}, {"role": "assistant"}]}
    assert question_of(said) == "What"
    assert question_of({"messages": [{"role": "system", "content": "x"}]}) is None
    assert question_of(None) is None


def test_files_of_an_older_version_are_read_with_the_others() -> None:
    old = pa.table({"call_id": ["c"], "status": pa.array([200], pa.int16())})
    now = conformed(old, CALLS.schema)
    assert now.schema.equals(CALLS.schema)
    assert now.to_pylist()[0]["status"] == 200
    assert now.to_pylist()[0]["guardrails"] is None
