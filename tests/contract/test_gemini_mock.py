"""Google's own SDK must be content with the imitation of its API, and the imitation must refuse what it refuses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from google import genai
from google.genai import errors, types
from upstream.gemini import SIGNATURE, GeminiVendor

WEATHER = types.Tool(
    function_declarations=[
        types.FunctionDeclaration(name=name, parameters_json_schema={"type": "object", "properties": {}})
        for name in ("weather", "clock")
    ]
)
BY_HAND = types.AutomaticFunctionCallingConfig(disable=True)


@pytest.fixture(scope="module")
def vendor() -> Iterator[GeminiVendor]:
    with GeminiVendor() as running:
        yield running


@pytest.fixture
def client(vendor: GeminiVendor) -> Iterator[genai.Client]:
    vendor.clear()
    with genai.Client(api_key=vendor.api_key, http_options=types.HttpOptions(base_url=vendor.base)) as made:
        yield made


def test_the_sdk_reads_a_plain_answer(client: genai.Client) -> None:
    told = client.models.generate_content(
        model="gemini-2.5-flash",
        contents="Grüezi 🏔",
        config=types.GenerateContentConfig(
            system_instruction="Be kind.",
            response_logprobs=True,
            logprobs=1,
            thinking_config=types.ThinkingConfig(include_thoughts=True, thinking_budget=1024),
        ),
    )
    assert told.text == "echo: Grüezi 🏔"
    assert told.candidates is not None
    assert told.usage_metadata is not None
    assert told.candidates[0].finish_reason is types.FinishReason.STOP
    assert told.candidates[0].logprobs_result is not None
    assert (told.usage_metadata.prompt_token_count, told.usage_metadata.thoughts_token_count) == (11, 2)


def test_the_sdk_goes_through_a_loop_of_parallel_tools_with_its_signature(client: genai.Client) -> None:
    asked: Any = [types.Content(role="user", parts=[types.Part(text="How is it?")])]
    config = types.GenerateContentConfig(tools=[WEATHER], automatic_function_calling=BY_HAND)
    first = client.models.generate_content(model="gemini-3-flash", contents=asked, config=config)
    assert first.function_calls is not None
    assert first.candidates is not None
    assert [call.name for call in first.function_calls] == ["weather", "clock"]
    content = first.candidates[0].content
    assert content is not None
    assert content.parts is not None
    assert [part.thought_signature is not None for part in content.parts] == [True, False]
    answers = [
        types.Part(function_response=types.FunctionResponse(id=call.id, name=call.name, response={"result": "fine"}))
        for call in first.function_calls
    ]
    second = client.models.generate_content(
        model="gemini-3-flash", contents=[*asked, content, types.Content(role="user", parts=answers)], config=config
    )
    assert second.text is not None
    assert second.text.startswith("echo:")


def test_the_sdk_reads_streams_and_blocked_prompts(client: genai.Client, vendor: GeminiVendor) -> None:
    pieces = list(client.models.generate_content_stream(model="gemini-2.5-flash", contents="Grüezi 🏔"))
    assert "".join(piece.text or "" for piece in pieces) == "echo: Grüezi 🏔"
    assert len(pieces) > 2
    vendor.behaviours["gemini-careful"] = {"block": "PROHIBITED_CONTENT"}
    blocked = client.models.generate_content(model="gemini-careful", contents="x")
    assert blocked.prompt_feedback is not None
    assert blocked.prompt_feedback.block_reason is types.BlockedReason.PROHIBITED_CONTENT


def test_the_sdk_reads_embeddings(client: genai.Client) -> None:
    told = client.models.embed_content(
        model="gemini-embedding-001",
        contents=["one", "three"],
        config=types.EmbedContentConfig(output_dimensionality=3, task_type="RETRIEVAL_QUERY"),
    )
    assert told.embeddings is not None
    assert [one.values for one in told.embeddings] == [[3.0, 0.5, -1.0], [5.0, 0.5, -1.0]]


def test_the_sdk_knows_the_errors(client: genai.Client, vendor: GeminiVendor) -> None:
    vendor.behaviours["gemini-limited"] = {"status": 429, "message": "Quota exceeded"}
    with pytest.raises(errors.ClientError, match="RESOURCE_EXHAUSTED") as limited:
        client.models.generate_content(model="gemini-limited", contents="x")
    assert limited.value.code == 429
    unsigned = types.Content(
        role="model", parts=[types.Part(function_call=types.FunctionCall(id="1", name="weather", args={}))]
    )
    answer = types.Content(
        role="user",
        parts=[types.Part(function_response=types.FunctionResponse(id="1", name="weather", response={}))],
    )
    start = types.Content(role="user", parts=[types.Part(text="x")])
    with pytest.raises(errors.ClientError, match="thought_signature"):
        client.models.generate_content(model="gemini-3-flash", contents=[start, unsigned, answer])
    with pytest.raises(errors.ClientError, match="number of function response"):
        client.models.generate_content(model="gemini-2.5-flash", contents=[start, unsigned, start])
    assert SIGNATURE
