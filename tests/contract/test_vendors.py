"""Every vendor behind the same door: one suite for all that have a wire format of their own.

The official `openai` SDK talks to a live gateway, which talks to each vendor's strict imitation.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

import httpx
import openai
import pytest
from gateway_process import GatewayProcess, events_of, http_post, status_of, text_of, until
from upstream import azure, bedrock, cohere, gemini, mistral
from upstream.vendor import Vendor

MOCKS: dict[str, Callable[[], Vendor]] = {
    "gemini": gemini.GeminiVendor,
    "bedrock": partial(Vendor, answers=bedrock.BedrockAnswer),
    "cohere": partial(Vendor, answers=cohere.CohereAnswer),
    "mistral": partial(Vendor, answers=mistral.MistralAnswer),
    "azure": partial(Vendor, answers=azure.AzureAnswer),
}
KINDS = [*MOCKS, "vertex", "entra", "bedrock_key"]
SHARED = {
    "vertex": "gemini",
    "entra": "azure",
    "bedrock_key": "bedrock",
}  # kinds of provider that talk to another's imitation
HELLO: list[Any] = [{"role": "user", "content": "Grüezi 🏔"}]
TOOL: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "the weather somewhere",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}, "n": {"type": "integer"}}},
    },
}
CLOCK: Any = {"type": "function", "function": {"name": "clock", "parameters": {"type": "object", "properties": {}}}}
PIXEL = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


@pytest.fixture(scope="module")
def mocks() -> Iterator[dict[str, Vendor]]:
    with ExitStack() as stack:
        yield {name: stack.enter_context(vendor()) for name, vendor in MOCKS.items()}


@pytest.fixture(scope="module")
def running(mocks: dict[str, Vendor], tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    at = {name: f"http://127.0.0.1:{mock.port}" for name, mock in mocks.items()}
    key = next(iter(mocks.values())).api_key
    common: dict[str, Any] = {
        "retries": {"attempts": 0},
        "timeouts": {"connect": "1s", "first_token": "2s", "between_tokens": "1s", "total": "20s"},
        "circuit": {"failures": 1_000_000, "within": "1h", "pause": "1ms", "longest": "1ms"},
    }
    keyed = {**common, "api_key": key}
    google = mocks["gemini"]
    assert isinstance(google, gemini.GeminiVendor)
    account = google.account()
    aws = {"access_key_id": bedrock.ACCESS_KEY, "secret_access_key": bedrock.SECRET_KEY}
    entra = {"tenant_id": "t1", "client_id": "c1", "client_secret": azure.SECRET, "authority": at["azure"]}
    providers = {
        "gemini": {"kind": "gemini", "base_url": at["gemini"], **keyed},
        "vertex": {
            "kind": "vertex", "project": "a-project", "location": "europe-west6", "base_url": at["gemini"],
            "credentials_json": json.dumps(account), **common,
        },
        "bedrock": {"kind": "bedrock", "region": bedrock.REGION, "base_url": at["bedrock"], **aws, **common},
        "bedrock_key": {"kind": "bedrock", "region": bedrock.REGION, "base_url": at["bedrock"], **keyed},
        "cohere": {"kind": "cohere", "base_url": at["cohere"], **keyed},
        "mistral": {"kind": "mistral", "base_url": at["mistral"], **keyed},
        "azure": {"kind": "azure_openai", "endpoint": at["azure"], **keyed},
        "entra": {
            "kind": "azure_openai", "endpoint": at["azure"], "api_version": "2024-10-21",
            "deployments": {"gpt": "my-deployment"}, "entra": entra, **common,
        },
        "lenient": {"kind": "cohere", "base_url": at["cohere"], "unsupported": "drop", **keyed},
        "broken": {"kind": "azure_openai", "endpoint": at["azure"], "entra": {**entra, "client_secret": "wrong"}, **common},
    }  # fmt: skip
    with GatewayProcess({"providers": providers}, tmp_path_factory.mktemp("vendors")) as gateway:
        yield gateway
    assert "Traceback" not in gateway.output, gateway.output
    for secret in (key, account["private_key"].splitlines()[1], bedrock.SECRET_KEY, azure.SECRET, azure.TOKEN):
        assert secret not in gateway.output
        assert secret.encode() not in gateway.stored()


@pytest.fixture
def vendors(mocks: dict[str, Vendor]) -> Iterator[dict[str, Vendor]]:
    for mock in mocks.values():
        mock.clear()
    yield {name: mocks[SHARED.get(name, name)] for name in KINDS}
    for mock in mocks.values():
        until(lambda mock=mock: not mock.unsettled, what="the end of every upstream call")


@pytest.fixture
def sdk(running: GatewayProcess, vendors: dict[str, Vendor]) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=running.url + "/v1", api_key="any", max_retries=0, timeout=20) as made:
        yield made


def last_of(vendors: dict[str, Vendor], kind: str) -> Any:
    return next(seen for seen in reversed(vendors[kind].requests) if not seen.path.endswith("/token"))


@pytest.mark.parametrize("kind", KINDS)
def test_a_plain_answer(sdk: openai.OpenAI, kind: str) -> None:
    raw = sdk.chat.completions.with_raw_response.create(
        model=f"{kind}/gpt",
        messages=[{"role": "system", "content": "be brief"}, *HELLO],
        max_tokens=100,
        temperature=0.5,
        top_p=0.9,
        stop=["END"],
    )
    answer = raw.parse()
    (choice,) = answer.choices
    assert (choice.message.role, choice.message.content, choice.finish_reason) == (
        "assistant",
        "echo: Grüezi 🏔",
        "stop",
    )
    assert answer.object == "chat.completion"
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == 11, "with what came out of the vendor's prompt cache"
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer.usage.prompt_tokens_details is not None
    assert answer.usage.prompt_tokens_details.cached_tokens == 3
    assert raw.headers["x-gateway-target"] == f"{kind}/gpt"


@pytest.mark.parametrize("how", [{}, {"segment": 1}, {"piece": 1}, {"crlf": True}, {"comments": True}])
@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_however_it_is_cut(sdk: openai.OpenAI, vendors: dict[str, Vendor], kind: str, how: Any) -> None:
    text = "Grüezi 🏔 mitenand, 山の上"
    vendors[kind].behaviours.update({name: {**how, "text": text} for name in ("gpt", "my-deployment")})
    stream = sdk.chat.completions.create(
        model=f"{kind}/gpt", messages=HELLO, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == text
    assert [c.choices[0].finish_reason for c in chunks if c.choices and c.choices[0].finish_reason] == ["stop"]
    assert chunks[0].choices[0].delta.role == "assistant"
    assert len({chunk.id for chunk in chunks}) == 1
    (used,) = [chunk.usage for chunk in chunks if chunk.usage is not None]
    assert (used.prompt_tokens, chunks[-1].choices) == (11, [])


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_whole_loop_with_tools(sdk: openai.OpenAI, vendors: dict[str, Vendor], kind: str, stream: bool) -> None:
    """What the vendor needs back with the results, signatures and ids of its own, comes back."""
    asked: dict[str, Any] = {"model": f"{kind}/gpt", "tools": [TOOL, CLOCK]}
    if stream:
        with sdk.chat.completions.stream(messages=HELLO, **asked) as events:
            for _ in events:
                pass
            choice: Any = events.get_final_completion().choices[0]
    else:
        choice = sdk.chat.completions.create(messages=HELLO, **asked).choices[0]
    assert choice.finish_reason == "tool_calls"
    calls = choice.message.tool_calls
    assert [call.function.name for call in calls] == ["weather", "clock"]
    assert json.loads(calls[0].function.arguments) == {"city": "Zürich 🏔", "n": 0}
    assert len({call.id for call in calls}) == 2
    said = choice.message.model_dump(exclude_none=True, exclude={"parsed"})
    for call in said["tool_calls"]:
        call["function"].pop("parsed_arguments", None)
    results = [{"role": "tool", "tool_call_id": call.id, "content": '{"sky": "blue"}'} for call in calls]
    messages: Any = [*HELLO, said, *results, {"role": "user", "content": "thanks"}]
    again = sdk.chat.completions.create(model=f"{kind}/gpt", messages=messages)
    assert "thanks" in (again.choices[0].message.content or "")


@pytest.mark.parametrize("kind", ["gemini", "bedrock", "cohere", "mistral", "azure"])
def test_a_tool_may_be_demanded(sdk: openai.OpenAI, vendors: dict[str, Vendor], kind: str) -> None:
    sdk.chat.completions.create(model=f"{kind}/gpt", messages=HELLO, tools=[TOOL], tool_choice="required")
    body = last_of(vendors, kind).body
    demanded = {
        "gemini": lambda: body["toolConfig"]["functionCallingConfig"]["mode"] == "ANY",
        "bedrock": lambda: body["toolConfig"]["toolChoice"] == {"any": {}},
        "cohere": lambda: body["tool_choice"] == "REQUIRED",
        "mistral": lambda: body["tool_choice"] == "any",
        "azure": lambda: body["tool_choice"] == "required",
    }
    assert demanded[kind]()


@pytest.mark.parametrize("kind", ["gemini", "bedrock", "cohere", "mistral", "azure"])
def test_an_image_comes_along(sdk: openai.OpenAI, vendors: dict[str, Vendor], kind: str) -> None:
    content: Any = [{"type": "text", "text": "see"}, {"type": "image_url", "image_url": {"url": PIXEL}}]
    sdk.chat.completions.create(model=f"{kind}/gpt", messages=[{"role": "user", "content": content}])
    assert PIXEL.split(",")[1].encode() in last_of(vendors, kind).raw


@pytest.mark.parametrize("kind", ["gemini", "mistral", "azure"])
def test_json_by_schema(sdk: openai.OpenAI, kind: str) -> None:
    schema = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
    form: Any = {"type": "json_schema", "json_schema": {"name": "thing", "schema": schema}}
    answer = sdk.chat.completions.create(model=f"{kind}/gpt", messages=HELLO, response_format=form)
    assert json.loads(answer.choices[0].message.content or "") == {"name": "a name"}


@pytest.mark.parametrize("kind", ["gemini", "bedrock", "cohere"])
@pytest.mark.parametrize("stream", [False, True])
def test_several_choices_where_the_vendor_has_them_and_where_not(
    running: GatewayProcess, vendors: dict[str, Vendor], kind: str, stream: bool
) -> None:
    body = {"model": f"{kind}/gpt", "messages": HELLO, "n": 3, "stream": stream}
    answer = httpx.post(running.url + "/v1/chat/completions", json=body, timeout=20)
    told: dict[int, str] = {}
    if stream:
        for event in events_of(answer.content):
            for choice in event["choices"] if isinstance(event, dict) else ():
                told[choice["index"]] = told.get(choice["index"], "") + (choice["delta"].get("content") or "")
    else:
        told = {choice["index"]: choice["message"]["content"] for choice in answer.json()["choices"]}
        assert answer.json()["usage"]["prompt_tokens"] == (11 if kind == "gemini" else 33)
    assert told == dict.fromkeys(range(3), "echo: Grüezi 🏔")
    assert len(vendors[kind].requests) == (1 if kind == "gemini" else 3)


@pytest.mark.parametrize("kind", ["gemini", "bedrock", "cohere", "mistral"])
def test_reasoning_is_told_apart(sdk: openai.OpenAI, kind: str) -> None:
    asked: Any = {"reasoning_effort": "high"}
    if kind == "bedrock":
        asked = {"extra_body": {"additional_model_request_fields": {"thinking": {"type": "enabled"}}}}
    stream = kind == "mistral"
    answer = sdk.chat.completions.create(model=f"{kind}/gpt", messages=HELLO, stream=stream, **asked)
    if stream:
        thought = "".join(getattr(c.choices[0].delta, "reasoning_content", None) or "" for c in answer if c.choices)
    else:
        message = answer.choices[0].message
        thought, content = message.reasoning_content, message.content
        assert content == "echo: Grüezi 🏔"
    assert thought == "I think so."


@pytest.mark.parametrize(
    ("kind", "finish", "expected"),
    [
        ("gemini", "MAX_TOKENS", "length"), ("gemini", "SAFETY", "content_filter"), ("gemini", "RECITATION", "content_filter"),
        ("bedrock", "max_tokens", "length"), ("bedrock", "guardrail_intervened", "content_filter"),
        ("bedrock", "content_filtered", "content_filter"), ("bedrock", "stop_sequence", "stop"),
        ("cohere", "MAX_TOKENS", "length"), ("cohere", "STOP_SEQUENCE", "stop"),
        ("azure", "content_filter", "content_filter"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("stream", [False, True])
def test_reasons_to_finish(
    running: GatewayProcess, vendors: dict[str, Vendor], kind: str, finish: str, expected: str, stream: bool
) -> None:
    vendors[kind].behaviours["gpt"] = {"finish": finish}
    body = {"model": f"{kind}/gpt", "messages": HELLO, "stream": stream}
    answer = httpx.post(running.url + "/v1/chat/completions", json=body, timeout=20)
    if stream:
        choices = [
            event["choices"][0] for event in events_of(answer.content) if isinstance(event, dict) and event["choices"]
        ]
        assert choices[-1]["finish_reason"] == expected
    else:
        assert answer.json()["choices"][0]["finish_reason"] == expected


@pytest.mark.parametrize("stream", [False, True])
def test_a_prompt_that_gemini_blocks_is_a_content_filter(
    running: GatewayProcess, vendors: dict[str, Vendor], stream: bool
) -> None:
    vendors["gemini"].behaviours["gpt"] = {"block": "PROHIBITED_CONTENT"}
    body = {"model": "gemini/gpt", "messages": HELLO, "stream": stream}
    answer = httpx.post(running.url + "/v1/chat/completions", json=body, timeout=20)
    assert b'"content_filter"' in answer.content
    assert b"PROHIBITED_CONTENT" in answer.content


# -- what a vendor lacks -----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [
        ("cohere", "logit_bias", {"5": 1}), ("cohere", "parallel_tool_calls", False), ("bedrock", "seed", 1),
        ("bedrock", "logprobs", True), ("bedrock", "response_format", {"type": "json_object"}),
        ("gemini", "logit_bias", {"5": 1}), ("mistral", "logprobs", True), ("cohere", "something_new", 1),
    ],
)  # fmt: skip
def test_a_field_that_the_vendor_lacks_is_a_400_that_names_it(
    sdk: openai.OpenAI, vendors: dict[str, Vendor], kind: str, field: str, value: Any
) -> None:
    with pytest.raises(openai.BadRequestError) as told:
        sdk.chat.completions.create(model=f"{kind}/gpt", messages=HELLO, extra_body={field: value})
    assert (told.value.param, told.value.code) == (field, "unsupported_parameter")
    assert not vendors[kind].requests


def test_it_may_be_left_out_with_a_header_that_says_so(sdk: openai.OpenAI, vendors: dict[str, Vendor]) -> None:
    raw = sdk.chat.completions.with_raw_response.create(
        model="lenient/gpt", messages=HELLO, logit_bias={"5": 1}, frequency_penalty=0.5
    )
    assert raw.headers["x-gateway-left-out"] == "logit_bias"
    body = last_of(vendors, "cohere").body
    assert "logit_bias" not in body
    assert body["frequency_penalty"] == 0.5


@pytest.mark.parametrize("kind", KINDS)
def test_what_says_nothing_is_no_obstacle(sdk: openai.OpenAI, kind: str) -> None:
    sdk.chat.completions.create(
        model=f"{kind}/gpt", messages=HELLO, user="u", metadata={"a": "b"}, logprobs=False, n=1,
        presence_penalty=0, logit_bias={},
    )  # fmt: skip


# -- errors ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", KINDS)
def test_a_refusal_keeps_the_vendors_words_and_the_request_id_is_on_record(
    running: GatewayProcess, vendors: dict[str, Vendor], kind: str
) -> None:
    how = {"status": 400, "message": "the prompt is too odd"}
    vendors[kind].behaviours.update({"gpt": how, "my-deployment": how})
    answer = httpx.post(running.url + "/v1/chat/completions", json={"model": f"{kind}/gpt", "messages": HELLO})
    assert answer.status_code == 400
    assert answer.json()["error"]["message"] == "the prompt is too odd"
    call = httpx.get(f"{running.url}/v1/calls/{answer.headers['x-gateway-call-id']}").json()
    assert call["attempts"][0]["upstream_id"].endswith("_upstream")


@pytest.mark.parametrize("kind", KINDS)
def test_a_limit_is_told_with_its_time(sdk: openai.OpenAI, vendors: dict[str, Vendor], kind: str) -> None:
    how = {"status": 429, "retry_after": 7}
    vendors[kind].behaviours.update({"gpt": how, "my-deployment": how})
    with pytest.raises(openai.RateLimitError) as told:
        sdk.chat.completions.create(model=f"{kind}/gpt", messages=HELLO)
    assert told.value.response.headers["retry-after"] == "7"


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("kind", KINDS)
def test_a_refused_credential_is_nobodys_business(
    sdk: openai.OpenAI, vendors: dict[str, Vendor], kind: str, status: int
) -> None:
    how = {"status": status, "message": "bad key {key}"}
    vendors[kind].behaviours.update({"gpt": how, "my-deployment": how})
    with pytest.raises(openai.InternalServerError) as told:
        sdk.chat.completions.create(model=f"{kind}/gpt", messages=HELLO)
    assert (told.value.status_code, told.value.code) == (502, "upstream_refused")
    assert vendors[kind].api_key not in str(told.value)


def test_a_wrong_client_secret_too(sdk: openai.OpenAI) -> None:
    with pytest.raises(openai.InternalServerError) as told:
        sdk.chat.completions.create(model="broken/gpt", messages=HELLO)
    assert told.value.code == "upstream_refused"
    assert "AADSTS" not in str(told.value)


def test_one_token_serves_many_calls(running: GatewayProcess, vendors: dict[str, Vendor]) -> None:
    async def many() -> list[int]:
        async with httpx.AsyncClient(base_url=running.url, timeout=20, trust_env=False) as client:
            body = {"model": "entra/gpt", "messages": HELLO}
            answers = await asyncio.gather(*[client.post("/v1/chat/completions", json=body) for _ in range(20)])
        return [answer.status_code for answer in answers]

    assert asyncio.run(many()) == [200] * 20
    assert sum(seen.path.endswith("/token") for seen in vendors["entra"].requests) <= 1


# -- the battery's A cases, for each kind ------------------------------------------------------------------
@pytest.mark.parametrize("how", ["reset", "truncated", "end"])
@pytest.mark.parametrize("kind", list(MOCKS))
def test_a5_a_stream_that_breaks_off_is_an_error_and_no_end(
    running: GatewayProcess, vendors: dict[str, Vendor], kind: str, how: str
) -> None:
    vendors[kind].behaviours["gpt"] = {"die_after": 6, "how": how, "piece": 2, "text": "a text that is long enough"}
    body = {"model": f"{kind}/gpt", "messages": HELLO, "stream": True}
    answer = httpx.post(running.url + "/v1/chat/completions", json=body, timeout=20)
    events = list(events_of(answer.content))
    assert "error" in events[-1]
    assert not [e for e in events if e == "[DONE]" or any(c.get("finish_reason") for c in e.get("choices", ()))]
    assert 0 < len(text_of(events)) < 26


@pytest.mark.parametrize("kind", list(MOCKS))
def test_a6_a_stream_that_stalls_is_cut_off(running: GatewayProcess, vendors: dict[str, Vendor], kind: str) -> None:
    vendors[kind].behaviours["gpt"] = {"stall_after": 5, "piece": 2, "text": "a text that is long enough"}
    body = {"model": f"{kind}/gpt", "messages": HELLO, "stream": True}
    answer = httpx.post(running.url + "/v1/chat/completions", json=body, timeout=20)
    assert list(events_of(answer.content))[-1]["error"]["code"] == "upstream_timeout_between_tokens"


@pytest.mark.parametrize("garbage", ["html", "bad_json", "bad_utf8", "not_object", "empty", "short", "gzip"])
@pytest.mark.parametrize("kind", list(MOCKS))
def test_a8_garbage_is_a_502(running: GatewayProcess, vendors: dict[str, Vendor], kind: str, garbage: str) -> None:
    vendors[kind].behaviours["gpt"] = {"body": garbage}
    answer = httpx.post(
        running.url + "/v1/chat/completions", json={"model": f"{kind}/gpt", "messages": HELLO}, timeout=20
    )
    assert answer.status_code == 502, answer.text
    assert answer.json()["error"]["type"] == "server_error"


@pytest.mark.parametrize("kind", list(MOCKS))
def test_a8_a_damaged_event_is_an_error(running: GatewayProcess, vendors: dict[str, Vendor], kind: str) -> None:
    vendors[kind].behaviours["gpt"] = {"bad_event": 5, "gap": 0.02, "piece": 2, "text": "a text that is long enough"}
    body = {"model": f"{kind}/gpt", "messages": HELLO, "stream": True}
    answer = httpx.post(running.url + "/v1/chat/completions", json=body, timeout=20)
    assert list(events_of(answer.content))[-1]["error"]["code"] == "upstream_bad_answer"


@pytest.mark.parametrize(
    ("exception", "status"),
    [("throttlingException", 429), ("modelStreamErrorException", 502), ("validationException", 400)],
)
def test_an_exception_in_bedrocks_stream_is_what_it_says(
    running: GatewayProcess, vendors: dict[str, Vendor], exception: str, status: int
) -> None:
    vendors["bedrock"].behaviours["gpt"] = {"exception": exception}
    body = {"model": "bedrock/gpt", "messages": HELLO, "stream": True}
    assert httpx.post(running.url + "/v1/chat/completions", json=body, timeout=20).status_code == status


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("kind", list(MOCKS))
def test_a1_a2_a3_a_client_that_leaves_takes_the_upstream_call_along(
    running: GatewayProcess, vendors: dict[str, Vendor], kind: str, stream: bool
) -> None:
    vendors[kind].behaviours["gpt"] = {"gap": 0.2, "piece": 1, "text": "slow" * 20} if stream else {"delay": 10}
    with running.connect() as client:
        client.sendall(http_post("/v1/chat/completions", {"model": f"{kind}/gpt", "messages": HELLO, "stream": stream}))
        until(lambda: vendors[kind].requests)
        if stream:
            assert status_of(client.recv(4096)) == 200
    seen = vendors[kind].requests[-1]
    until(lambda: seen.closed_at is not None, what="the end of the upstream call")
    assert not seen.answered


# -- embeddings and rerank ---------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", ["gemini", "cohere", "mistral", "azure"])
def test_embeddings_in_openais_shape(sdk: openai.OpenAI, kind: str) -> None:
    """The SDK asks for base64 and decodes it."""
    answer = sdk.embeddings.create(model=f"{kind}/gpt", input=["four", "seven!!"])
    assert [one.embedding for one in answer.data] == [[4.0, 0.5, -1.0], [7.0, 0.5, -1.0]]
    assert [one.index for one in answer.data] == [0, 1]


@pytest.mark.parametrize(
    ("model", "vector"), [("amazon.titan-embed-text-v2:0", [4.0, 0.5, -1.0]), ("cohere.embed-v4:0", [4.0, 0.5])]
)
def test_embeddings_of_bedrocks_models(sdk: openai.OpenAI, model: str, vector: list[float]) -> None:
    assert sdk.embeddings.create(model=f"bedrock/{model}", input="four").data[0].embedding == vector


def test_rerank_in_the_shape_that_most_share(running: GatewayProcess, vendors: dict[str, Vendor]) -> None:
    body = {"model": "cohere/rerank-v4", "query": "fish", "documents": ["a", {"text": "three"}, "bc"], "top_n": 2}
    answer = httpx.post(running.url + "/v1/rerank", json={**body, "return_documents": True}, timeout=20).json()
    assert answer["results"] == [
        {"index": 1, "relevance_score": 1.0, "document": {"text": "three"}},
        {"index": 2, "relevance_score": 0.5, "document": {"text": "bc"}},
    ]
    assert last_of(vendors, "cohere").body["documents"] == ["a", "three", "bc"]


def test_a_vendor_without_rerank_is_not_asked(running: GatewayProcess, vendors: dict[str, Vendor]) -> None:
    body = {"model": "gemini/gpt", "query": "fish", "documents": ["a"]}
    answer = httpx.post(running.url + "/v1/rerank", json=body, timeout=20)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "model")
    assert vendors["gemini"].requests == []
