"""The imitations are right: each vendor's own SDK can talk to them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3
import openai
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, EventStreamError
from google import genai
from google.genai import types
from upstream import azure, bedrock, gemini
from upstream.vendor import Vendor

SCHEMA: Any = {"type": "object", "properties": {"city": {"type": "string"}}}


@contextmanager
def google(vendor: Vendor) -> Iterator[genai.Client]:
    options = types.HttpOptions(base_url=f"http://127.0.0.1:{vendor.port}")
    with genai.Client(api_key=vendor.api_key, http_options=options) as client:
        yield client


@pytest.fixture(scope="module")
def gemini_mock() -> Iterator[Vendor]:
    with Vendor(answers=gemini.GeminiAnswer) as vendor:
        yield vendor


@pytest.fixture(scope="module")
def bedrock_mock() -> Iterator[Vendor]:
    with Vendor(answers=bedrock.BedrockAnswer) as vendor:
        yield vendor


def test_googles_sdk_plain_streamed_and_with_tools(gemini_mock: Vendor) -> None:
    with google(gemini_mock) as client:
        told = client.models.generate_content(model="g", contents="hello")
        assert told.text == "echo: hello"
        assert told.usage_metadata is not None
        assert told.usage_metadata.thoughts_token_count == 2
        pieces = [chunk.text for chunk in client.models.generate_content_stream(model="g", contents="hello")]
        assert "".join(piece or "" for piece in pieces) == "echo: hello"
        assert len(pieces) > 1
        declared = types.FunctionDeclaration(name="weather", description="d", parameters_json_schema=SCHEMA)
        config = types.GenerateContentConfig(tools=[types.Tool(function_declarations=[declared])])
        called = client.models.generate_content(model="g", contents="hello", config=config)
        assert called.function_calls is not None
        assert called.function_calls[0].args == {"city": "Zürich 🏔", "n": 0}


def test_googles_sdk_embeddings_and_errors(gemini_mock: Vendor) -> None:
    with google(gemini_mock) as client:
        told = client.models.embed_content(model="g", contents=["four", "seven!!"])
        assert told.embeddings is not None
        assert [one.values for one in told.embeddings] == [[4.0, 0.5, -1.0], [7.0, 0.5, -1.0]]
        gemini_mock.behaviours["g"] = {"status": 429, "message": "too many"}
        with pytest.raises(genai.errors.ClientError, match="too many"):
            client.models.generate_content(model="g", contents="hello")
        gemini_mock.clear()


def aws(vendor: Vendor, secret: str = bedrock.SECRET_KEY) -> Any:
    return boto3.client(
        "bedrock-runtime",
        region_name=bedrock.REGION,
        endpoint_url=f"http://127.0.0.1:{vendor.port}",
        aws_access_key_id=bedrock.ACCESS_KEY,
        aws_secret_access_key=secret,
        config=Config(retries={"total_max_attempts": 1}),
    )


HELLO = [{"role": "user", "content": [{"text": "hello"}]}]


def test_amazons_sdk_plain_streamed_and_with_tools(bedrock_mock: Vendor) -> None:
    client = aws(bedrock_mock)
    model = "anthropic.claude-v9:0"
    told = client.converse(modelId=model, messages=HELLO, inferenceConfig={"maxTokens": 5})
    assert told["output"]["message"]["content"] == [{"text": "echo: hello"}]
    events = list(client.converse_stream(modelId=model, messages=HELLO)["stream"])
    text = "".join(event["contentBlockDelta"]["delta"]["text"] for event in events if "contentBlockDelta" in event)
    assert text == "echo: hello"
    assert events[-1]["metadata"]["usage"]["cacheReadInputTokens"] == 3
    tools = {"tools": [{"toolSpec": {"name": "weather", "inputSchema": {"json": SCHEMA}}}]}
    called = client.converse(modelId=model, messages=HELLO, toolConfig=tools)
    assert called["output"]["message"]["content"][0]["toolUse"]["input"] == {"city": "Zürich 🏔", "n": 0}
    client.close()


def test_amazons_sdk_errors_and_a_wrong_signature(bedrock_mock: Vendor) -> None:
    client, wrong = aws(bedrock_mock), aws(bedrock_mock, "another secret")
    with pytest.raises(ClientError, match="signature"):
        wrong.converse(modelId="m", messages=HELLO)
    bedrock_mock.behaviours["m"] = {"exception": "throttlingException", "exception_after": 2}
    with pytest.raises(EventStreamError, match="it went wrong"):
        list(client.converse_stream(modelId="m", messages=HELLO)["stream"])
    bedrock_mock.clear()
    client.close()
    wrong.close()


def test_openais_sdk_for_azure() -> None:
    with Vendor(answers=azure.AzureAnswer) as vendor:
        endpoint = f"http://127.0.0.1:{vendor.port}"
        with openai.AzureOpenAI(
            azure_endpoint=endpoint, api_key=vendor.api_key, api_version="2024-10-21", max_retries=0
        ) as client:
            told = client.chat.completions.create(model="gpt", messages=[{"role": "user", "content": "hello"}])
        assert told.choices[0].message.content == "echo: hello"
        assert vendor.requests[0].path == "/openai/deployments/gpt/chat/completions?api-version=2024-10-21"
