"""Vendors of the long tail: the gateway over any-llm, which talks to a strict imitation of one that it knows."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from gateway_process import GatewayProcess, http_post, until
from upstream.vendor import Vendor

OVERLAY = Path(sys.prefix) / "any-llm"  # `make` puts it there
HELLO: list[Any] = [{"role": "user", "content": "Grüezi 🏔"}]
TOOL: Any = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}
CHAT = "/v1/chat/completions"


def provider(mock: Vendor, vendor: str = "openai") -> dict[str, Any]:
    return {
        "kind": "any_llm", "vendor": vendor, "base_url": mock.url, "api_key": mock.api_key,
        "retries": {"attempts": 0}, "timeouts": {"first_token": "2s", "between_tokens": "1s", "total": "4s"},
        "circuit": {"failures": 1_000_000, "within": "1h", "pause": "1ms", "longest": "1ms"},
    }  # fmt: skip


@pytest.fixture(scope="module")
def running(shared_vendor: Vendor, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    assert OVERLAY.is_dir(), "`make env` installs any-llm there"
    configuration = {"providers": {"any": provider(shared_vendor)}}
    folder = tmp_path_factory.mktemp("any-llm")
    with GatewayProcess(configuration, folder, {"PYTHONPATH": str(OVERLAY)}) as gateway:
        yield gateway
    assert "Traceback" not in gateway.output, gateway.output
    assert shared_vendor.api_key not in gateway.output


@pytest.fixture
def sdk(running: GatewayProcess, vendor: Vendor) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=running.url + "/v1", api_key="any", max_retries=0, timeout=20) as made:
        yield made


@pytest.mark.parametrize("stream", [False, True])
def test_the_vendor_is_told_of_the_trace(running: GatewayProcess, vendor: Vendor, stream: bool) -> None:
    trace = "0af7651916cd43dd8448eb211c80319c"
    headers = {"authorization": "Bearer any", "traceparent": f"00-{trace}-b7ad6b7169203331-01", "tracestate": "a=1"}
    body = {"model": "any/gpt", "messages": HELLO, "stream": stream}
    assert httpx.post(running.url + CHAT, json=body, headers=headers, timeout=20).status_code == 200
    (seen,) = vendor.requests
    assert seen.headers["traceparent"] == f"00-{trace}-b7ad6b7169203331-01"  # no spans are made here
    assert seen.headers["tracestate"] == "a=1"
    assert seen.headers["authorization"] == f"Bearer {vendor.api_key}"


def test_a_plain_answer(sdk: openai.OpenAI, vendor: Vendor) -> None:
    told = sdk.chat.completions.create(model="any/gpt", messages=HELLO, temperature=0.5, max_tokens=50)
    assert told.choices[0].message.content == "echo: Grüezi 🏔"
    assert told.usage is not None
    assert told.usage.total_tokens > 0
    (seen,) = vendor.requests
    assert (seen.body["model"], seen.body["temperature"], seen.body["max_completion_tokens"]) == ("gpt", 0.5, 50)
    assert seen.body["messages"] == HELLO


def test_a_stream(sdk: openai.OpenAI) -> None:
    chunks = list(
        sdk.chat.completions.create(
            model="any/gpt", messages=HELLO, stream=True, stream_options={"include_usage": True}
        )
    )
    assert "".join(c.delta.content or "" for chunk in chunks for c in chunk.choices) == "echo: Grüezi 🏔"
    assert chunks[-1].usage is not None
    assert [c.finish_reason for chunk in chunks for c in chunk.choices][-1] == "stop"


@pytest.mark.parametrize("stream", [False, True])
def test_tools(sdk: openai.OpenAI, stream: bool) -> None:
    asked: Any = {"model": "any/gpt", "messages": HELLO, "tools": [TOOL]}
    if stream:
        arguments = ""
        for chunk in sdk.chat.completions.create(stream=True, **asked):
            for choice in chunk.choices:
                for call in choice.delta.tool_calls or ():
                    arguments += (call.function.arguments if call.function else None) or ""
    else:
        (call, *_) = sdk.chat.completions.create(**asked).choices[0].message.tool_calls or ()
        arguments = call.function.arguments  # type: ignore[union-attr]
    assert json.loads(arguments)["city"]


def test_embeddings(sdk: openai.OpenAI) -> None:
    told = sdk.embeddings.create(model="any/e", input=["four", "seven!!"], encoding_format="float")
    assert [one.embedding for one in told.data] == [[4.0, 0.5, -1.0], [7.0, 0.5, -1.0]]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("how", "status", "words"),
    [
        ({"status": 429, "message": "slow down", "retry_after": 7}, 429, "slow down"),
        ({"status": 400, "message": "too hot"}, 400, "too hot"),
        ({"status": 401, "message": "Incorrect API key provided: {key}"}, 502, "credentials"),
        ({"status": 500, "message": "our secret"}, 502, "failed"),
        ({"body": "bad_json"}, 502, "provider"),
        ({"delay": 30}, 504, "in time"),
    ],
)
def test_errors(sdk: openai.OpenAI, vendor: Vendor, how: dict[str, Any], status: int, words: str, stream: bool) -> None:
    vendor.behaviours["gpt"] = how
    with pytest.raises(openai.APIStatusError) as told:
        list(sdk.chat.completions.create(model="any/gpt", messages=HELLO, stream=stream))
    assert told.value.status_code == status, told.value.response.text
    assert words in told.value.message
    assert vendor.api_key not in told.value.response.text
    assert "our secret" not in told.value.response.text
    if status == 429:
        assert told.value.response.headers["retry-after"] == "7"
    assert len(vendor.requests) == 1


@pytest.mark.parametrize("how", [{"die_after": 4, "how": "reset"}, {"die_after": 4, "how": "end"}, {"stall_after": 4}])
def test_a_stream_that_breaks_off_ends_with_an_error_event(
    running: GatewayProcess, vendor: Vendor, how: dict[str, Any]
) -> None:
    vendor.behaviours["gpt"] = {"text": "some words that will not come whole", "piece": 4, **how}
    body = {"model": "any/gpt", "messages": HELLO, "stream": True}
    lines = httpx.post(running.url + CHAT, json=body, timeout=20).text.splitlines()
    events = [line[6:] for line in lines if line.startswith("data: ")]
    assert "[DONE]" not in events
    assert json.loads(events[-1])["error"]["type"]


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_ends_the_upstream_call(running: GatewayProcess, vendor: Vendor, stream: bool) -> None:
    vendor.behaviours["gpt"] = {"text": "words " * 50, "stall_after": 5} if stream else {"delay": 20}
    body = {"model": "any/gpt", "messages": HELLO, "stream": stream}
    with running.connect() as socket:
        socket.sendall(http_post(CHAT, body))
        if stream:
            until(lambda: b'"content"' in socket.recv(65536), what="the first words")
        until(lambda: vendor.requests, what="the upstream call")
    until(lambda: vendor.requests[-1].closed_at is not None, what="the end of the upstream call")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("no_such_vendor", "not a supported provider"),
        ("cerebras", "any-llm-sdk[cerebras]"),  # its SDK is not installed
        ("bedrock", "[bedrock]"),  # it takes no `max_retries`, and lacks its region all the same
    ],
)
def test_a_vendor_that_can_not_be_served_is_a_fault_at_the_start(
    vendor: Vendor, tmp_path: Path, name: str, said: str
) -> None:
    settings = provider(vendor, vendor=name)
    del settings["base_url"]  # with one, Bedrock's region is not asked for
    configuration = {"providers": {"any": settings}}
    nowhere = {"AWS_REGION": "", "AWS_DEFAULT_REGION": "", "AWS_CONFIG_FILE": str(tmp_path / "none")}
    gateway = GatewayProcess(configuration, tmp_path, {"PYTHONPATH": str(OVERLAY), **nowhere})
    with pytest.raises(AssertionError), gateway:
        pass
    assert f"providers.any: any-llm can't serve the vendor {name}" in gateway.output
    assert said in gateway.output
    assert "Traceback" not in gateway.output


def test_without_the_package_the_start_says_what_to_install(vendor: Vendor, tmp_path: Path) -> None:
    gateway = GatewayProcess({"providers": {"any": provider(vendor)}}, tmp_path)
    with pytest.raises(AssertionError), gateway:
        pass
    assert "rag-gateway[any-llm]" in gateway.output
    assert "Traceback" not in gateway.output
