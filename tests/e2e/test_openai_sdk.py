"""The official SDK against a live gateway in front of the mock vendor: it must not notice the gateway."""

from __future__ import annotations

import json
from typing import Any

import httpx
import openai
import pydantic
import pytest
from gateway_process import GatewayProcess
from upstream.vendor import Vendor

HELLO: list[Any] = [{"role": "user", "content": "Grüezi 世界 🏔"}]
ECHO = "echo: Grüezi 世界 🏔"
TOOLS: list[Any] = [
    {"type": "function", "function": {"name": name, "parameters": {"type": "object", "properties": {}}}}
    for name in ("weather", "time")
]


def behave(**how: Any) -> str:
    return "mock/behave:" + json.dumps(how, separators=(",", ":"), ensure_ascii=False)


# -- plain and streamed ------------------------------------------------------------------------------------
def test_a_plain_answer_is_the_vendors_own(client: openai.OpenAI, vendor: Vendor) -> None:
    answer = client.chat.completions.create(model="plain", messages=HELLO, temperature=0.5, seed=7)
    assert answer.choices[0].message.content == ECHO
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.prompt_tokens_details.cached_tokens == 3
    assert answer.usage.completion_tokens_details.reasoning_tokens == 2
    assert answer.system_fingerprint == "fp_mock"
    assert vendor.requests[-1].body == {"model": "gpt-mock", "messages": HELLO, "temperature": 0.5, "seed": 7}


async def test_the_async_client_gets_the_same(aclient: openai.AsyncOpenAI) -> None:
    answer = await aclient.chat.completions.create(model="plain", messages=HELLO)
    assert answer.choices[0].message.content == ECHO


