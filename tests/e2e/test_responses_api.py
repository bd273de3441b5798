"""OpenAI's Responses API by the official SDK, over vendors that know only the chat API or Anthropic's."""

from __future__ import annotations

import base64
import json
import sqlite3
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from claude_gateway import claude_configuration
from embedding_process import EmbeddingProcess
from gateway_process import GatewayProcess, http_post, until
from pydantic import BaseModel
from sample_gateway import KEY_A, KEY_B, KEY_NARROW, key_entry
from upstream.anthropic import AnthropicVendor
from upstream.vendor import Vendor

PATH = "/v1/responses"
KEY_ANNA, KEY_BEN = "sk-gw-canary-anna-77aa01", "sk-gw-canary-ben-77aa02"
WEATHER: Any = {
    "type": "function",
    "name": "weather",
    "description": "The weather of a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}
CLOCK: Any = {"type": "function", "name": "clock", "parameters": {"type": "object", "properties": {}}}
SUITE = Path(__file__).parents[1] / "battery" / "data" / "json_test_suite.json"


@pytest.fixture(scope="module")
def claude_vendor() -> Iterator[AnthropicVendor]:
    with AnthropicVendor() as running:
        yield running


@pytest.fixture(scope="module")
def running(
    shared_vendor: Vendor, claude_vendor: AnthropicVendor, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GatewayProcess]:
    configuration = claude_configuration(shared_vendor, claude_vendor)
    configuration["access"]["keys"] += [
        key_entry("anna", KEY_ANNA, tenant="a", user="anna"),
        key_entry("ben", KEY_BEN, tenant="a", user="ben"),
    ]
    with GatewayProcess(configuration, tmp_path_factory.mktemp("responses")) as gateway:
        yield gateway
    assert "Traceback" not in gateway.output, gateway.output


@pytest.fixture
def claude(claude_vendor: AnthropicVendor) -> AnthropicVendor:
    claude_vendor.clear()
    return claude_vendor


def sdk_of(running: GatewayProcess, key: str = KEY_A) -> openai.OpenAI:
    return openai.OpenAI(base_url=running.url + "/v1", api_key=key, max_retries=0, timeout=20)


@pytest.fixture
def sdk(running: GatewayProcess, vendor: Vendor, claude: AnthropicVendor) -> Iterator[openai.OpenAI]:
    with sdk_of(running) as made:
        yield made


@pytest.fixture
async def async_sdk(running: GatewayProcess, vendor: Vendor) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=running.url + "/v1", api_key=KEY_A, max_retries=0, timeout=20) as made:
        yield made


@pytest.fixture
def door(running: GatewayProcess, vendor: Vendor, claude: AnthropicVendor) -> Iterator[httpx.Client]:
    with httpx.Client(
        base_url=running.url, headers={"authorization": f"Bearer {KEY_A}"}, timeout=20, trust_env=False
    ) as made:
        yield made


both = pytest.mark.parametrize("model", ["plain", "claude"])


# -- plain and streamed ------------------------------------------------------------------------------------
@both
def test_a_plain_answer(sdk: openai.OpenAI, model: str) -> None:
    told = sdk.responses.create(model=model, input="Grüezi 🏔", instructions="Be kind.", max_output_tokens=500)
    assert (told.object, told.status, told.output_text) == ("response", "completed", "echo: Grüezi 🏔")
    assert told.id.startswith("resp_")
    assert told.instructions == "Be kind."
    assert told.usage is not None
    assert told.usage.total_tokens == told.usage.input_tokens + told.usage.output_tokens > 0
    (item,) = told.output
    assert item.type == "message"
    assert item.status == "completed"


