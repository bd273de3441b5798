"""Another try, another target: when, how often, and never once an answer has begun."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest
from upstream.vendor import Vendor

HELLO: list[Any] = [{"role": "user", "content": "hello"}]


def behave(provider: str, **how: Any) -> str:
    return f"{provider}/behave:{json.dumps(how, separators=(',', ':'))}"


def models(vendor: Vendor) -> list[str]:
    return [seen.body["model"] for seen in vendor.requests]


@pytest.mark.parametrize("stream", [False, True])
def test_a_failed_try_is_repeated_at_the_same_target(client: openai.OpenAI, vendor: Vendor, stream: bool) -> None:
    vendor.behaviours["flaky"] = {"status": 503, "fail_times": 1}
    vendor.failures.clear()
    answer = client.chat.completions.create(model="retrying/flaky", messages=HELLO, stream=stream)
    assert list(answer)  # there is one
    assert models(vendor) == ["flaky", "flaky"]


def test_a_retry_after_of_seconds_is_waited_for(client: openai.OpenAI, vendor: Vendor) -> None:
    vendor.behaviours["limited"] = {"status": 429, "fail_times": 1, "retry_after": 1}
    vendor.failures.clear()
    client.chat.completions.create(model="retrying/limited", messages=HELLO)
    first, second = vendor.requests
    assert second.at - first.at >= 0.9  # the mock may be late to note the first


def test_a_retry_after_beyond_our_patience_is_told_to_the_caller(client: openai.OpenAI, vendor: Vendor) -> None:
    with pytest.raises(openai.RateLimitError) as told:
        client.chat.completions.create(model=behave("retrying", status=429, retry_after=60), messages=HELLO)
    assert told.value.response.headers["retry-after"] == "60"
    assert len(vendor.requests) == 1


def test_after_tries_of_its_own_the_gateway_tells_clients_not_to_try(client: openai.OpenAI, vendor: Vendor) -> None:
    """The SDK obeys `x-should-retry`, so its retries do not multiply with the gateway's."""
    eager = client.with_options(max_retries=3)
    with pytest.raises(openai.InternalServerError) as told:
        eager.chat.completions.create(model=behave("retrying", status=500), messages=HELLO)
    assert told.value.response.headers["x-should-retry"] == "false"
    assert len(vendor.requests) == 2


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "failure", [{"status": 503}, {"status": 500}, {"status": 429}, {"body": "bad_json"}, {"body": "html"}]
)
def test_the_next_target_answers_where_the_first_fails(
    client: openai.OpenAI, vendor: Vendor, failure: dict[str, Any], stream: bool
) -> None:
    vendor.behaviours["first"] = failure
    answer = client.chat.completions.with_raw_response.create(model="fallback", messages=HELLO, stream=stream)
    assert answer.headers["x-gateway-target"] == "mock/second"
    list(answer.parse())
    assert models(vendor) == ["first", "second"]


def test_the_next_target_answers_where_the_first_can_not_be_reached(client: openai.OpenAI, vendor: Vendor) -> None:
    answer = client.chat.completions.with_raw_response.create(model="unreachable", messages=HELLO)
    assert answer.headers["x-gateway-target"] == "mock/second"


@pytest.mark.parametrize("how", ["reset", "end", "truncated"])
def test_the_next_target_answers_where_a_stream_dies_before_its_first_content(
    client: openai.OpenAI, vendor: Vendor, how: str
) -> None:
    vendor.behaviours["first"] = {"die_after": 1, "how": how}
    chunks = list(client.chat.completions.create(model="fallback", messages=HELLO, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "echo: hello"
    assert models(vendor) == ["first", "second"]


@pytest.mark.parametrize("how", ["reset", "end", "truncated"])
def test_no_target_continues_what_another_began(client: openai.OpenAI, vendor: Vendor, how: str) -> None:
    vendor.behaviours["first"] = {"die_after": 3, "how": how}
    with pytest.raises(openai.APIError):
        list(client.chat.completions.create(model="fallback", messages=HELLO, stream=True))
    assert models(vendor) == ["first"]


@pytest.mark.parametrize("status", [400, 404, 413, 422])
def test_a_refusal_of_the_request_is_not_taken_to_another_target(
    client: openai.OpenAI, vendor: Vendor, status: int
) -> None:
    vendor.behaviours["first"] = {"status": status}
    with pytest.raises(openai.APIStatusError) as told:
        client.chat.completions.create(model="fallback", messages=HELLO)
    assert told.value.status_code == status
    assert models(vendor) == ["first"]


@pytest.mark.parametrize("status", [401, 403])
def test_the_gateways_own_rejected_key_is_never_shown(client: openai.OpenAI, vendor: Vendor, status: int) -> None:
    vendor.behaviours["gpt-mock"] = {"status": status, "message": "Incorrect API key provided: {key}"}
    with pytest.raises(openai.InternalServerError) as told:
        client.chat.completions.create(model="plain", messages=HELLO)
    assert told.value.status_code == 502
    assert vendor.api_key not in told.value.response.text


def test_a_vendors_message_with_our_key_in_it_comes_without(client: openai.OpenAI, vendor: Vendor) -> None:
    vendor.behaviours["gpt-mock"] = {"status": 400, "message": "Bad header Authorization: Bearer {key}"}
    with pytest.raises(openai.BadRequestError) as told:
        client.chat.completions.create(model="plain", messages=HELLO)
    assert told.value.body["message"] == "Bad header Authorization: Bearer ***"