def test_a_stream_has_the_text_and_no_usage_that_was_not_asked_for(client: openai.OpenAI) -> None:
    chunks = list(client.chat.completions.create(model="plain", messages=HELLO, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == ECHO
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert all(chunk.usage is None for chunk in chunks)


async def test_include_usage_gives_one_last_chunk_with_it(aclient: openai.AsyncOpenAI) -> None:
    stream = await aclient.chat.completions.create(
        model="plain", messages=HELLO, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    assert chunks[-1].choices == []
    assert chunks[-1].usage.prompt_tokens == 11
    assert [chunk.usage for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)


def test_the_sdks_stream_accumulator_is_content(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(model="plain", messages=HELLO) as stream:
        assert stream.get_final_completion().choices[0].message.content == ECHO


def test_choices_of_n_are_all_there(client: openai.OpenAI) -> None:
    plain = client.chat.completions.create(model="plain", messages=HELLO, n=3)
    assert [(choice.index, choice.message.content) for choice in plain.choices] == [(i, ECHO) for i in range(3)]
    told = {0: "", 1: "", 2: ""}
    for chunk in client.chat.completions.create(model="plain", messages=HELLO, n=3, stream=True):
        for choice in chunk.choices:
            told[choice.index] += choice.delta.content or ""
    assert told == {0: ECHO, 1: ECHO, 2: ECHO}


# -- tools, structured output, the rest of the dialect -----------------------------------------------------
def test_parallel_tool_calls_come_whole(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="plain", messages=HELLO, tools=TOOLS, parallel_tool_calls=True)
    calls = answer.choices[0].message.tool_calls
    assert [(call.id, call.function.name) for call in calls] == [("call_0", "weather"), ("call_1", "time")]
    assert [json.loads(call.function.arguments) for call in calls] == [{"city": "Zürich 🏔", "n": n} for n in (0, 1)]


def test_streamed_parallel_tool_calls_come_together_from_their_fragments(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(model="plain", messages=HELLO, tools=TOOLS) as stream:
        calls = stream.get_final_completion().choices[0].message.tool_calls
    assert [call.function.name for call in calls] == ["weather", "time"]
    assert [json.loads(call.function.arguments) for call in calls] == [{"city": "Zürich 🏔", "n": n} for n in (0, 1)]


def test_a_conversation_with_tool_results_and_images_goes_up_unchanged(client: openai.OpenAI, vendor: Vendor) -> None:
    call = {"id": "call_0", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    messages: list[Any] = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [
            {"type": "text", "text": "What is this?"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "low"}},
        ]},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_0", "content": "rain"},
    ]  # fmt: skip
    client.chat.completions.create(model="plain", messages=messages)
    assert vendor.requests[-1].body["messages"] == messages


class Person(pydantic.BaseModel):
    name: str
    city: str


def test_json_schema_output_is_parsed_by_the_sdk(client: openai.OpenAI) -> None:
    answer = client.chat.completions.parse(model="plain", messages=HELLO, response_format=Person)
    assert answer.choices[0].message.parsed == Person(name="a name", city="a city")


def test_refusals_and_reasoning_reach_the_caller(client: openai.OpenAI, vendor: Vendor) -> None:
    vendor.behaviours["gpt-mock"] = {
        "message_extra": {"refusal": "I won't.", "reasoning_content": "Hm.", "future": [1]}
    }
    message = client.chat.completions.create(model="plain", messages=HELLO).choices[0].message
    assert message.refusal == "I won't."
    assert message.model_extra == {"reasoning_content": "Hm.", "future": [1]}


@pytest.mark.parametrize("field", ["reasoning_content", "refusal", "something_new"])
def test_streamed_fields_that_are_not_content_pass(client: openai.OpenAI, vendor: Vendor, field: str) -> None:
    vendor.behaviours["gpt-mock"] = {"field": field, "text": "step by step"}
    told = ""
    for chunk in client.chat.completions.create(model="plain", messages=HELLO, stream=True):
        told += chunk.choices[0].delta.model_dump().get(field) or ""
    assert told == "step by step"


def test_unknown_fields_of_a_request_pass_to_the_vendor(client: openai.OpenAI, vendor: Vendor) -> None:
    vendor.behaviours["gpt-mock"] = {"lenient": True}
    extra = {"top_k": 40, "min_p": 0.1, "chat_template_kwargs": {"thinking": False}}
    client.chat.completions.create(model="plain", messages=HELLO, extra_body=extra)
    assert {name: vendor.requests[-1].body[name] for name in extra} == extra


# -- embeddings and models ---------------------------------------------------------------------------------
def test_embeddings_as_the_sdk_asks_for_them_in_base64(client: openai.OpenAI, vendor: Vendor) -> None:
    answer = client.embeddings.create(model="embedder", input=["ab", "cde"])
    assert [item.embedding for item in answer.data] == [[2.0, 0.5, -1.0], [3.0, 0.5, -1.0]]
    assert vendor.requests[-1].body["encoding_format"] == "base64"


async def test_embeddings_as_floats(aclient: openai.AsyncOpenAI) -> None:
    answer = await aclient.embeddings.create(model="embedder", input="abcd", encoding_format="float")
    assert answer.data[0].embedding == [4.0, 0.5, -1.0]


def test_models_are_listed_in_the_configurations_order(client: openai.OpenAI) -> None:
    names = [model.id for model in client.models.list()]
    assert names[:2] == ["plain", "embedder"]
    assert client.models.retrieve("plain").id == "plain"
    assert client.models.retrieve("mock/anything").id == "mock/anything"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("absent")


# -- errors ------------------------------------------------------------------------------------------------
def test_a_wrong_field_is_a_bad_request_that_names_it(client: openai.OpenAI, vendor: Vendor) -> None:
    with pytest.raises(openai.BadRequestError) as told:
        client.chat.completions.create(model="plain", messages=HELLO, temperature=9)
    assert told.value.param == "temperature"
    assert told.value.type == "invalid_request_error"
    assert vendor.requests == []


def test_a_wrong_key_is_an_authentication_error(gateway: GatewayProcess) -> None:
    with (
        openai.OpenAI(base_url=gateway.url + "/v1", api_key="sk-wrong", max_retries=0) as stranger,
        pytest.raises(openai.AuthenticationError) as told,
    ):
        stranger.chat.completions.create(model="plain", messages=HELLO)
    assert told.value.code == "invalid_api_key"


def test_an_unknown_model_is_not_found(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as told:
        client.chat.completions.create(model="absent", messages=HELLO)
    assert (told.value.code, told.value.param) == ("model_not_found", "model")


@pytest.mark.parametrize("stream", [False, True])
def test_a_vendors_refusal_of_the_request_is_passed_on(client: openai.OpenAI, stream: bool) -> None:
    model = behave(status=400, message="Too long.", param="messages", code="context_length_exceeded")
    with pytest.raises(openai.BadRequestError) as told:
        client.chat.completions.create(model=model, messages=HELLO, stream=stream)
    assert (told.value.code, told.value.param) == ("context_length_exceeded", "messages")
    assert told.value.body["message"] == "Too long."


@pytest.mark.parametrize("stream", [False, True])
def test_a_vendors_limit_is_a_rate_limit_error_with_retry_after(client: openai.OpenAI, stream: bool) -> None:
    with pytest.raises(openai.RateLimitError) as told:
        client.chat.completions.create(model=behave(status=429, retry_after=17), messages=HELLO, stream=stream)
    assert told.value.response.headers["retry-after"] == "17"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("status", [500, 502, 503, 529])
def test_a_vendors_failure_is_a_502(client: openai.OpenAI, status: int, stream: bool) -> None:
    with pytest.raises(openai.InternalServerError) as told:
        client.chat.completions.create(model=behave(status=status), messages=HELLO, stream=stream)
    assert told.value.status_code == 502


@pytest.mark.parametrize(("when", "timer"), [("delay", "first_token"), ("delay_after", "first_token")])
def test_a_stream_that_does_not_begin_is_a_504(client: openai.OpenAI, when: str, timer: str) -> None:
    with pytest.raises(openai.InternalServerError) as told:
        client.chat.completions.create(model=behave(**{when: 10}), messages=HELLO, stream=True)
    assert (told.value.status_code, told.value.code) == (504, f"upstream_timeout_{timer}")


def test_a_plain_answer_that_does_not_come_in_all_the_time_is_a_504(client: openai.OpenAI) -> None:
    with pytest.raises(openai.InternalServerError) as told:
        client.chat.completions.create(model=behave(delay=10).replace("mock", "hasty", 1), messages=HELLO)
    assert (told.value.status_code, told.value.code) == (504, "upstream_timeout_total")


def test_no_vendor_at_all_is_a_502(client: openai.OpenAI) -> None:
    with pytest.raises(openai.InternalServerError) as told:
        client.chat.completions.create(model="nobody/x", messages=HELLO)
    assert (told.value.status_code, told.value.code) == (502, "upstream_unreachable")


def test_a_client_that_gives_up_sees_its_own_timeout(client: openai.OpenAI, vendor: Vendor) -> None:
    with pytest.raises(openai.APITimeoutError):
        client.with_options(timeout=0.3).chat.completions.create(model=behave(delay=10), messages=HELLO)


def test_an_error_in_a_stream_is_an_api_error_for_the_sdk(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(model=behave(die_after=3), messages=HELLO, stream=True)
    with pytest.raises(openai.APIError, match="provider"):
        list(stream)


# -- headers -----------------------------------------------------------------------------------------------
def test_an_answer_tells_its_target_its_cache_and_its_times(http: httpx.Client) -> None:
    answer = http.post("/v1/chat/completions", json={"model": "plain", "messages": HELLO})
    assert answer.headers["x-gateway-target"] == "mock/gpt-mock"
    assert answer.headers["x-gateway-cache"] == "off"
    timed = {entry.split(";")[0].strip() for entry in answer.headers["server-timing"].split(",")}
    assert timed == {"authenticate", "call", "total"}


@pytest.mark.parametrize("sane", ["req-1", "a.b:c_D-9", "x" * 128])
def test_a_sane_request_id_is_kept(http: httpx.Client, vendor: Vendor, sane: str) -> None:
    answer = http.post(
        "/v1/chat/completions", json={"model": "plain", "messages": HELLO}, headers={"x-request-id": sane}
    )
    assert answer.headers["x-request-id"] == sane
    assert vendor.requests[-1].headers["x-request-id"] == sane


@pytest.mark.parametrize("insane", ["", "a b", "x" * 129, "<script>", "é".encode("latin-1")])
def test_any_other_request_id_is_replaced(http: httpx.Client, insane: str | bytes) -> None:
    value = insane if isinstance(insane, bytes) else insane.encode()
    answer = http.post(
        "/v1/chat/completions", json={"model": "plain", "messages": HELLO}, headers=[(b"x-request-id", value)]
    )
    assert answer.headers["x-request-id"] == answer.headers["x-gateway-call-id"]


def test_a_traceparent_is_passed_on_as_it_came_where_no_span_is_exported(http: httpx.Client, vendor: Vendor) -> None:
    parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    http.post("/v1/chat/completions", json={"model": "plain", "messages": HELLO}, headers={"traceparent": parent})
    version, trace, span, flags = vendor.requests[-1].headers["traceparent"].split("-")
    assert (version, trace, flags) == ("00", "4bf92f3577b34da6a3ce929d0e0e4736", "01")
    assert span == "00f067aa0ba902b7"


def test_the_callers_key_and_headers_never_go_upstream(http: httpx.Client, vendor: Vendor) -> None:
    http.post(
        "/v1/chat/completions",
        json={"model": "plain", "messages": HELLO},
        headers={"cookie": "a=b", "x-api-key": "mine", "openai-organization": "org", "x-forwarded-for": "1.2.3.4"},
    )
    sent = vendor.requests[-1].headers
    assert sent["authorization"] == f"Bearer {vendor.api_key}"
    assert set(sent) == {
        "host", "content-type", "accept-encoding", "authorization", "traceparent", "x-request-id", "content-length",
    }  # fmt: skip


def test_what_metadata_says_to_the_gateway_stays_here(client: openai.OpenAI, vendor: Vendor) -> None:
    """OpenAI refuses `metadata` without `store`."""
    labels = {"conversation_id": "c1", "sensitivity": "public"}
    client.chat.completions.create(model="plain", messages=HELLO, metadata=labels)
    client.chat.completions.create(model="plain", messages=HELLO, metadata={**labels, "team": "search"}, store=True)
    assert [seen.body.get("metadata") for seen in vendor.requests] == [None, {"team": "search"}]