def test_what_reaches_the_vendor(sdk: openai.OpenAI, vendor: Vendor) -> None:
    picture = "data:image/png;base64,iVBORw0KGgo="
    told = sdk.responses.create(
        model="plain",
        input=[
            {"role": "user", "content": "one"},
            {"role": "assistant", "content": "two"},
            {
                "role": "user",
                "content": [
                    {"type": "input_text", "text": "three"},
                    {"type": "input_image", "image_url": picture, "detail": "low"},
                ],
            },
        ],
        instructions="Be kind.",
        temperature=0.5,
        top_p=0.9,
        reasoning={"effort": "low"},
        text={"verbosity": "low"},
        metadata={"a": "b"},
    )
    assert told.metadata == sdk.responses.retrieve(told.id).metadata == {"a": "b"}
    (seen,) = vendor.requests
    assert seen.body == {
        "model": "gpt-mock",
        "messages": [
            {"role": "system", "content": "Be kind."},
            {"role": "user", "content": "one"},
            {"role": "assistant", "content": "two"},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "three"},
                    {"type": "image_url", "image_url": {"url": picture, "detail": "low"}},
                ],
            },
        ],
        "temperature": 0.5,
        "top_p": 0.9,
        "reasoning_effort": "low",
        "verbosity": "low",
    }, "metadata stays here: OpenAI's chat API refuses it without `store`"


@both
def test_a_stream_tells_its_events_in_their_order(sdk: openai.OpenAI, model: str) -> None:
    with sdk.responses.stream(model=model, input="Grüezi 🏔") as stream:
        events = list(stream)
        final = stream.get_final_response()
    assert final.output_text == "echo: Grüezi 🏔"
    assert final.status == "completed"
    kinds = [event.type for event in events]
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert "".join(deltas) == "echo: Grüezi 🏔"
    assert list(dict.fromkeys(kinds)) == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert [event.sequence_number for event in events] == list(range(len(events)))


async def test_the_async_sdk(async_sdk: openai.AsyncOpenAI) -> None:
    text = ""
    async for event in await async_sdk.responses.create(model="plain", input="hello", stream=True):
        text += event.delta if event.type == "response.output_text.delta" else ""
    assert text == "echo: hello"


class City(BaseModel):
    city: str
    country: str


@both
def test_structured_output(sdk: openai.OpenAI, model: str) -> None:
    told = sdk.responses.parse(model=model, input="Where?", text_format=City)
    assert isinstance(told.output_parsed, City)
    assert told.output_parsed.city


# -- tools and reasoning -----------------------------------------------------------------------------------
@both
@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("stored", [False, True])
def test_a_loop_with_parallel_tools(sdk: openai.OpenAI, model: str, streamed: bool, stored: bool) -> None:
    asked: Any = {"model": model, "tools": [WEATHER, CLOCK], "store": stored}
    question: Any = {"role": "user", "content": "How is it?"}
    if streamed:
        with sdk.responses.stream(input=[question], **asked) as stream:
            for _ in stream:
                pass
            first = stream.get_final_response()
    else:
        first = sdk.responses.create(input=[question], **asked)
    calls = [item for item in first.output if item.type == "function_call"]
    assert [call.name for call in calls] == ["weather", "clock"]
    assert json.loads(calls[0].arguments)["city"]
    answers: Any = [{"type": "function_call_output", "call_id": call.call_id, "output": "fine"} for call in calls]
    if model == "plain":
        del asked["tools"]  # the imitation calls the tools that it is given
    if stored:
        again = sdk.responses.create(input=answers, previous_response_id=first.id, **asked)
    else:
        outputs: Any = [item.model_dump(exclude_none=True) for item in first.output]
        again = sdk.responses.create(input=[question, *outputs, *answers], **asked)
    assert again.output_text.startswith("echo:")


