"""A vendor's pieces as output items and events, in the orders that vendors and guardrails bring them."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.api.responses_output import Event, Output
from gateway.api.responses_request import ResponsesEnvelope, chat_request
from gateway.errors import UpstreamFailed


def told(*deltas: dict[str, Any], whole: bool = True) -> tuple[list[Event], list[dict[str, Any]]]:
    output = Output("1")
    events = [event for delta in deltas for event in output.take(delta)]
    events += output.close(whole=whole)
    return events, output.items


def piece(index: int, arguments: str = "", **more: Any) -> dict[str, Any]:
    name = {"name": more.pop("name")} if "name" in more else {}
    return {"tool_calls": [{"index": index, **more, "function": {**name, "arguments": arguments}}]}


def test_parallel_calls_whose_pieces_are_mixed() -> None:
    events, items = told(
        piece(0, id="a", name="f"), piece(1, id="b", name="g"), piece(0, '{"x"'), piece(1, "{}"), piece(0, ":1}")
    )
    assert [(item["call_id"], item["name"], item["arguments"]) for item in items] == [
        ("a", "f", '{"x":1}'), ("b", "g", "{}"),
    ]  # fmt: skip
    assert len({item["id"] for item in items}) == 2
    for at, item in enumerate(items):
        mine = [(kind, fields) for kind, fields in events if fields["output_index"] == at]
        kinds = list(dict.fromkeys(kind.removeprefix("response.") for kind, _ in mine))
        assert kinds == [
            "output_item.added", "function_call_arguments.delta", "function_call_arguments.done", "output_item.done",
        ]  # fmt: skip
        assert "".join(fields.get("delta", "") for _, fields in mine) == item["arguments"]


def test_a_call_waits_for_its_name() -> None:
    events, (item,) = told(piece(0, '{"x"', id="a"), piece(0, ":1}", name="f"))
    assert events[0][1]["item"]["name"] == "f"
    assert item["arguments"] == '{"x":1}'


def test_a_call_without_a_name_is_the_vendors_fault_unless_it_was_cut_off() -> None:
    with pytest.raises(UpstreamFailed, match="without a name"):
        told(piece(0, "{}", id="a"))
    assert told(piece(0, "{}", id="a"), whole=False) == ([], [])


def test_words_that_come_after_a_call_go_on_with_their_message() -> None:
    events, (message, call) = told({"content": "one "}, piece(0, "{}", id="a", name="f"), {"content": "two"})
    assert message["content"][0]["text"] == "one two"
    assert call["type"] == "function_call"
    done = [kind for kind, _ in events].index("response.output_text.done")
    assert all(kind != "response.output_text.delta" for kind, _ in events[done:])


def test_an_event_is_not_changed_by_what_comes_later() -> None:
    events, _ = told({"content": "one"}, {"content": "two"})
    added = next(fields for kind, fields in events if kind == "response.output_item.added")
    part = next(fields for kind, fields in events if kind == "response.content_part.added")
    assert (added["item"]["status"], added["item"]["content"], part["part"]["text"]) == ("in_progress", [], "")


def test_a_refusal_is_a_part_of_its_own() -> None:
    events, (message,) = told({"content": "Well. "}, {"refusal": "I "}, {"refusal": "won't."})
    assert [part["type"] for part in message["content"]] == ["output_text", "refusal"]
    assert message["content"][1]["refusal"] == "I won't."
    assert [fields["delta"] for kind, fields in events if kind == "response.refusal.delta"] == ["I ", "won't."]
    assert ("response.refusal.done", "I won't.") in [(kind, fields.get("refusal")) for kind, fields in events]


def test_what_was_cut_off_is_incomplete() -> None:
    _, items = told({"content": "half"}, piece(0, '{"x', id="a", name="f"), whole=False)
    assert [item["status"] for item in items] == ["incomplete", "incomplete"]


def test_signed_thoughts_in_pieces_go_back_to_the_vendor_as_they_came() -> None:
    """`encrypted_content` of the answer is what the next request's chat message holds."""
    _, items = told(
        {"reasoning_content": "Hm. "},
        {"reasoning_content": "Yes."},
        {"thinking_blocks": [{"index": 0, "type": "thinking", "thinking": "Hm. "}]},
        {"thinking_blocks": [{"index": 0, "thinking": "Yes.", "signature": "si"}]},
        {"thinking_blocks": [{"index": 0, "signature": "gned"}]},
        piece(0, "{}", id="a", name="f"),
    )
    assert [item["type"] for item in items] == ["reasoning", "function_call"]
    assert items[0]["content"][0]["text"] == "Hm. Yes."
    answer = {"type": "function_call_output", "call_id": "a", "output": "fine"}
    asked = chat_request(ResponsesEnvelope("m", [*items, answer]), ())
    (message, tool) = asked.messages
    assert message["thinking_blocks"] == [{"type": "thinking", "thinking": "Hm. Yes.", "signature": "signed"}]
    assert [call["id"] for call in message["tool_calls"]] == ["a"]
    assert tool == {"role": "tool", "tool_call_id": "a", "content": "fine"}


def test_metadata_labels_the_call_and_stays_here() -> None:
    asked = chat_request(ResponsesEnvelope("m", "x", metadata={"sensitivity": "internal"}), ())
    assert asked.sensitivity == "internal"
    assert b"sensitivity" not in asked.body_for("m")
