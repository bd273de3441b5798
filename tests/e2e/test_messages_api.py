"""Anthropic's SDK against the gateway: over an OpenAI vendor, and over Anthropic's own format again."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import anthropic
import httpx
import pytest
import yaml
from claude_gateway import claude_configuration
from embedding_process import EmbeddingProcess
from gateway_process import GatewayProcess
from sample_gateway import KEY_A, KEY_NARROW
from upstream.anthropic import AnthropicVendor
from upstream.vendor import Vendor

HELLO: Any = [{"role": "user", "content": "Grüezi 🏔"}]
WEATHER: Any = {
    "name": "weather",
    "description": "The weather of a city.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}},
}
CLOCK: Any = {"name": "clock", "input_schema": {"type": "object"}}
DOOR = "/v1/messages"
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def claude_vendor() -> Iterator[AnthropicVendor]:
    with AnthropicVendor() as running:
        yield running


@pytest.fixture(scope="module")
def running(
    shared_vendor: Vendor, claude_vendor: AnthropicVendor, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GatewayProcess]:
    configuration = claude_configuration(shared_vendor, claude_vendor)
    with GatewayProcess(configuration, tmp_path_factory.mktemp("messages")) as gateway:
        yield gateway
    assert "Traceback" not in gateway.output, gateway.output


@pytest.fixture
def claude(claude_vendor: AnthropicVendor) -> AnthropicVendor:
    claude_vendor.clear()
    return claude_vendor


@pytest.fixture
def client(running: GatewayProcess, vendor: Vendor, claude: AnthropicVendor) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=running.url, api_key=KEY_A, max_retries=0, timeout=20) as made:
        yield made


@pytest.fixture
async def aclient(
    running: GatewayProcess, vendor: Vendor, claude: AnthropicVendor
) -> AsyncIterator[anthropic.AsyncAnthropic]:
    async with anthropic.AsyncAnthropic(base_url=running.url, api_key=KEY_A, max_retries=0, timeout=20) as made:
        yield made


@pytest.fixture
def http(running: GatewayProcess, vendor: Vendor, claude: AnthropicVendor) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=running.url, headers={"x-api-key": KEY_A}, timeout=20, trust_env=False) as made:
        yield made


both = pytest.mark.parametrize("model", ["plain", "claude"])


@both
def test_a_plain_answer(client: anthropic.Anthropic, model: str) -> None:
    message = client.messages.create(model=model, max_tokens=100, messages=HELLO, system="Be kind.")
    assert message.model_dump(include={"content", "role", "type", "stop_reason"}, exclude_none=True) == {
        "content": [{"type": "text", "text": "echo: Grüezi 🏔"}],
        "role": "assistant",
        "type": "message",
        "stop_reason": "end_turn",
    }
    assert message.id.startswith("msg_")
    assert message.usage.input_tokens == 8
    assert message.usage.cache_read_input_tokens == 3
    assert message.usage.output_tokens == 3


@both
def test_a_stream(client: anthropic.Anthropic, model: str) -> None:
    with client.messages.stream(model=model, max_tokens=100, messages=HELLO) as stream:
        text = "".join(stream.text_stream)
        message = stream.get_final_message()
    assert text == "echo: Grüezi 🏔"
    assert message.content[0].text == text
    assert message.stop_reason == "end_turn"
    assert (message.usage.input_tokens, message.usage.output_tokens) == (8, 3)


@both
async def test_the_async_sdk(aclient: anthropic.AsyncAnthropic, model: str) -> None:
    async with aclient.messages.stream(model=model, max_tokens=100, messages=HELLO) as stream:
        assert await stream.get_final_text() == "echo: Grüezi 🏔"
    message = await aclient.messages.create(model=model, max_tokens=100, messages=HELLO)
    assert message.stop_reason == "end_turn"


@both
@pytest.mark.parametrize("streamed", [False, True])
def test_a_tool_loop(client: anthropic.Anthropic, model: str, streamed: bool) -> None:
    asked: Any = {"model": model, "max_tokens": 100, "messages": HELLO, "tools": [WEATHER, CLOCK]}
    if streamed:
        with client.messages.stream(**asked) as stream:
            message = stream.get_final_message()
    else:
        message = client.messages.create(**asked)
    assert message.stop_reason == "tool_use"
    calls = [block for block in message.content if block.type == "tool_use"]
    assert [call.name for call in calls] == ["weather", "clock"]
    assert calls[0].input["city"] == "Zürich 🏔"
    results: Any = [{"type": "tool_result", "tool_use_id": call.id, "content": "sunny"} for call in calls]
    again = client.messages.create(
        model=model,
        max_tokens=100,
        messages=[*HELLO, message.to_param(), {"role": "user", "content": results}],
        tools=[WEATHER, CLOCK],
        tool_choice={"type": "none"} if model == "claude" else {"type": "auto"},
    )
    if model == "claude":
        assert again.content[0].text == "echo: sunny sunny"


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("model", ["claude", "claude-old"])
def test_thinking_keeps_its_signature_through_a_tool_loop(
    client: anthropic.Anthropic, claude: AnthropicVendor, model: str, streamed: bool
) -> None:
    """The vendor refuses a thought whose signature is not its own: one that came back changed would be a 400."""
    upstream = {"claude": "claude-sonnet-5", "claude-old": "claude-sonnet-4-5"}[model]
    claude.behaviours[upstream] = {"redacted": True, "preamble": "I look it up."}
    asked: Any = {
        "model": model,
        "max_tokens": 9000,
        "messages": HELLO,
        "tools": [WEATHER],
        "thinking": {"type": "enabled", "budget_tokens": 2000},
    }
    if streamed:
        with client.messages.stream(**asked) as stream:
            message = stream.get_final_message()
    else:
        message = client.messages.create(**asked)
    assert [block.type for block in message.content] == ["thinking", "redacted_thinking", "text", "tool_use"]
    assert message.content[0].thinking == "Let me think about that. "
    assert message.usage.output_tokens_details is not None
    assert message.usage.output_tokens_details.thinking_tokens == 6
    results: Any = [{"type": "tool_result", "tool_use_id": message.content[-1].id, "content": "sunny"}]
    asked["messages"] = [*HELLO, message.to_param(), {"role": "user", "content": results}]
    claude.behaviours.clear()
    again = client.messages.create(**asked)
    assert again.content[-1].text == "echo: sunny"
    sent = claude.requests[-1].body["messages"][1]["content"]
    assert [block["type"] for block in sent] == ["thinking", "redacted_thinking", "text", "tool_use"]


@pytest.mark.parametrize("streamed", [False, True])
def test_the_reasoning_of_other_vendors_is_thinking_too(
    client: anthropic.Anthropic, vendor: Vendor, streamed: bool
) -> None:
    vendor.behaviours["gpt-mock"] = {"message_extra": {"reasoning_content": "Hm."}, "field": "reasoning_content"}
    asked: Any = {"model": "plain", "max_tokens": 100, "messages": HELLO}
    if streamed:
        with client.messages.stream(**asked) as stream:
            message = stream.get_final_message()
        assert [block.type for block in message.content] == ["thinking"]
    else:
        message = client.messages.create(**asked)
        assert [block.type for block in message.content] == ["thinking", "text"]
    # Sent back, it goes no further: the vendor that made it knows no such thing as a signed thought.
    client.messages.create(
        model="plain", max_tokens=100, messages=[*HELLO, message.to_param(), {"role": "user", "content": "and?"}]
    )
    assert "thinking" not in vendor.requests[-1].raw.decode()


def test_pictures_and_documents(client: anthropic.Anthropic, vendor: Vendor, claude: AnthropicVendor) -> None:
    content: Any = [
        {"type": "text", "text": "What is this?", "cache_control": {"type": "ephemeral"}},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}},
        {"type": "image", "source": {"type": "url", "url": "https://example.com/x.png"}},
        {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="}},
    ]
    messages: Any = [{"role": "user", "content": content}]
    client.messages.create(model="plain", max_tokens=10, messages=messages)
    sent = vendor.requests[-1].body
    assert [part["type"] for part in sent["messages"][0]["content"]] == ["text", "image_url", "image_url", "file"]
    assert sent["messages"][0]["content"][1]["image_url"]["url"] == "data:image/png;base64,iVBORw0KGgo="
    assert sent["prompt_cache_key"]
    client.messages.create(model="claude", max_tokens=10, messages=messages)
    told = claude.requests[-1].body["messages"][0]["content"]
    assert [{k: v for k, v in block.items() if k != "cache_control"} for block in told] == [
        {k: v for k, v in block.items() if k != "cache_control"} for block in content
    ]
    assert claude.requests[-1].body["cache_control"] == {"type": "ephemeral"}


@both
def test_structured_output(client: anthropic.Anthropic, model: str) -> None:
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    }
    message = client.messages.create(
        model=model,
        max_tokens=100,
        messages=HELLO,
        output_config={"format": {"type": "json_schema", "schema": schema}},
    )
    assert set(json.loads(message.content[0].text)) == {"city"}


def test_all_parameters_reach_the_vendor(http: httpx.Client, vendor: Vendor, claude: AnthropicVendor) -> None:
    body = {
        "max_tokens": 77,
        "messages": [*HELLO, {"role": "assistant", "content": "Yes?"}, *HELLO],
        "system": [{"type": "text", "text": "Be kind."}, {"type": "text", "text": "Be short."}],
        "stop_sequences": ["END"],
        "temperature": 0.5,
        "metadata": {"user_id": "somebody"},
        "tools": [WEATHER],
        "tool_choice": {"type": "any", "disable_parallel_tool_use": True},
    }
    assert http.post(DOOR, json={**body, "model": "plain"}).status_code == 200
    sent = vendor.requests[-1].body
    assert sent["messages"][0] == {"role": "system", "content": "Be kind.\n\nBe short."}
    assert (sent["max_completion_tokens"], sent["stop"], sent["temperature"]) == (77, ["END"], 0.5)
    assert (sent["user"], sent["tool_choice"], sent["parallel_tool_calls"]) == ("somebody", "required", False)
    assert http.post(DOOR, json={**body, "model": "claude-old"}).status_code == 200
    assert claude.requests[-1].body == {
        **{name: value for name, value in body.items() if name != "system"},
        "model": "claude-sonnet-4-5",
        "system": [{"type": "text", "text": "Be kind.\n\nBe short."}],
        "messages": [
            {"role": message["role"], "content": [{"type": "text", "text": message["content"]}]}
            for message in body["messages"]
        ],
    }


def test_a_failed_tool_and_a_picture_as_result(client: anthropic.Anthropic, claude: AnthropicVendor) -> None:
    picture = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}}
    turns: Any = [
        *HELLO,
        {
            "role": "assistant",
            "content": [
                {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Bern"}},
                {"type": "tool_use", "id": "toolu_2", "name": "clock", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "toolu_1", "is_error": True, "content": "no such city"},
                {"type": "tool_result", "tool_use_id": "toolu_2", "content": [picture]},
                {"type": "text", "text": "Go on."},
            ],
        },
    ]
    client.messages.create(model="claude", max_tokens=10, messages=turns, tools=[WEATHER, CLOCK])
    last = claude.requests[-1].body["messages"][-1]["content"]
    assert last[0] == {"type": "tool_result", "tool_use_id": "toolu_1", "content": "Error: no such city"}
    assert [block["type"] for block in last] == ["tool_result", "tool_result", "image", "text"]


@pytest.mark.parametrize(
    ("finish", "reason"), [("length", "max_tokens"), ("content_filter", "refusal"), ("stop", "end_turn")]
)
def test_stop_reasons(client: anthropic.Anthropic, vendor: Vendor, finish: str, reason: str) -> None:
    vendor.behaviours["gpt-mock"] = {"finish": finish}
    assert client.messages.create(model="plain", max_tokens=9, messages=HELLO).stop_reason == reason


@pytest.mark.parametrize("streamed", [False, True])
def test_a_stop_sequence_is_named(client: anthropic.Anthropic, claude: AnthropicVendor, streamed: bool) -> None:
    claude.behaviours["claude-sonnet-5"] = {"stop_reason": "stop_sequence"}
    asked: Any = {"model": "claude", "max_tokens": 9, "messages": HELLO, "stop_sequences": ["END"]}
    if streamed:
        with client.messages.stream(**asked) as stream:
            message = stream.get_final_message()
    else:
        message = client.messages.create(**asked)
    assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", "END")


def test_errors_have_anthropics_shape(client: anthropic.Anthropic, running: GatewayProcess, vendor: Vendor) -> None:
    with pytest.raises(anthropic.NotFoundError) as missing:
        client.messages.create(model="nothing-like-it", max_tokens=9, messages=HELLO)
    assert missing.value.type == "not_found_error"
    assert missing.value.error_code == "model_not_found"
    vendor.behaviours["gpt-mock"] = {"status": 429, "retry_after": 7, "message": "Slow down"}
    with pytest.raises(anthropic.RateLimitError) as limited:
        client.messages.create(model="plain", max_tokens=9, messages=HELLO)
    assert limited.value.response.headers["retry-after"] == "7"
    with (
        anthropic.Anthropic(base_url=running.url, api_key="sk-nobody", max_retries=0) as stranger,
        pytest.raises(anthropic.AuthenticationError),
    ):
        stranger.messages.create(model="plain", max_tokens=9, messages=HELLO)
    with (
        anthropic.Anthropic(base_url=running.url, api_key=KEY_NARROW, max_retries=0) as narrow,
        pytest.raises(anthropic.NotFoundError),
    ):
        narrow.messages.create(model="claude", max_tokens=9, messages=HELLO)


@pytest.mark.parametrize("model", ["plain", "claude"])
def test_a_stream_that_breaks_off_is_an_error_event(
    client: anthropic.Anthropic, vendor: Vendor, claude: AnthropicVendor, model: str
) -> None:
    how = {"die_after": 5, "how": "end"}
    vendor.behaviours["gpt-mock"] = claude.behaviours["claude-sonnet-5"] = how
    with (
        pytest.raises(anthropic.APIStatusError, match="broke off"),
        client.messages.stream(model=model, max_tokens=9, messages=HELLO) as stream,
    ):
        stream.until_done()


@pytest.mark.parametrize("prefix", ["", "claude-"])
@pytest.mark.parametrize("streamed", [False, True])
def test_guardrails_hold(
    client: anthropic.Anthropic, vendor: Vendor, claude: AnthropicVendor, prefix: str, streamed: bool
) -> None:
    how = {"text": "Write to anna.muster@example.com please."}
    vendor.behaviours["guarded"] = claude.behaviours["claude-guarded"] = how

    def ask(model: str) -> anthropic.types.Message:
        asked: Any = {"model": prefix + model, "max_tokens": 9, "messages": HELLO}
        if not streamed:
            return client.messages.create(**asked)
        with client.messages.stream(**asked) as stream:
            return stream.get_final_message()

    masked = ask("masked")
    assert "anna.muster" not in masked.to_json()
    assert masked.content[0].text.endswith("please.")
    blocked = ask("blocked")
    assert "anna.muster" not in blocked.to_json()
    assert blocked.stop_reason == "refusal"


@pytest.mark.parametrize("streamed", [False, True])
def test_a_guarded_thought_comes_back_with_its_signature(
    client: anthropic.Anthropic, claude: AnthropicVendor, streamed: bool
) -> None:
    asked: Any = {
        "model": "claude-masked",
        "max_tokens": 9000,
        "messages": HELLO,
        "tools": [WEATHER],
        "thinking": {"type": "enabled", "budget_tokens": 2000},
    }
    if streamed:
        with client.messages.stream(**asked) as stream:
            message = stream.get_final_message()
    else:
        message = client.messages.create(**asked)
    assert [block.type for block in message.content] == ["thinking", "tool_use"]
    assert message.content[-1].input == {"city": "Zürich 🏔"}
    results: Any = [{"type": "tool_result", "tool_use_id": message.content[-1].id, "content": "sunny"}]
    asked["messages"] = [*HELLO, message.to_param(), {"role": "user", "content": results}]
    assert client.messages.create(**asked).stop_reason == "end_turn"


def test_the_cache_serves_both_apis(http: httpx.Client, claude: AnthropicVendor) -> None:
    body = {"model": "claude-cached", "max_tokens": 50, "messages": [{"role": "user", "content": "cache me"}]}
    first = http.post(DOOR, json=body)
    second = http.post(DOOR, json=body)
    assert (first.headers["x-gateway-cache"], second.headers["x-gateway-cache"]) == ("miss", "hit")
    assert first.json()["content"] == second.json()["content"]
    streamed = http.post(DOOR, json={**body, "stream": True})
    assert streamed.headers["x-gateway-cache"] == "hit"
    assert b"event: message_stop" in streamed.content
    assert len(claude.requests) == 1


def test_a_call_is_recorded_as_what_it_is(http: httpx.Client) -> None:
    answer = http.post(DOOR, json={"model": "claude", "max_tokens": 50, "messages": HELLO})
    call = http.get("/v1/calls/" + answer.headers["x-gateway-call-id"]).json()
    assert call["endpoint"] == "messages"
    assert call["usage"]["prompt_tokens"] == 13
    assert call["attempts"][0]["upstream_id"] == "req_upstream_011CSHoEeqs5C35K2UUqR7Fy"


def test_tokens_are_counted(client: anthropic.Anthropic) -> None:
    few = client.messages.count_tokens(model="plain", messages=HELLO)
    many = client.messages.count_tokens(model="plain", messages=HELLO * 1, system="Be kind. " * 100, tools=[WEATHER])
    assert 1 <= few.input_tokens < many.input_tokens < 500
    with pytest.raises(anthropic.NotFoundError):
        client.messages.count_tokens(model="nothing-like-it", messages=HELLO)


@pytest.fixture(scope="module")
def handbook(
    shared_vendor: Vendor, embeddings: EmbeddingProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GatewayProcess]:
    """The shipped configuration, with some of its sample knowledge; without features and an embedder of its own."""
    configuration: dict[str, Any] = yaml.safe_load((ROOT / "configs/gateway.yaml").read_text("utf-8"))
    del configuration["data_dir"], configuration["server"]
    configuration["providers"]["openai"]["base_url"] = shared_vendor.url
    configuration["prompts"]["folder"] = str(ROOT / "configs/prompts")
    configuration["retrieval"]["collections"]["handbook"]["load"] = [str(ROOT / "docs/configuration.md")]
    configuration["retrieval"]["embeddings"] = embeddings.settings
    del configuration["features"], configuration["models"]["handbook"]["features"]
    del configuration["models"]["all-MiniLM-L6-v2"], configuration["providers"]["local"]
    with GatewayProcess(configuration, tmp_path_factory.mktemp("messages-handbook")) as gateway:
        yield gateway


@pytest.mark.parametrize("streamed", [False, True])
def test_an_answer_from_passages_cites_them(handbook: GatewayProcess, streamed: bool) -> None:
    question: Any = [{"role": "user", "content": "How do I add a provider?"}]
    asked: Any = {"model": "handbook", "max_tokens": 500, "messages": question}
    with anthropic.Anthropic(base_url=handbook.url, api_key="none", max_retries=0) as client:
        if streamed:
            with client.messages.stream(**asked) as stream:
                message = stream.get_final_message()
        else:
            message = client.messages.create(**asked)
    (block,) = message.content
    citation = block.citations[0]
    assert f"[{citation.search_result_index + 1}]" in block.text
    assert citation.type == "search_result_location"
    assert citation.source
    assert citation.cited_text
    if not streamed:  # the SDK keeps no fields of ours in a stream
        assert message.rag["sources"][citation.search_result_index]["quote"] == citation.cited_text