def test_thoughts_keep_their_signature(sdk: openai.OpenAI, claude: AnthropicVendor) -> None:
    """The vendor's imitation refuses a tool loop whose signed thought has been lost."""
    asked: Any = {"model": "claude-old", "tools": [WEATHER], "reasoning": {"effort": "low"}, "max_output_tokens": 9000}
    with sdk.responses.stream(input="How is it?", **asked) as stream:
        kinds = {event.type for event in stream}
        first = stream.get_final_response()
    assert {"response.reasoning_text.delta", "response.reasoning_text.done"} <= kinds
    assert first.output[0].type == "reasoning"
    assert first.output[0].encrypted_content
    (call,) = [item for item in first.output if item.type == "function_call"]
    answer: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "fine"}
    again = sdk.responses.create(input=[answer], previous_response_id=first.id, **asked)
    assert again.status == "completed"
    sent = claude.requests[-1].body["messages"]
    assert any(
        block.get("signature")
        for message in sent
        if isinstance(message["content"], list)
        for block in message["content"]
    )


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(("finish", "reason"), [("length", "max_output_tokens"), ("content_filter", "content_filter")])
def test_an_answer_that_was_cut_off_says_so(
    sdk: openai.OpenAI, vendor: Vendor, finish: str, reason: str, streamed: bool
) -> None:
    vendor.behaviours["gpt-mock"] = {"finish": finish}
    if streamed:
        *_, last = sdk.responses.create(model="plain", input="x", stream=True)
        assert last.type == "response.incomplete"
        told = last.response
    else:
        told = sdk.responses.create(model="plain", input="x")
    assert told.status == "incomplete"
    assert told.incomplete_details is not None
    assert told.incomplete_details.reason == reason


# -- what is kept ------------------------------------------------------------------------------------------
def test_a_conversation_goes_on(sdk: openai.OpenAI, vendor: Vendor) -> None:
    first = sdk.responses.create(model="plain", input="one", instructions="Be brief.")
    second = sdk.responses.create(model="plain", input="two", previous_response_id=first.id, stream=True)
    *_, last = second
    assert last.type == "response.completed"
    sdk.responses.create(model="plain", input="three", previous_response_id=last.response.id)
    assert vendor.requests[-1].body["messages"] == [
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "echo: one"},
        {"role": "user", "content": "two"},
        {"role": "assistant", "content": "echo: two"},
        {"role": "user", "content": "three"},
    ]
    kept = sdk.responses.retrieve(first.id)
    assert (kept.output_text, kept.instructions) == ("echo: one", "Be brief.")
    (asked,) = sdk.responses.input_items.list(last.response.id).data
    assert asked.type == "message"
    sdk.responses.delete(first.id)
    with pytest.raises(openai.NotFoundError):
        sdk.responses.retrieve(first.id)
    with pytest.raises(openai.NotFoundError, match="not any more"):
        sdk.responses.create(model="plain", input="four", previous_response_id=last.response.id)


def test_the_pages_of_what_was_asked(sdk: openai.OpenAI) -> None:
    given: Any = [{"role": "user", "content": str(number)} for number in range(7)]
    given[2] |= {"id": "msg_mine", "type": None}
    given[5] |= {"id": "msg_mine"}  # a second time
    given[6] |= {"id": None}
    told = sdk.responses.create(model="plain", input=given)
    asked: Any = [("asc", 1), ("desc", 3)]
    for order, limit in asked:
        pages: Any = sdk.responses.input_items.list(told.id, limit=limit, order=order)
        listed = list(pages)[:20]
        assert len({item.id for item in listed}) == 7
        said = [item.content[0].text for item in listed]
        assert said == [str(number) for number in range(7)][:: 1 if order == "asc" else -1]


def test_what_is_not_to_be_kept_is_not(sdk: openai.OpenAI, running: GatewayProcess) -> None:
    told = sdk.responses.create(model="plain", input="a secret 8f2c51", store=False)
    with pytest.raises(openai.NotFoundError):
        sdk.responses.retrieve(told.id)
    with pytest.raises(openai.NotFoundError):
        sdk.responses.create(model="plain", input="x", previous_response_id=told.id)
    assert b"8f2c51" not in running.stored()


