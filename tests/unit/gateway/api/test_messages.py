"""Chunks of OpenAI's format as events of Anthropic's: one block opens after another, and late pieces find theirs."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from gateway.api.messages import MessagesCall
from gateway.api.messages_request import GATEWAY_SIGNATURE, chat_request
from gateway.chunks import Chunk
from gateway.errors import GatewayError, UpstreamFailed
from gateway.exchange import Exchange

EXCHANGE = Exchange("messages")
SOURCE = {"url": "https://docs/a", "title": "A", "quote": "As it says.", "document_id": "a"}
CITED: dict[str, Any] = {
    "type": "url_citation",
    "url_citation": {"url": "https://docs/a", "title": "A", "start_index": 3, "end_index": 6},
}
LOCATION = {
    "type": "search_result_location",
    "cited_text": "As it says.",
    "source": "https://docs/a",
    "title": "A",
    "search_result_index": 0,
    "start_block_index": 0,
    "end_block_index": 1,
}


def call() -> MessagesCall:
    return MessagesCall(
        chat_request(b'{"model": "m", "max_tokens": 9, "stream": true, "messages": [{"role": "user", "content": "x"}]}')
    )


def whole(document: dict[str, Any]) -> bytes:
    return asyncio.run(call().whole(Chunk(json.dumps(document).encode()), EXCHANGE))


def chunk(delta: dict[str, Any], finish: str | None = None, **more: Any) -> Chunk:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return Chunk(json.dumps({"id": "chatcmpl-1", "model": "gpt-x", "choices": [choice], **more}).encode())


def told(*chunks: Chunk) -> list[dict[str, Any]]:
    """The events after `message_start` and `ping`, and before the last two."""
    one = call()
    data = b"".join(one.events([piece], EXCHANGE) for piece in chunks) + asyncio.run(one.end(EXCHANGE))
    events = []
    for event in data.strip().split(b"\n\n"):
        name, _, document = event.partition(b"\ndata: ")
        events.append(json.loads(document))
        assert name == b"event: " + events[-1]["type"].encode()
    assert [event["type"] for event in events[:2]] == ["message_start", "ping"]
    assert events[0]["message"]["id"] == "msg_1"
    assert [event["type"] for event in events[-2:]] == ["message_delta", "message_stop"]
    return events[2:-1]


def start(index: int, **block: Any) -> dict[str, Any]:
    return {"type": "content_block_start", "index": index, "content_block": block}


def piece(index: int, kind: str, **value: Any) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": {"type": kind, **value}}


def stop(index: int) -> dict[str, Any]:
    return {"type": "content_block_stop", "index": index}


def test_blocks_open_one_after_another() -> None:
    tool = {"index": 0, "id": "t1", "function": {"name": "look", "arguments": ""}}
    *events, last = told(
        chunk({"role": "assistant", "content": ""}),
        chunk({"reasoning_content": "hm"}),
        chunk({"content": "I "}),
        chunk({"content": "look."}),
        chunk({"tool_calls": [tool]}),
        chunk({"tool_calls": [{"index": 0, "function": {"arguments": '{"a": 1}'}}]}),
        chunk({}, "tool_calls"),
        Chunk(b'{"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 2}}'),
    )
    assert events == [
        start(0, type="thinking", thinking="", signature=""),
        piece(0, "thinking_delta", thinking="hm"),
        piece(0, "signature_delta", signature=GATEWAY_SIGNATURE),
        stop(0),
        start(1, type="text", text=""),
        piece(1, "text_delta", text="I "),
        piece(1, "text_delta", text="look."),
        stop(1),
        start(2, type="tool_use", id="t1", name="look", input={}),
        piece(2, "input_json_delta", partial_json='{"a": 1}'),
        stop(2),
    ]
    assert last["delta"] == {"stop_reason": "tool_use", "stop_sequence": None}
    assert (last["usage"]["input_tokens"], last["usage"]["output_tokens"]) == (5, 2)


def test_what_a_guardrail_held_back_finds_its_block() -> None:
    """Every text's last words come at the end; a tool's name, too."""
    *events, _ = told(
        chunk({"content": "I "}),
        chunk({"tool_calls": [{"index": 0, "id": "t1", "function": {"name": "", "arguments": ""}}]}),
        chunk({"tool_calls": [{"index": 0, "function": {"arguments": '{"a": '}}]}),
        chunk({"content": "look.", "tool_calls": [{"index": 0, "function": {"name": "look", "arguments": "1}"}}]},
              "tool_calls"),
    )  # fmt: skip
    assert events == [
        start(0, type="text", text=""),
        piece(0, "text_delta", text="I "),
        piece(0, "text_delta", text="look."),
        stop(0),
        start(1, type="tool_use", id="t1", name="look", input={}),
        piece(1, "input_json_delta", partial_json='{"a": 1}'),
        stop(1),
    ]


def test_signed_and_hidden_thoughts_keep_their_proofs() -> None:
    *events, _ = told(
        chunk({"reasoning_content": "hm"}),
        chunk({"thinking_blocks": [{"index": 0, "type": "thinking", "thinking": "hm", "signature": "sig"}]}),
        chunk({"thinking_blocks": [{"index": 1, "type": "redacted_thinking", "data": "xyz"}]}),
        chunk({"content": "so"}, "stop"),
    )
    assert events == [
        start(0, type="thinking", thinking="", signature=""),
        piece(0, "thinking_delta", thinking="hm"),
        piece(0, "signature_delta", signature="sig"),
        stop(0),
        start(1, type="redacted_thinking", data="xyz"),
        stop(1),
        start(2, type="text", text=""),
        piece(2, "text_delta", text="so"),
        stop(2),
    ]


def test_a_thought_that_is_not_shown_is_signed_all_the_same() -> None:
    *events, _ = told(
        chunk({"thinking_blocks": [{"index": 0, "type": "thinking", "thinking": "", "signature": "sig"}]}),
        chunk({"content": "so"}, "stop"),
    )
    assert events[:3] == [
        start(0, type="thinking", thinking="", signature=""),
        piece(0, "signature_delta", signature="sig"),
        stop(0),
    ]


def test_sources_are_citations() -> None:
    *events, last = told(
        chunk({"content": "So [1]."}), chunk({"annotations": [CITED]}, "stop", rag={"sources": [SOURCE]})
    )
    assert events[-2] == piece(0, "citations_delta", citation=LOCATION)
    assert last["rag"] == {"sources": [SOURCE]}
    message = {"role": "assistant", "content": "So [1].", "annotations": [CITED]}
    body = json.loads(whole({"choices": [{"message": message, "finish_reason": "stop"}], "rag": {"sources": [SOURCE]}}))
    assert body["content"] == [{"type": "text", "text": "So [1].", "citations": [LOCATION]}]
    assert body["rag"] == {"sources": [SOURCE]}


def test_of_two_passages_of_a_page_the_one_that_is_named_is_cited() -> None:
    *events, _ = told(
        chunk({"content": "So [2]."}),
        chunk({"annotations": [CITED]}, "stop", rag={"sources": [SOURCE, {**SOURCE, "quote": "Or so."}]}),
    )
    cited = {**LOCATION, "cited_text": "Or so.", "search_result_index": 1}
    assert events[-2] == piece(0, "citations_delta", citation=cited)


def test_a_vendors_own_annotations_are_no_marks_of_ours() -> None:
    foreign = {"type": "url_citation", "url_citation": {"url": "https://elsewhere"}}
    message = {"content": "So [1].", "annotations": [foreign, CITED, {"type": "file_citation"}]}
    body = json.loads(whole({"choices": [{"message": message}]}))
    assert body["content"] == [{"type": "text", "text": "So [1].", "citations": None}]


@pytest.mark.parametrize(
    ("choice", "reason"),
    [
        ({"finish_reason": "stop"}, ("end_turn", None)),
        ({"finish_reason": "stop", "stop_reason": "END"}, ("stop_sequence", "END")),
        ({"finish_reason": "stop", "stop_reason": 128009}, ("end_turn", None)),
        ({"finish_reason": "length"}, ("max_tokens", None)),
        ({"finish_reason": "tool_calls"}, ("tool_use", None)),
        ({"finish_reason": "content_filter"}, ("refusal", None)),
        ({"finish_reason": "stop", "message": {"refusal": "No."}}, ("refusal", None)),
    ],
)
def test_stop_reasons(choice: dict[str, Any], reason: tuple[str, str | None]) -> None:
    body = json.loads(whole({"choices": [choice]}))
    assert (body["stop_reason"], body["stop_sequence"]) == reason


@pytest.mark.parametrize("arguments", ["[1]", "{", '"x"'])
def test_arguments_that_are_no_object_are_a_bad_answer_unless_they_were_cut_off(arguments: str) -> None:
    tool = {"id": "t", "function": {"name": "look", "arguments": arguments}}
    choice = {"message": {"tool_calls": [tool]}, "finish_reason": "tool_calls"}
    with pytest.raises(UpstreamFailed):
        whole({"choices": [choice]})
    if arguments == "{":
        choice["finish_reason"] = "length"
        body = json.loads(whole({"choices": [choice]}))
        assert (body["content"][0]["input"], body["stop_reason"]) == ({}, "max_tokens")


def test_a_tool_call_that_never_gets_a_name_is_a_bad_answer() -> None:
    one = call()
    with pytest.raises(UpstreamFailed):
        one.events([chunk({"tool_calls": [{"index": 0, "id": "t"}]}, "tool_calls")], EXCHANGE)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"), (401, "authentication_error"), (402, "invalid_request_error"),
        (403, "permission_error"), (404, "not_found_error"), (413, "request_too_large"), (429, "rate_limit_error"),
        (500, "api_error"), (502, "api_error"), (503, "overloaded_error"), (504, "timeout_error"),
    ],
)  # fmt: skip
def test_errors(status: int, kind: str) -> None:
    error = GatewayError("So it is.", code="some_code")
    error.status = status
    assert json.loads(call().broken(error).removeprefix(b"event: error\ndata: ")) == {
        "type": "error",
        "error": {"type": kind, "message": "So it is.", "details": {"error_code": "some_code"}},
    }
