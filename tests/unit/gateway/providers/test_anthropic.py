"""Anthropic's dialect: what goes out for a request of OpenAI's, and what an answer becomes."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from gateway.errors import BadRequest, UpstreamFailed, UpstreamLimited
from gateway.providers.anthropic import Anthropic
from gateway.providers.claude_models import ClaudeModel, claude_model
from gateway.providers.claude_schemas import closed
from gateway.providers.refusals import Said

HELLO = {"role": "user", "content": "Grüezi"}
HELLO_TURN = {"role": "user", "content": [{"type": "text", "text": "Grüezi"}]}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
TOOL_TOLD = {"name": "weather", "input_schema": {"type": "object", "properties": {}}}
CALL = {"id": "call:1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Bern"}'}}
USE = {"type": "tool_use", "id": "call_1", "name": "weather", "input": {"city": "Bern"}}
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer", "minimum": 1}}, "required": ["a"]}
CLOSED = {
    "type": "object",
    "properties": {"a": {"type": "integer", "description": "(minimum: 1)"}},
    "required": ["a"],
    "additionalProperties": False,
}


def sent(model: str = "claude-sonnet-5", stream: bool = False, **asked: Any) -> dict[str, Any]:
    outgoing = Anthropic(4096).outgoing("chat.completions", {"messages": [HELLO], **asked}, model, stream=stream)
    assert outgoing.path == b"/v1/messages"
    body: dict[str, Any] = json.loads(outgoing.body)
    return body


def lacking(model: str, **asked: Any) -> list[str]:
    return Anthropic().lacking("chat.completions", {"messages": [HELLO], **asked}, model)


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("claude-opus-4-6", ClaudeModel("opus", (4, 6))),
        ("claude-sonnet-4-20250514", ClaudeModel("sonnet", (4, 0))),
        ("claude-haiku-4-5-20251001", ClaudeModel("haiku", (4, 5))),
        ("claude-3-5-sonnet-20241022", ClaudeModel("sonnet", (3, 5))),
        ("claude-3-opus-latest", ClaudeModel("opus", (3, 0))),
        ("eu.anthropic.claude-sonnet-5-v1:0", ClaudeModel("sonnet", (5, 0))),
        ("claude-opus-5-5@20261001", ClaudeModel("opus", (5, 5))),
        ("claude-mythos-preview", ClaudeModel("mythos", (99, 0))),
        ("kimi-k3", ClaudeModel("", (3, 0))),
    ],
)
def test_a_models_name_tells_its_generation(name: str, known: ClaudeModel) -> None:
    assert claude_model(name) == known


def test_a_plain_request() -> None:
    assert sent(stream=True) == {
        "model": "claude-sonnet-5",
        "messages": [HELLO_TURN],
        "max_tokens": 4096,
        "stream": True,
    }


def test_system_and_developer_messages_are_the_system_prompt_and_turns_alternate() -> None:
    body = sent(
        messages=[
            {"role": "system", "content": "Be kind."},
            HELLO,
            {"role": "user", "content": [{"type": "text", "text": "Still there?"}, {"type": "text", "text": ""}]},
            {"role": "developer", "content": [{"type": "text", "text": "Be short."}]},
            {"role": "assistant", "content": None, "refusal": "No."},
            {"role": "assistant", "content": ""},
            HELLO,
        ]
    )
    assert body["system"] == [{"type": "text", "text": "Be kind."}, {"type": "text", "text": "Be short."}]
    assert body["messages"] == [
        {"role": "user", "content": [*HELLO_TURN["content"], {"type": "text", "text": "Still there?"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "No."}]},
        HELLO_TURN,
    ]


def test_tool_calls_and_their_results_which_come_first_in_their_turn() -> None:
    thoughts = [{"index": 0, "type": "thinking", "thinking": "hm", "signature": "s"}]
    body = sent(
        tools=[TOOL],
        messages=[
            HELLO,
            {"role": "assistant", "content": "I look.", "tool_calls": [CALL], "thinking_blocks": thoughts},
            HELLO,
            {"role": "tool", "tool_call_id": "call:1", "content": "sunny"},
        ],
    )
    assert body["messages"][1]["content"] == [
        {"type": "thinking", "thinking": "hm", "signature": "s"},
        {"type": "text", "text": "I look."},
        USE,
    ]
    result = {"type": "tool_result", "tool_use_id": "call_1", "content": "sunny"}
    assert body["messages"][2]["content"] == [result, *HELLO_TURN["content"]]


def test_a_conversation_with_calls_tells_its_tools_even_where_the_request_does_not() -> None:
    messages = [
        HELLO,
        {"role": "assistant", "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "call:1", "content": "sunny"},
    ]
    body = sent(messages=messages)
    assert body["tools"] == [{"name": "weather", "input_schema": {"type": "object"}}]
    assert body["tool_choice"] == {"type": "none"}


def test_pictures_and_files() -> None:
    parts = [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
        {"type": "image_url", "image_url": {"url": "https://example.com/x.png"}},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,AAAA"}},
    ]
    assert sent(messages=[{"role": "user", "content": parts}])["messages"][0]["content"] == [
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}},
        {"type": "image", "source": {"type": "url", "url": "https://example.com/x.png"}},
        {
            "type": "document",
            "source": {"type": "base64", "media_type": "application/pdf", "data": "AAAA"},
            "title": "a.pdf",
        },
    ]


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"tool_choice": "auto"}, {"type": "auto"}),
        ({"tool_choice": "none"}, {"type": "none"}),
        ({"tool_choice": "required"}, {"type": "any"}),
        ({"tool_choice": {"type": "function", "function": {"name": "weather"}}}, {"type": "tool", "name": "weather"}),
        ({"parallel_tool_calls": False}, {"type": "auto", "disable_parallel_tool_use": True}),
        ({"parallel_tool_calls": True}, None),
    ],
)
def test_the_choice_of_tools(asked: dict[str, Any], told: dict[str, Any] | None) -> None:
    body = sent(tools=[TOOL], **asked)
    assert body["tools"] == [TOOL_TOLD]
    assert body.get("tool_choice") == told


@pytest.mark.parametrize(
    ("model", "effort", "thinking", "level"),
    [
        ("claude-opus-5", "xhigh", {"type": "adaptive", "display": "summarized"}, "xhigh"),
        ("claude-opus-4-6", "xhigh", {"type": "adaptive", "display": "summarized"}, "max"),
        ("claude-sonnet-5", "minimal", {"type": "adaptive", "display": "summarized"}, "low"),
        ("claude-sonnet-5", "none", {"type": "disabled"}, None),
        ("claude-fable-5", "none", None, None),
        ("claude-sonnet-4-5", "low", {"type": "enabled", "budget_tokens": 2048}, None),
        ("claude-sonnet-4-5", "none", None, None),
    ],
)
def test_reasoning_effort(model: str, effort: str, thinking: Any, level: str | None) -> None:
    body = sent(model, reasoning_effort=effort, temperature=1)
    assert body.get("thinking") == thinking
    assert (body.get("output_config") or {}).get("effort") == level
    assert thinking is None or thinking["type"] == "disabled" or "temperature" not in body


def test_thinking_never_takes_more_than_the_caller_allows() -> None:
    body = sent("claude-sonnet-4-5", reasoning_effort="high", max_completion_tokens=5000)
    assert body["max_tokens"] == 5000
    assert body["thinking"] == {"type": "enabled", "budget_tokens": 2500}
    assert lacking("claude-sonnet-4-5", reasoning_effort="high", max_tokens=1000) == ["reasoning_effort"]


def test_a_tool_loop_without_its_thoughts_goes_on_without_thinking() -> None:
    messages = [
        HELLO,
        {"role": "assistant", "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "call:1", "content": "sunny"},
    ]
    assert "thinking" not in sent("claude-sonnet-4-5", reasoning_effort="low", messages=messages, tools=[TOOL])
    assert "thinking" in sent("claude-sonnet-5", reasoning_effort="low", messages=messages, tools=[TOOL])


def test_json_by_schema_is_the_vendors_own_where_it_has_it() -> None:
    form = {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA}}
    assert sent(response_format=form, tools=[TOOL])["output_config"] == {
        "format": {"type": "json_schema", "schema": CLOSED}
    }
    old = sent("claude-sonnet-4-20250514", response_format=form)
    assert (old["tools"][0]["input_schema"], old["tool_choice"]["name"]) == (SCHEMA, "answer_in_json")
    assert lacking("claude-sonnet-4-20250514", response_format=form, tools=[TOOL]) == ["response_format"]
    assert sent(response_format={"type": "json_object"})["tool_choice"]["name"] == "answer_in_json"
    assert lacking("claude-fable-5", response_format={"type": "json_object"}) == ["response_format"]
    assert lacking("claude-fable-5", response_format=form) == []


def test_a_schema_is_closed_and_its_limits_are_told_in_words() -> None:
    given = {
        "type": "object",
        "description": "A list.",
        "maxProperties": 3,
        "$defs": {"x": {"type": "object", "properties": {"minimum": {"type": "string", "maxLength": 3}}}},
        "properties": {"all": {"type": "array", "items": {"oneOf": [{"$ref": "#/$defs/x"}, {"type": "null"}]}}},
    }
    before = json.dumps(given)
    assert closed(given) == {
        "type": "object",
        "description": "A list. (maxProperties: 3)",
        "$defs": {
            "x": {
                "type": "object",
                "properties": {"minimum": {"type": "string", "description": "(maxLength: 3)"}},
                "additionalProperties": False,
            }
        },
        "properties": {"all": {"type": "array", "items": {"anyOf": [{"$ref": "#/$defs/x"}, {"type": "null"}]}}},
        "additionalProperties": False,
    }
    assert json.dumps(given) == before


@pytest.mark.parametrize(
    ("model", "asked", "told"),
    [
        ("claude-sonnet-4-5", {"temperature": 0.5}, []),
        ("claude-sonnet-4-5", {"temperature": 0.5, "top_p": 0.5}, ["top_p"]),
        ("claude-3-5-sonnet-20241022", {"temperature": 0.5, "top_p": 0.5}, []),
        ("claude-sonnet-5", {"temperature": 0.5, "top_k": 3}, ["temperature", "top_k"]),
        ("claude-sonnet-5", {"temperature": 1, "top_p": 1}, []),
        ("claude-opus-4-6", {"temperature": 0.5}, []),
        ("claude-opus-4-6", {"temperature": 0.5, "reasoning_effort": "low"}, ["temperature"]),
    ],
)
def test_samplers_that_a_model_lacks_are_named(model: str, asked: dict[str, Any], told: list[str]) -> None:
    assert lacking(model, **asked) == told


def test_other_parameters() -> None:
    body = sent(
        "claude-sonnet-4-5",
        max_tokens=7,
        stop="END",
        temperature=0.5,
        top_k=3,
        user="u1",
        prompt_cache_key="k",
        prompt_cache_retention="24h",
    )
    assert body == {
        "model": "claude-sonnet-4-5",
        "messages": [HELLO_TURN],
        "max_tokens": 7,
        "stop_sequences": ["END"],
        "temperature": 0.5,
        "top_k": 3,
        "metadata": {"user_id": "u1"},
        "cache_control": {"type": "ephemeral", "ttl": "1h"},
    }


@pytest.mark.parametrize(
    ("param", "asked"),
    [
        ("temperature", {"model": "claude-sonnet-4-5", "temperature": 1.5}),
        ("tools", {"tools": [{"type": "web_search"}]}),
        ("tool_choice", {"tools": [TOOL], "tool_choice": {"type": "allowed_tools"}}),
        ("reasoning_effort", {"reasoning_effort": "endless"}),
        (
            "reasoning_effort",
            {"model": "claude-sonnet-4-5", "reasoning_effort": "low", "tools": [TOOL], "tool_choice": "required"},
        ),
        ("messages", {"messages": [{"role": "system", "content": "alone"}]}),
        ("messages[0].content", {"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}),
        (
            "messages[0].content",
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "ftp://x"}}]}]},
        ),
        (
            "messages[0].tool_calls",
            {"messages": [{"role": "assistant", "tool_calls": [{"id": "x", "function": {"arguments": "[1]"}}]}]},
        ),
        ("messages[0].tool_call_id", {"messages": [{"role": "tool", "content": "x"}]}),
    ],
)
def test_what_it_cant_take_is_refused_by_name(param: str, asked: dict[str, Any]) -> None:
    with pytest.raises(BadRequest) as refused:
        sent(**asked)
    assert refused.value.param == param


# -- answers ----------------------------------------------------------------------------------------------
def answer(**told: Any) -> dict[str, Any]:
    body = {"id": "msg_1", "model": "claude-x", "content": [], "stop_reason": "end_turn", **told}
    return Anthropic().answer("chat.completions", json.dumps(body).encode(), {})


def streamed(*events: dict[str, Any]) -> list[dict[str, Any]]:
    decoder = Anthropic().decoder({})
    lines = "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events).encode()
    chunks = [chunk for at in range(len(lines)) for chunk in decoder.feed(lines[at : at + 1])]
    assert decoder.done
    return [msgspec.json.decode(chunk.data) for chunk in chunks]


def test_a_whole_answer() -> None:
    told = answer(
        content=[
            {"type": "thinking", "thinking": "hm", "signature": "s"},
            {"type": "redacted_thinking", "data": "x"},
            {"type": "text", "text": "I "},
            {"type": "text", "text": "look."},
            {"type": "tool_use", "id": "t1", "name": "weather", "input": {"city": "Zürich"}},
        ],
        stop_reason="tool_use",
        usage={
            "input_tokens": 5,
            "cache_read_input_tokens": 3,
            "cache_creation_input_tokens": 2,
            "output_tokens": 9,
            "output_tokens_details": {"thinking_tokens": 4},
        },
    )
    assert told["choices"] == [
        {
            "index": 0,
            "message": {
                "role": "assistant",
                "content": "I look.",
                "refusal": None,
                "tool_calls": [
                    {
                        "id": "t1",
                        "type": "function",
                        "function": {"name": "weather", "arguments": '{"city": "Zürich"}'},
                    }
                ],
                "reasoning_content": "hm",
                "thinking_blocks": [
                    {"type": "thinking", "thinking": "hm", "signature": "s"},
                    {"type": "redacted_thinking", "data": "x"},
                ],
            },
            "logprobs": None,
            "finish_reason": "tool_calls",
        }
    ]
    assert told["usage"] == {
        "prompt_tokens": 10,
        "completion_tokens": 9,
        "total_tokens": 19,
        "prompt_tokens_details": {"cached_tokens": 3, "cache_write_tokens": 2},
        "completion_tokens_details": {"reasoning_tokens": 4},
    }


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("pause_turn", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("refusal", "content_filter"),
        ("something_new", "stop"),
    ],
)
def test_finish_reasons(reason: str, finish: str) -> None:
    assert answer(stop_reason=reason)["choices"][0]["finish_reason"] == finish


def test_a_refusal_tells_why() -> None:
    details = {"type": "refusal", "category": "cyber", "explanation": "Not this."}
    choice = answer(stop_reason="refusal", stop_details=details)["choices"][0]
    assert (choice["message"]["refusal"], choice["finish_reason"]) == ("Not this.", "content_filter")


def test_a_json_answer_by_its_tool_is_content() -> None:
    used = {"type": "tool_use", "id": "t", "name": "answer_in_json", "input": {"a": 1}}
    choice = answer(content=[used], stop_reason="tool_use")["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == ('{"a": 1}', "stop")


def test_a_stream_cut_into_single_bytes() -> None:
    chunks = streamed(
        {"type": "message_start", "message": {"id": "msg_1", "model": "claude-x", "usage": {"input_tokens": 5}}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": ""}},
        {"type": "ping"},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "hm"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "s"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "Zürich 🏔"}},
        {"type": "content_block_stop", "index": 1},
        {
            "type": "content_block_start",
            "index": 2,
            "content_block": {"type": "tool_use", "id": "t1", "name": "weather", "input": {}},
        },
        {"type": "content_block_delta", "index": 2, "delta": {"type": "input_json_delta", "partial_json": ""}},
        {"type": "content_block_delta", "index": 2, "delta": {"type": "input_json_delta", "partial_json": '{"a"'}},
        {"type": "content_block_delta", "index": 2, "delta": {"type": "input_json_delta", "partial_json": ": 1}"}},
        {"type": "content_block_stop", "index": 2},
        {
            "type": "content_block_start",
            "index": 3,
            "content_block": {"type": "tool_use", "id": "t2", "name": "clock", "input": {}},
        },
        {"type": "content_block_stop", "index": 3},
        {"type": "something_new"},
        {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 9}},
        {"type": "message_stop"},
    )
    assert {(chunk["id"], chunk["model"], chunk["object"]) for chunk in chunks} == {
        ("msg_1", "claude-x", "chat.completion.chunk")
    }
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks[:-1]]
    assert deltas == [
        {"role": "assistant", "content": None, "reasoning_content": "hm"},
        {"thinking_blocks": [{"index": 0, "type": "thinking", "thinking": "hm", "signature": "s"}]},
        {"content": "Zürich 🏔"},
        {
            "tool_calls": [
                {"index": 0, "id": "t1", "type": "function", "function": {"name": "weather", "arguments": ""}}
            ]
        },
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"a"'}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": ": 1}"}}]},
        {"tool_calls": [{"index": 1, "id": "t2", "type": "function", "function": {"name": "clock", "arguments": ""}}]},
        {"tool_calls": [{"index": 1, "function": {"arguments": "{}"}}]},
        {},
    ]
    assert chunks[-2]["choices"][0]["finish_reason"] == "tool_calls"
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"] == {"prompt_tokens": 5, "completion_tokens": 9, "total_tokens": 14}


@pytest.mark.parametrize(
    "event",
    [
        {"type": "content_block_delta", "index": 7, "delta": {"type": "text_delta", "text": "x"}},
        {"type": "content_block_start", "index": 0, "content_block": None},
        {"type": "message_start"},
    ],
)
def test_events_that_cant_be_are_a_bad_answer(event: dict[str, Any]) -> None:
    with pytest.raises(UpstreamFailed) as failed:
        streamed(event)
    assert failed.value.code == "upstream_bad_answer"


@pytest.mark.parametrize("body", [b"{}", b"[]", b'{"content": [{}]}', b'{"content": [null]}', b"\xff", b""])
def test_answers_that_cant_be_are_a_bad_answer(body: bytes) -> None:
    with pytest.raises(UpstreamFailed) as failed:
        Anthropic().answer("chat.completions", body, {})
    assert failed.value.code == "upstream_bad_answer"


def test_an_error_told_in_a_stream() -> None:
    with pytest.raises(UpstreamFailed):
        streamed({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}})
    with pytest.raises(UpstreamLimited, match="Slow down"):
        streamed({"type": "error", "error": {"type": "rate_limit_error", "message": "Slow down"}})


def test_errors_keep_the_vendors_words() -> None:
    error = {"type": "invalid_request_error", "message": "max_tokens: too large", "details": {"error_code": "limit"}}
    body = json.dumps({"type": "error", "error": error}).encode()
    read = Anthropic().read_error
    assert read(400, {}, body) == Said("max_tokens: too large", "invalid_request_error", "max_tokens", "limit")
    assert read(529, {}, b"<html>") == Said(status=503)
    long = b'{"error": {"type": "invalid_request_error", "message": "prompt is too long: 9 > 8"}}'
    assert read(400, {}, long).code == "context_length_exceeded"