def test_nobody_gets_at_anothers_response(running: GatewayProcess, vendor: Vendor) -> None:
    with sdk_of(running, KEY_ANNA) as anna, sdk_of(running, KEY_BEN) as ben, sdk_of(running, KEY_B) as other:
        told = anna.responses.create(model="plain", input="mine")
        vendor.clear()
        for stranger in (ben, other):
            with pytest.raises(openai.NotFoundError) as unseen:
                stranger.responses.create(model="plain", input="x", previous_response_id=told.id)
            with pytest.raises(openai.NotFoundError) as unknown:
                stranger.responses.create(model="plain", input="x", previous_response_id="resp_0")
            assert unseen.value.message.replace(told.id, "resp_0") == unknown.value.message
            with pytest.raises(openai.NotFoundError):
                stranger.responses.retrieve(told.id)
            with pytest.raises(openai.NotFoundError):
                stranger.responses.delete(told.id)
            with pytest.raises(openai.NotFoundError):
                stranger.responses.input_items.list(told.id)
        assert vendor.requests == []
        assert anna.responses.retrieve(told.id).output_text == "echo: mine"


def test_a_gateway_that_keeps_nothing_says_so(vendor: Vendor, tmp_path: Path) -> None:
    providers = {"mock": {"kind": "openai_compatible", "base_url": vendor.url, "api_key": vendor.api_key}}
    configuration = {"providers": providers, "records": {"responses": "off"}}
    with GatewayProcess(configuration, tmp_path) as gateway, sdk_of(gateway) as client:
        told = client.responses.create(model="mock/gpt-mock", input="x")
        assert told.model_extra is not None
        assert told.model_extra["store"] is False
        with pytest.raises(openai.BadRequestError, match="keeps no responses"):
            client.responses.create(model="mock/gpt-mock", input="x", previous_response_id=told.id)
        with pytest.raises(openai.NotFoundError):
            client.responses.retrieve(told.id)


@pytest.mark.parametrize("streamed", [False, True])
def test_what_was_told_as_completed_outlives_the_gateways_death(vendor: Vendor, tmp_path: Path, streamed: bool) -> None:
    providers = {"mock": {"kind": "openai_compatible", "base_url": vendor.url, "api_key": vendor.api_key}}
    with (
        pytest.raises(AssertionError, match="status -9"),
        GatewayProcess({"providers": providers}, tmp_path) as gateway,
    ):
        with sdk_of(gateway) as client:
            if streamed:
                for event in client.responses.create(model="mock/gpt-mock", input="x", stream=True):
                    if event.type == "response.completed":
                        gateway.process.kill()
                        told = event.response
                        break
            else:
                told = client.responses.create(model="mock/gpt-mock", input="x")
                gateway.process.kill()
            gateway.process.wait()
    with GatewayProcess({"providers": providers}, tmp_path) as gateway, sdk_of(gateway) as client:
        client.responses.create(model="mock/gpt-mock", input="y", previous_response_id=told.id)
    assert [each["content"] for each in vendor.requests[-1].body["messages"]] == ["x", "echo: x", "y"]


@pytest.mark.parametrize("streamed", [False, True])
def test_a_store_that_refuses_costs_no_answer(vendor: Vendor, tmp_path: Path, streamed: bool) -> None:
    providers = {"mock": {"kind": "openai_compatible", "base_url": vendor.url, "api_key": vendor.api_key}}
    records = tmp_path / "calls.db"
    configuration = {"providers": providers, "records": {"url": f"sqlite:///{records}"}}
    with GatewayProcess(configuration, tmp_path) as gateway, sdk_of(gateway) as client:
        with sqlite3.connect(records) as connection:
            connection.execute("DROP TABLE responses")
        connection.close()
        if streamed:
            *_, last = client.responses.create(model="mock/gpt-mock", input="x", stream=True)
            assert last.type == "response.completed"
            told = last.response
        else:
            told = client.responses.create(model="mock/gpt-mock", input="x")
        assert told.output_text == "echo: x"
        assert told.model_extra is not None
        assert told.model_extra["store"] is False
        asks: Any = (client.responses.retrieve, client.responses.delete, client.responses.input_items.list)
        for ask in asks:
            with pytest.raises(openai.InternalServerError, match="store of responses is unavailable") as away:
                ask(told.id)
            assert away.value.status_code == 503
        with pytest.raises(openai.InternalServerError, match="store of responses is unavailable"):
            client.responses.create(model="mock/gpt-mock", input="y", previous_response_id=told.id)
        assert "Traceback" not in gateway.output


