"""OpenAI's SDK against a model of Anthropic's: all that its API has a counterpart for, over the strict imitation."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
from claude_gateway import claude_configuration
from gateway_process import GatewayProcess
from pydantic import BaseModel
from sample_gateway import KEY_A
from upstream.anthropic import AnthropicVendor
from upstream.vendor import Vendor

HELLO: Any = [{"role": "user", "content": "Grüezi 🏔"}]
TOOLS: Any = [
    {
        "type": "function",
        "function": {
            "name": name,
            "description": f"The {name}.",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
        },
    }
    for name in ("weather", "clock")
]
UPSTREAM_ID = "req_upstream_011CSHoEeqs5C35K2UUqR7Fy"


@pytest.fixture(scope="module")
def claude_vendor() -> Iterator[AnthropicVendor]:
    with AnthropicVendor() as running:
        yield running


@pytest.fixture(scope="module")
def running(
    shared_vendor: Vendor, claude_vendor: AnthropicVendor, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GatewayProcess]:
    configuration = claude_configuration(shared_vendor, claude_vendor)
    with GatewayProcess(configuration, tmp_path_factory.mktemp("anthropic")) as gateway:
        yield gateway
    assert "Traceback" not in gateway.output, gateway.output
    for tail in (claude_vendor.api_key, claude_vendor.api_key[-12:]):
        assert tail not in gateway.output
        assert tail.encode() not in gateway.stored()


@pytest.fixture
def claude(claude_vendor: AnthropicVendor) -> AnthropicVendor:
    claude_vendor.clear()
    return claude_vendor


@pytest.fixture
def client(running: GatewayProcess, vendor: Vendor, claude: AnthropicVendor) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=running.url + "/v1", api_key=KEY_A, max_retries=0, timeout=20) as made:
        yield made


@pytest.fixture
def http(running: GatewayProcess, vendor: Vendor, claude: AnthropicVendor) -> Iterator[httpx.Client]:
    headers = {"authorization": f"Bearer {KEY_A}"}
    with httpx.Client(base_url=running.url, headers=headers, timeout=20, trust_env=False) as made:
        yield made


def test_a_plain_answer_with_its_usage(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="claude", messages=HELLO)
    assert answer.choices[0].message.content == "echo: Grüezi 🏔"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.model == "claude-mock-20260101"
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (13, 3, 16)
    assert answer.usage.prompt_tokens_details is not None
    assert answer.usage.prompt_tokens_details.cached_tokens == 3


def test_a_stream_with_its_usage(client: openai.OpenAI) -> None:
    chunks = list(
        client.chat.completions.create(
            model="claude", messages=HELLO, stream=True, stream_options={"include_usage": True}
        )
    )
    text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    assert text == "echo: Grüezi 🏔"
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.prompt_tokens == 13


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("model", ["claude", "claude-old"])
def test_a_tool_loop_with_reasoning(client: openai.OpenAI, claude: AnthropicVendor, model: str, streamed: bool) -> None:
    """Its thoughts come back signed: the vendor would refuse them otherwise."""
    asked: Any = {"model": model, "tools": TOOLS, "reasoning_effort": "low"}
    if streamed:
        chunks = list(client.chat.completions.create(messages=HELLO, stream=True, **asked))
        deltas = [choice.delta for chunk in chunks for choice in chunk.choices]
        calls: dict[int, dict[str, Any]] = {}
        for piece in [call for delta in deltas for call in delta.tool_calls or ()]:
            call = calls.setdefault(piece.index, {"type": "function", "function": {"name": "", "arguments": ""}})
            call["id"] = piece.id or call.get("id")
            call["function"]["name"] += piece.function.name or ""
            call["function"]["arguments"] += piece.function.arguments or ""
        thoughts = [block for delta in deltas for block in (delta.model_extra or {}).get("thinking_blocks", ())]
        message: Any = {
            "role": "assistant",
            "content": None,
            "tool_calls": [calls[order] for order in sorted(calls)],
            "thinking_blocks": thoughts,
        }
        reasoning = "".join((delta.model_extra or {}).get("reasoning_content") or "" for delta in deltas)
    else:
        answer = client.chat.completions.create(messages=HELLO, **asked)
        assert answer.choices[0].finish_reason == "tool_calls"
        assert answer.usage is not None
        assert answer.usage.completion_tokens_details is not None
        assert answer.usage.completion_tokens_details.reasoning_tokens == 6
        message = answer.choices[0].message.model_dump(exclude_none=True)
        reasoning = message["reasoning_content"]
    assert reasoning == "Let me think about that. "
    assert [json.loads(call["function"]["arguments"]) for call in message["tool_calls"]] == [{"city": "Zürich 🏔"}] * 2
    results = [{"role": "tool", "tool_call_id": call["id"], "content": "sunny"} for call in message["tool_calls"]]
    again = client.chat.completions.create(messages=[*HELLO, message, *results], **asked)
    assert again.choices[0].message.content == "echo: sunny sunny"
    assert claude.requests[-1].body["messages"][1]["content"][0]["type"] == "thinking"
    # A client that keeps no thoughts goes on too.
    del message["thinking_blocks"]
    client.chat.completions.create(messages=[*HELLO, message, *results], **asked)


def test_structured_output(client: openai.OpenAI) -> None:
    class Place(BaseModel):
        city: str
        height: int

    for model in ("claude", "claude-old"):
        told = client.chat.completions.parse(model=model, messages=HELLO, response_format=Place)
        assert told.choices[0].message.parsed == Place(city="Zürich 🏔", height=7)
    plain = client.chat.completions.create(
        model="claude", messages=HELLO, response_format={"type": "json_object"}, stream=True
    )
    text = "".join(choice.delta.content or "" for chunk in plain for choice in chunk.choices)
    assert json.loads(text) == {}


def test_a_schema_with_limits_is_closed_on_the_way(client: openai.OpenAI) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 1}}}
    form: Any = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}
    answer = client.chat.completions.create(model="claude", messages=HELLO, response_format=form)
    assert json.loads(answer.choices[0].message.content or "") == {"n": 7}


def test_several_choices_are_several_calls(client: openai.OpenAI, claude: AnthropicVendor) -> None:
    answer = client.chat.completions.create(model="claude", messages=HELLO, n=3)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == 39
    assert len(claude.requests) == 3


def test_a_refusal(client: openai.OpenAI, claude: AnthropicVendor) -> None:
    claude.behaviours["claude-sonnet-5"] = {"refusal": "Not this."}
    answer = client.chat.completions.create(model="claude", messages=HELLO)
    assert (answer.choices[0].finish_reason, answer.choices[0].message.refusal) == ("content_filter", "Not this.")
    chunks = list(client.chat.completions.create(model="claude", messages=HELLO, stream=True))
    assert "".join(choice.delta.refusal or "" for chunk in chunks for choice in chunk.choices) == "Not this."


@pytest.mark.parametrize("asked", [{"logprobs": True}, {"seed": 1}, {"frequency_penalty": 1}, {"temperature": 0.2}])
def test_what_it_lacks_is_refused_or_left_out_as_configured(
    http: httpx.Client, claude: AnthropicVendor, asked: dict[str, Any]
) -> None:
    name = next(iter(asked))
    refused = http.post("/v1/chat/completions", json={"model": "claude", "messages": HELLO, **asked})
    assert refused.status_code == 400
    assert (refused.json()["error"]["param"], refused.json()["error"]["code"]) == (name, "unsupported_parameter")
    assert not claude.requests
    dropped = http.post("/v1/chat/completions", json={"model": "claude-dropping", "messages": HELLO, **asked})
    assert dropped.status_code == 200
    assert dropped.headers["x-gateway-left-out"] == name


def test_embeddings_are_not_served(http: httpx.Client) -> None:
    answer = http.post("/v1/embeddings", json={"model": "claude", "input": "x"})
    assert answer.status_code == 400
    assert "does not serve embeddings" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("how", "status", "code"),
    [
        ({"status": 400, "message": "max_tokens: 9 > 8"}, 400, None),
        ({"status": 404, "message": "model: nothing"}, 404, None),
        ({"status": 401, "message": "invalid x-api-key {key}"}, 502, "upstream_refused"),
        ({"status": 429, "retry_after": 7}, 429, "rate_limit_exceeded"),
        ({"status": 500}, 502, "upstream_error"),
        ({"status": 529}, 502, "upstream_error"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_errors(
    http: httpx.Client, claude: AnthropicVendor, how: dict[str, Any], status: int, code: str | None, stream: bool
) -> None:
    claude.behaviours["claude-sonnet-5"] = how
    answer = http.post("/v1/chat/completions", json={"model": "claude", "messages": HELLO, "stream": stream})
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert claude.api_key not in answer.text
    if status in (400, 404):
        assert answer.json()["error"]["message"] == how["message"]
        assert answer.json()["error"]["param"] == how["message"].partition(":")[0]
    if "retry_after" in how:
        assert answer.headers["retry-after"] == "7"
    call = http.get("/v1/calls/" + answer.headers["x-gateway-call-id"]).json()
    assert call["attempts"][0]["upstream_id"] == UPSTREAM_ID


def test_an_overload_told_in_a_stream_before_its_content_goes_to_the_fallback(
    http: httpx.Client, claude: AnthropicVendor
) -> None:
    claude.behaviours["claude-first"] = {"error_event": 2}
    body = {"model": "claude-fallback", "messages": HELLO, "stream": True}
    answer = http.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200
    assert answer.headers["x-gateway-target"] == "mock/second"
    assert b"[DONE]" in answer.content


def test_an_overload_told_after_content_ends_the_stream(http: httpx.Client, claude: AnthropicVendor) -> None:
    claude.behaviours["claude-first"] = {"error_event": 6, "gap": 0.02}
    body = {"model": "claude-fallback", "messages": HELLO, "stream": True}
    answer = http.post("/v1/chat/completions", json=body)
    assert answer.headers["x-gateway-target"] == "claude/claude-first"
    assert b'"error"' in answer.content
    assert b"[DONE]" not in answer.content


def test_a_refused_key_rests_and_the_next_one_serves(http: httpx.Client, claude: AnthropicVendor) -> None:
    claude.behaviours["claude-keyed"] = {"refuse_key": "sk-ant-bad"}
    for _ in range(3):
        answer = http.post("/v1/chat/completions", json={"model": "claude_keys/claude-keyed", "messages": HELLO})
        assert answer.status_code == 200
    assert sum(seen.headers["x-api-key"] == "sk-ant-bad-1" for seen in claude.requests) <= 1
