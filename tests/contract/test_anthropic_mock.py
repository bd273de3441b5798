"""Anthropic's own SDK must be content with the imitation of its API, and the imitation must refuse what it refuses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anthropic
import pytest
from pydantic import BaseModel
from upstream.anthropic import AnthropicVendor

WEATHER: Any = {
    "name": "weather",
    "description": "The weather of a city.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}},
}
CLOCK: Any = {"name": "clock", "input_schema": {"type": "object"}}
HELLO: Any = [{"role": "user", "content": "Grüezi 🏔"}]
ADAPTIVE: Any = {"type": "adaptive", "display": "summarized"}


@pytest.fixture(scope="module")
def vendor() -> Iterator[AnthropicVendor]:
    with AnthropicVendor() as running:
        yield running


@pytest.fixture
def client(vendor: AnthropicVendor) -> Iterator[anthropic.Anthropic]:
    vendor.clear()
    with anthropic.Anthropic(base_url=vendor.url, api_key=vendor.api_key, max_retries=0) as made:
        yield made


def test_the_sdk_reads_a_plain_answer(client: anthropic.Anthropic) -> None:
    message = client.messages.create(model="claude-sonnet-5", max_tokens=100, messages=HELLO, system="Be kind.")
    assert [block.type for block in message.content] == ["text"]
    assert message.content[0].text == "echo: Grüezi 🏔"
    assert message.stop_reason == "end_turn"
    assert (message.usage.input_tokens, message.usage.cache_read_input_tokens) == (8, 3)


def test_the_sdk_reads_a_stream_with_thinking_and_parallel_tool_calls(client: anthropic.Anthropic) -> None:
    with client.messages.stream(
        model="claude-opus-5", max_tokens=100, messages=HELLO, tools=[WEATHER, CLOCK], thinking=ADAPTIVE
    ) as stream:
        kinds = [event.type for event in stream]
        message = stream.get_final_message()
    assert (kinds[0], kinds[-1]) == ("message_start", "message_stop")
    assert [block.type for block in message.content] == ["thinking", "tool_use", "tool_use"]
    assert message.content[1].input == {"city": "Zürich 🏔", "days": 7}
    assert message.content[2].input == {}
    assert message.stop_reason == "tool_use"
    assert message.usage.output_tokens_details is not None
    assert message.usage.output_tokens_details.thinking_tokens == 6
    # The same thoughts come back with the tools' results, their signatures whole.
    results: Any = [
        {"type": "tool_result", "tool_use_id": block.id, "content": "sunny"}
        for block in message.content
        if block.type == "tool_use"
    ]
    again = client.messages.create(
        model="claude-opus-5",
        max_tokens=100,
        messages=[*HELLO, message.to_param(), {"role": "user", "content": results}],
        tools=[WEATHER, CLOCK],
        thinking=ADAPTIVE,
    )
    assert again.content[-1].text == "echo: sunny sunny"


def test_the_sdk_parses_structured_output(client: anthropic.Anthropic) -> None:
    class Place(BaseModel):
        city: str
        height: int

    told = client.messages.parse(model="claude-sonnet-5", max_tokens=100, messages=HELLO, output_format=Place)
    assert told.parsed_output == Place(city="Zürich 🏔", height=7)


def test_the_sdk_knows_the_errors(client: anthropic.Anthropic, vendor: AnthropicVendor) -> None:
    vendor.behaviours["claude-busy"] = {"status": 529, "message": "Overloaded"}
    vendor.behaviours["claude-limited"] = {"status": 429, "retry_after": 7, "message": "Slow down"}
    with pytest.raises(anthropic.InternalServerError) as busy:
        client.messages.create(model="claude-busy", max_tokens=10, messages=HELLO)
    assert busy.value.status_code == 529
    assert busy.value.body["error"]["type"] == "overloaded_error"
    with pytest.raises(anthropic.RateLimitError) as limited:
        client.messages.create(model="claude-limited", max_tokens=10, messages=HELLO)
    assert limited.value.response.headers["retry-after"] == "7"
    assert limited.value.request_id == "req_upstream_011CSHoEeqs5C35K2UUqR7Fy"
    vendor.behaviours["claude-breaks"] = {"error_event": 5}
    with (
        pytest.raises(anthropic.APIStatusError, match="Overloaded"),
        client.messages.stream(model="claude-breaks", max_tokens=10, messages=HELLO) as stream,
    ):
        stream.until_done()


@pytest.mark.parametrize(
    ("fault", "asked"),
    [
        ("max_tokens", {"max_tokens": 0}),
        ("not found in provided tools", {"tools": [CLOCK], "tool_choice": {"type": "tool", "name": "other"}}),
        ("roles must alternate", {"messages": HELLO * 2}),
        ("first message must use", {"messages": [{"role": "assistant", "content": "x"}, *HELLO]}),
        ("too short|non-empty", {"messages": [{"role": "user", "content": [{"type": "text", "text": ""}]}]}),
        (
            "without `tool_result`",
            {
                "tools": [CLOCK],
                "messages": [
                    *HELLO,
                    {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "clock", "input": {}}]},
                    *HELLO,
                ],
            },
        ),
        (
            "unexpected `tool_use_id`",
            {"messages": [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t"}]}]},
        ),
        (
            "Invalid `signature`",
            {
                "messages": [
                    *HELLO,
                    {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm", "signature": "forged"}]},
                    *HELLO,
                ]
            },
        ),
        ("Additional properties", {"extra_body": {"frequency_penalty": 1}}),
        ("Extra inputs are not permitted", {"model": "claude-opus-4-5", "extra_body": {"temperature": 0.5}}),
        (
            "deprecated for this model",
            {
                "model": "claude-opus-5",
                "extra_body": {"temperature": 0.5},
                "extra_headers": {"anthropic-version": "2023-06-01"},
            },
        ),
        ("not supported for this model", {"thinking": {"type": "enabled", "budget_tokens": 1024}}),
        ("anthropic-version", {"extra_headers": {"anthropic-version": "1999-01-01"}}),
    ],
)
def test_what_is_not_in_the_documented_format_is_refused(
    client: anthropic.Anthropic, fault: str, asked: dict[str, Any]
) -> None:
    plain = {"model": "claude-sonnet-5", "max_tokens": 2000, "messages": HELLO}
    with pytest.raises(anthropic.BadRequestError, match=fault):
        client.messages.create(**{**plain, **asked})


def test_a_wrong_key_is_refused(vendor: AnthropicVendor) -> None:
    with (
        anthropic.Anthropic(base_url=vendor.url, api_key="wrong", max_retries=0) as stranger,
        pytest.raises(anthropic.AuthenticationError),
    ):
        stranger.messages.create(model="claude-sonnet-5", max_tokens=10, messages=HELLO)