def test_what_has_expired_is_gone(vendor: Vendor, tmp_path: Path) -> None:
    providers = {"mock": {"kind": "openai_compatible", "base_url": vendor.url, "api_key": vendor.api_key}}
    records = tmp_path / "calls.db"
    configuration = {"providers": providers, "records": {"url": f"sqlite:///{records}", "responses": "1s"}}
    with GatewayProcess(configuration, tmp_path) as gateway, sdk_of(gateway) as client:
        first = client.responses.create(model="mock/gpt-mock", input="x")

        def gone() -> bool:
            return httpx.get(f"{gateway.url}{PATH}/{first.id}", timeout=5).status_code == 404

        until(gone, what="the end of what is kept")
        client.responses.create(model="mock/gpt-mock", input="y")
        with sqlite3.connect(records) as connection:
            assert connection.execute("SELECT count(*) FROM responses").fetchone() == (1,)
        connection.close()


# -- guardrails, cache, records ----------------------------------------------------------------------------
def test_a_guardrail_holds_on_the_stream_as_on_the_whole(sdk: openai.OpenAI, vendor: Vendor) -> None:
    vendor.behaviours["guarded"] = {"text": "Ask anna.keller@example.org now.", "piece": 3}
    plain = sdk.responses.create(model="masked", input="who?").output_text
    raw = "".join(event.model_dump_json() for event in sdk.responses.create(model="masked", input="who?", stream=True))
    assert "anna.keller" not in plain
    assert "anna.keller" not in raw
    with sdk.responses.stream(model="masked", input="who?") as stream:
        assert stream.get_final_response().output_text == plain


def test_the_cache_serves_it(sdk: openai.OpenAI, vendor: Vendor) -> None:
    first = sdk.responses.create(model="cached", input="once more")
    with sdk.responses.stream(model="cached", input="once more") as stream:
        again = stream.get_final_response()
    assert again.output_text == first.output_text
    assert again.id != first.id
    assert len(vendor.requests) == 1


@pytest.fixture(scope="module")
def knowing(
    shared_vendor: Vendor, embeddings: EmbeddingProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GatewayProcess]:
    """A gateway whose model `leave` answers from a passage."""
    folder = tmp_path_factory.mktemp("knowing")
    docs = folder / "docs"
    docs.mkdir()
    (docs / "leave.md").write_text("# Leave\n\nParental leave for employees is fourteen weeks.\n")
    mock = {"kind": "openai_compatible", "base_url": shared_vendor.url, "api_key": shared_vendor.api_key}
    target = {"targets": ["mock/gpt-mock"], "prompt": "handbook@1"}
    configuration = {
        "prompts": {"folder": str(Path(__file__).parents[2] / "configs" / "prompts")},
        "providers": {"mock": mock},
        "retrieval": {"embeddings": embeddings.settings, "collections": {"leave": {"load": [str(docs)]}}},
        "models": {"leave": {**target, "retrieval": {"collection": "leave", "top_k": 1, "mode": "keyword"}}},
    }
    with GatewayProcess(configuration, folder / "gateway") as running:
        yield running


@pytest.mark.parametrize("streamed", [False, True])
def test_sources_are_annotations_of_the_text(knowing: GatewayProcess, vendor: Vendor, streamed: bool) -> None:
    with sdk_of(knowing) as client:
        told: Any
        if streamed:
            with client.responses.stream(model="leave", input="Is parental leave [1] long?") as stream:
                kinds = [event.type for event in stream]
                told = stream.get_final_response()
            added = kinds.index("response.output_text.annotation.added")
            assert kinds.index("response.output_text.delta") < added < kinds.index("response.output_text.done")
        else:
            told = client.responses.create(model="leave", input="Is parental leave [1] long?")
        (part,) = told.output[0].content
        (annotation,) = part.annotations
        assert annotation.type == "url_citation"
        assert part.text[annotation.start_index : annotation.end_index] == "[1]"
        assert [source["document_id"] for source in told.model_extra["rag"]["sources"]] == ["docs/leave.md"]
        kept: Any = client.responses.retrieve(told.id)
        assert kept.output[0].content[0].annotations == part.annotations
        assert kept.output_text == part.text


def test_the_record_is_found_by_the_responses_id(sdk: openai.OpenAI, door: httpx.Client) -> None:
    told = sdk.responses.create(model="plain", input="x")
    until(lambda: door.get(f"/v1/calls/{told.id}").status_code == 200, what="the record")
    assert door.get(f"/v1/calls/{told.id}").json()["endpoint"] == "responses"


# -- faults ------------------------------------------------------------------------------------------------
def message(**more: Any) -> dict[str, Any]:
    return {"type": "message", "role": "user", "content": "x", **more}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"input": "x"}, "model"),
        ({"model": "plain"}, "input"),
        ({"model": "plain", "input": ""}, "input"),
        ({"model": "plain", "input": []}, "input"),
        ({"model": "plain", "input": 7}, "input"),
        ({"model": "plain", "input": ["x"]}, "input[0]"),
        ({"model": "plain", "input": [message(role="robot")]}, "input[0].role"),
        ({"model": "plain", "input": [message(content=7)]}, "input[0].content"),
        ({"model": "plain", "input": [message(content=["x"])]}, "input[0].content[0]"),
        ({"model": "plain", "input": [message(content=[{"type": "input_text"}])]}, "input[0].content[0].text"),
        ({"model": "plain", "input": [message(content=[{"type": "input_file", "file_id": "f"}])]}, "input[0].content[0]"),
        ({"model": "plain", "input": [{"type": "function_call", "name": "f"}]}, "input[0].arguments"),
        ({"model": "plain", "input": [{"type": "function_call_output", "output": "x"}]}, "input[0].call_id"),
        ({"model": "plain", "input": [{"type": "item_reference", "id": "x"}]}, "input[0].type"),
        ({"model": "plain", "input": "x", "tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"model": "plain", "input": "x", "tools": [{"type": "function"}]}, "tools[0].name"),
        ({"model": "plain", "input": "x", "tool_choice": {"type": "mcp"}}, "tool_choice"),
        ({"model": "plain", "input": "x", "temperature": 3}, "temperature"),
        ({"model": "plain", "input": "x", "max_output_tokens": -1}, "max_output_tokens"),
        ({"model": "plain", "input": "x", "max_output_tokens": 2**63}, "max_output_tokens"),
        ({"model": "plain", "input": "x", "truncation": "auto"}, "truncation"),
        ({"model": "plain", "input": "x", "text": {"format": {"type": "json_schema"}}}, "text.format.name"),
        ({"model": "plain", "input": "x", "include": ["message.output_text.logprobs"]}, "include"),
        ({"model": "plain", "input": "x", "background": True}, "background"),
        ({"model": "plain", "input": "x", "conversation": "c"}, "conversation"),
        ({"model": "plain", "prompt": {"id": "p", "variable": {}}}, "prompt.variable"),
        ({"model": "plain", "input": "x", "api_base": "http://x"}, "api_base"),
        ({"model": "plain", "input": "x", "future": 1}, "future"),
        ({"model": "plain", "input": "x", "stream": "yes"}, "stream"),
        ({"model": "plain", "input": "x", "previous_response_id": 7}, "previous_response_id"),
    ],
)  # fmt: skip
def test_b9_a_wrong_field_is_named(door: httpx.Client, vendor: Vendor, body: dict[str, Any], param: str) -> None:
    answer = door.post(PATH, json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param), answer.text
    assert vendor.requests == []


def test_b8_what_is_not_json_is_a_400(door: httpx.Client, vendor: Vendor) -> None:
    files = {name: base64.b64decode(data) for name, data in json.loads(SUITE.read_text("ascii")).items()}
    bodies = [data for name, data in files.items() if name.startswith("n_")]
    bodies += [b"[" * 100_000, b'{"model":"plain","input":' + b"[" * 50_000]
    for body in bodies:
        answer = door.post(PATH, content=body)
        assert answer.status_code == 400, body[:80]
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    assert vendor.requests == []


def test_b8_naughty_strings_come_back_as_they_are(door: httpx.Client) -> None:
    strings = json.loads((SUITE.parent / "naughty_strings.json").read_text("ascii"))
    for encoded in strings:
        text = base64.b64decode(encoded).decode()
        if not text:
            continue
        told = door.post(PATH, json={"model": "plain", "input": text, "store": False}).json()
        assert told["output"][0]["content"][0]["text"] == f"echo: {text}"


@pytest.mark.parametrize("text", ["\\ud800", "a\\udfffb", "\\u0000"])
def test_b8_half_a_surrogate_pair_is_no_fault_of_ours(door: httpx.Client, text: str) -> None:
    body = f'{{"model":"plain","input":"{text}"}}'.encode()
    assert door.post(PATH, content=body).status_code in (200, 400)


def test_access_is_that_of_every_api(running: GatewayProcess, door: httpx.Client, vendor: Vendor) -> None:
    body = {"model": "cached", "input": "x"}
    assert httpx.post(running.url + PATH, json=body).status_code == 401
    assert httpx.get(f"{running.url}{PATH}/resp_1").status_code == 401
    narrow = {"authorization": f"Bearer {KEY_NARROW}"}
    assert httpx.post(running.url + PATH, json=body, headers=narrow).status_code in (403, 404)
    assert door.post(PATH, json={**body, "model": "no-such-model"}).status_code == 404
    assert door.post(PATH, content=b" " * 3_000_000).status_code == 413
    assert vendor.requests == []


@pytest.mark.parametrize("how", ["reset", "truncated", "end"])
def test_a5_a_stream_that_dies_fails_and_is_not_kept(door: httpx.Client, vendor: Vendor, how: str) -> None:
    vendor.behaviours["gpt-mock"] = {
        "text": "some words that will not come whole", "piece": 4, "die_after": 4, "how": how,
    }  # fmt: skip
    body = door.post(PATH, json={"model": "plain", "input": "x", "stream": True}).text
    events = [json.loads(line[6:]) for line in body.splitlines() if line.startswith("data: ")]
    assert events[-1]["type"] == "response.failed"
    assert events[-1]["response"]["status"] == "failed"
    assert events[-1]["response"]["error"]["message"]
    assert "response.completed" not in body
    assert door.get(f"{PATH}/{events[0]['response']['id']}").status_code == 404


@both
def test_a1_a_client_that_leaves_ends_the_upstream_call(
    running: GatewayProcess, vendor: Vendor, claude: AnthropicVendor, model: str
) -> None:
    judge: Vendor = vendor if model == "plain" else claude
    name = "gpt-mock" if model == "plain" else "claude-sonnet-5"
    judge.behaviours[name] = {"text": "words " * 50, "stall_after": 5}
    body = json.dumps({"model": model, "input": "x", "stream": True}).encode()
    with running.connect() as socket:
        socket.sendall(http_post(PATH, body, KEY_A))
        until(lambda: b"output_text.delta" in socket.recv(65536), what="the first words")
    until(lambda: judge.requests[-1].closed_at is not None, what="the end of the upstream call")


@pytest.mark.parametrize("stream", [False, True])
def test_a2_a3_a_client_that_leaves_before_the_first_word(
    running: GatewayProcess, vendor: Vendor, stream: bool
) -> None:
    vendor.behaviours["x"] = {"delay": 20}
    body = json.dumps({"model": "patient/x", "input": "x", "stream": stream}).encode()
    with running.connect() as socket:
        socket.sendall(http_post(PATH, body, KEY_A))
        until(lambda: vendor.requests, what="the upstream call")
    until(lambda: vendor.requests[-1].closed_at is not None, what="the end of the upstream call")


def test_a7_a_dribbled_stream_is_the_same(sdk: openai.OpenAI, vendor: Vendor) -> None:
    text = "漢字 🏔\r\n\u2028 “ä”"
    vendor.behaviours["gpt-mock"] = {"text": text, "segment": 1, "bom": True, "piece": 2}
    with sdk.responses.stream(model="plain", input="x") as stream:
        assert stream.get_final_response().output_text == text
