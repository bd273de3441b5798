"""The gateway before a real vLLM server: answers, disconnects, the engine's errors and its own parameters."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from typing import Any

import httpx
import jsonschema
import openai
import pytest
from openai import OpenAI
from openai.types.chat import ChatCompletion, ChatCompletionChunk

QUESTION: list[Any] = [{"role": "user", "content": "Which way to the station?"}]
GREEDY: dict[str, Any] = {"model": "tiny", "messages": QUESTION, "temperature": 0, "max_tokens": 48}
# Far longer than any wait of these tests: a slot that gets free was freed by the disconnect.
ENDLESS = {"model": "tiny", "messages": QUESTION, "max_tokens": 32_000, "ignore_eos": True}

PLACE = {
    "type": "object",
    "properties": {
        "city": {"enum": ["Bern", "Oslo", "Turku"]},
        "stars": {"type": "integer", "minimum": 1, "maximum": 5},
        "tags": {"type": "array", "items": {"enum": ["old", "new", "far"]}, "minItems": 1, "maxItems": 3},
    },
    "required": ["city", "stars", "tags"],
    "additionalProperties": False,
}


def text_of(answer: ChatCompletion) -> str:
    return answer.choices[0].message.content or ""


def streamed(client: OpenAI, **request: Any) -> list[ChatCompletionChunk]:
    with client.chat.completions.create(**request, stream=True) as stream:
        return list(stream)


def joined(chunks: list[ChatCompletionChunk], index: int = 0) -> str:
    return "".join(c.delta.content or "" for chunk in chunks for c in chunk.choices if c.index == index)


# --- answers ------------------------------------------------------------------------------------------
def test_a_plain_answer_is_vllms_own(client: OpenAI, direct: OpenAI) -> None:
    ours, theirs = client.chat.completions.create(**GREEDY), direct.chat.completions.create(**GREEDY)

    assert text_of(ours) == text_of(theirs) != ""
    assert ours.usage == theirs.usage
    assert ours.usage is not None
    assert ours.usage.completion_tokens == 48
    assert ours.choices[0].finish_reason == "length"


def test_every_field_of_vllms_answer_reaches_the_client(client: OpenAI, direct: OpenAI) -> None:
    def answer(of: OpenAI) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(
            of.chat.completions.with_raw_response.create(
                **GREEDY, logprobs=True, top_logprobs=2, extra_body={"return_token_ids": True}
            ).text
        )
        return {name: value for name, value in answer.items() if name not in ("id", "created")}

    ours = answer(client)

    assert ours == answer(direct)
    assert len(ours["choices"][0]["token_ids"]) == 48


def test_a_stream_tells_the_text_and_the_usage_of_the_plain_answer(client: OpenAI) -> None:
    plain = client.chat.completions.create(**GREEDY)
    chunks = streamed(client, **GREEDY, stream_options={"include_usage": True})

    assert joined(chunks) == text_of(plain)
    assert [chunk.usage for chunk in chunks if chunk.usage] == [plain.usage]
    assert chunks[-1].choices == []
    assert {chunk.id for chunk in chunks} == {chunks[0].id}


def test_a_stream_without_include_usage_has_no_usage_chunk(client: OpenAI) -> None:
    chunks = streamed(client, **GREEDY)

    assert [chunk for chunk in chunks if chunk.usage or not chunk.choices] == []
    assert chunks[-1].choices[0].finish_reason == "length"


def test_usage_with_every_chunk_can_be_asked_of_vllm(client: OpenAI) -> None:
    options: Any = {"include_usage": True, "continuous_usage_stats": True}

    chunks = streamed(client, **GREEDY, stream_options=options)

    counted = [chunk.usage.completion_tokens for chunk in chunks if chunk.usage]
    assert len(counted) == len(chunks)
    assert counted == sorted(counted)
    assert counted[-1] == 48


def test_the_same_seed_gives_the_same_answer_and_another_seed_another(client: OpenAI) -> None:
    request = {**GREEDY, "temperature": 1.5}

    answers = [client.chat.completions.create(**request, seed=seed) for seed in (7, 7, 8)]

    first, again, other = map(text_of, answers)
    assert first == again != other


def test_a_stream_of_several_choices_keeps_them_apart(client: OpenAI) -> None:
    request = {**GREEDY, "temperature": 1, "n": 2, "seed": 5}

    chunks = streamed(client, **request, extra_body={"structured_outputs": {"regex": "[a-p]{24}"}})

    first, second = joined(chunks, 0), joined(chunks, 1)
    assert (len(first), len(second)) == (24, 24)
    assert first != second


def test_parallel_streams_do_not_mix(client: OpenAI) -> None:
    def own_text(number: int) -> str:
        form = {"structured_outputs": {"regex": f"stream {number} [a-z]{{40}}"}}
        return joined(streamed(client, **GREEDY | {"max_tokens": 100}, extra_body=form))

    with ThreadPoolExecutor(8) as pool:
        texts = list(pool.map(own_text, range(10, 26)))

    assert [text[:10] for text in texts] == [f"stream {number} " for number in range(10, 26)]
    assert {len(text) for text in texts} == {50}


def test_a_model_is_listed_and_called_by_its_public_name_and_by_its_providers(client: OpenAI) -> None:
    listed = [model.id for model in client.models.list()]
    answer = client.chat.completions.with_raw_response.create(**GREEDY)
    plainly = client.chat.completions.with_raw_response.create(**{**GREEDY, "model": "gpu/tiny"})

    assert listed == ["tiny"]
    assert client.models.retrieve("tiny").id == "tiny"
    assert text_of(plainly.parse()) == text_of(answer.parse())
    assert [a.headers["x-gateway-target"] for a in (answer, plainly)] == ["gpu/tiny", "gpu/tiny"]


# --- a client that goes away --------------------------------------------------------------------------
def test_a_disconnect_in_mid_stream_frees_the_engines_slot(client: OpenAI, engine: Any) -> None:
    body = {name: ENDLESS[name] for name in ("model", "messages", "max_tokens")}
    with client.chat.completions.create(**body, stream=True, extra_body={"ignore_eos": True}) as stream:  # type: ignore[call-overload]  # a dict's values have no types of their own
        for _ in zip(range(20), stream, strict=False):
            pass
        assert engine.load() == (1, 0)

    engine.wait_for(running=0, waiting=0)


def test_a_disconnect_before_a_plain_answer_frees_the_engines_slot(
    leave_behind: Callable[[bytes], HTTPConnection], engine: Any
) -> None:
    connection = leave_behind(json.dumps(ENDLESS).encode())
    engine.wait_for(running=1, waiting=0)

    connection.close()

    engine.wait_for(running=0, waiting=0)


def test_a_disconnect_before_the_first_token_leaves_the_engines_queue(
    leave_behind: Callable[[bytes], HTTPConnection], engine: Any
) -> None:
    body = json.dumps({**ENDLESS, "stream": True}).encode()
    running = [leave_behind(body), leave_behind(body)]
    engine.wait_for(running=2, waiting=0)
    queued = leave_behind(body)
    engine.wait_for(running=2, waiting=1)

    queued.close()
    engine.wait_for(running=2, waiting=0)

    for connection in running:
        connection.close()
    engine.wait_for(running=0, waiting=0)


# --- the engine's errors ------------------------------------------------------------------------------
REFUSED: dict[str, dict[str, Any]] = {
    "a prompt too long": {"messages": [{"role": "user", "content": "far " * 9000}]},
    "an answer too long": {"max_tokens": 100_000},
    "top_k out of range": {"extra_body": {"top_k": -5}},
    "min_p out of range": {"extra_body": {"min_p": 7}},
    "a parameter of the wrong type": {"extra_body": {"repetition_penalty": "much"}},
    "a broken grammar": {"extra_body": {"structured_outputs": {"regex": "[a-c"}}},
    "an unknown model": {"model": "gpu/absent"},
}
CLOCK_TIME = re.compile(r"\[\d\d:\d\d:\d\d\]")


def refusal(client: OpenAI, **request: Any) -> openai.APIStatusError:
    with pytest.raises(openai.APIStatusError) as caught:
        client.chat.completions.create(**request)
    return caught.value


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("fault", REFUSED.values(), ids=REFUSED.keys())
def test_vllms_refusal_reaches_the_client_in_openais_shape(
    client: OpenAI, direct: OpenAI, fault: dict[str, Any], stream: bool
) -> None:
    """A stream's too: vLLM itself tells some faults in a stream's first event only, under status 200."""
    request = {**GREEDY, **fault}
    ours = refusal(client, **request, stream=stream)
    theirs = refusal(direct, **{**request, "model": request["model"].removeprefix("gpu/")})

    assert theirs.status_code in (400, 404)
    assert (type(ours), ours.status_code) == (type(theirs), theirs.status_code)
    assert isinstance(ours.body, dict)
    assert isinstance(theirs.body, dict)
    assert ours.body.keys() == {"message", "type", "param", "code"}
    # Some of vLLM's messages are a log line, with the time of the call.
    assert CLOCK_TIME.sub("", ours.body["message"]) == CLOCK_TIME.sub("", theirs.body["message"])
    assert ours.body["param"] == theirs.body["param"]
    assert isinstance(ours.body["code"], str | None)


def test_the_gateway_answers_on_after_refusals(client: OpenAI) -> None:
    before = text_of(client.chat.completions.create(**GREEDY))
    for fault in REFUSED.values():
        refusal(client, **{**GREEDY, **fault})

    assert text_of(client.chat.completions.create(**GREEDY)) == before


# --- the engine's own parameters ----------------------------------------------------------------------
@pytest.mark.parametrize("parameter", [{"top_k": 1}, {"min_p": 1.0}], ids=["top_k", "min_p"])
def test_a_sampling_parameter_that_openai_does_not_have_takes_effect(client: OpenAI, parameter: dict[str, Any]) -> None:
    """Either of them leaves only the likeliest token, so that heat changes nothing."""
    hot = {**GREEDY, "temperature": 2, "seed": 3}
    greedy = text_of(client.chat.completions.create(**GREEDY))

    assert text_of(client.chat.completions.create(**hot)) != greedy
    assert text_of(client.chat.completions.create(**hot, extra_body=parameter)) == greedy


def test_of_those_that_wait_the_one_of_the_highest_priority_runs_first(
    leave_behind: Callable[[bytes], HTTPConnection], engine: Any
) -> None:
    """vLLM's own field: the lowest number goes first. https://docs.vllm.ai/en/latest/serving/openai_compatible_server/"""
    running = [leave_behind(json.dumps(ENDLESS).encode()) for _ in range(2)]
    engine.wait_for(running=2, waiting=0)
    ended: list[str] = []

    def wait_in_line(name: str, priority: int) -> None:
        body = {**ENDLESS, "max_tokens": 2_000, "priority": priority}
        leave_behind(json.dumps(body).encode()).getresponse().read()
        ended.append(name)

    with ThreadPoolExecutor(2) as pool:
        calls = [pool.submit(wait_in_line, "early", 9)]
        engine.wait_for(running=2, waiting=1)
        calls.append(pool.submit(wait_in_line, "urgent", 1))
        engine.wait_for(running=2, waiting=2)
        running[0].close()
        for call in calls:
            call.result(60)
        running[1].close()

    assert ended == ["urgent", "early"]
    engine.wait_for(running=0, waiting=0)


def test_arguments_of_the_chat_template_take_effect(client: OpenAI) -> None:
    """The tiny model's template adds `note` to the prompt, and its tokenizer makes a token of each byte."""

    def prompt_tokens(**extra: Any) -> int:
        answer: ChatCompletion = client.chat.completions.create(**GREEDY, **extra)
        assert answer.usage is not None
        return answer.usage.prompt_tokens

    noted = prompt_tokens(extra_body={"chat_template_kwargs": {"note": "seven b"}})

    assert noted == prompt_tokens() + 7


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize(
    "form",
    [
        {"response_format": {"type": "json_schema", "json_schema": {"name": "place", "schema": PLACE}}},
        {"extra_body": {"structured_outputs": {"json": PLACE}}},
    ],
    ids=["response_format", "structured_outputs"],
)
def test_guided_json_holds_its_schema(client: OpenAI, form: dict[str, Any], stream: bool) -> None:
    request = {**GREEDY, "max_tokens": 400, **form}

    text = joined(streamed(client, **request)) if stream else text_of(client.chat.completions.create(**request))

    jsonschema.validate(json.loads(text), PLACE)


def test_a_choice_is_one_of_the_given(client: OpenAI) -> None:
    form = {"structured_outputs": {"choice": ["red", "green"]}}

    answer = client.chat.completions.create(**GREEDY, extra_body=form)

    assert text_of(answer) in ("red", "green")
    assert answer.choices[0].finish_reason == "stop"


def test_a_tool_call_is_vllms_own_plain_and_streamed(client: OpenAI, direct: OpenAI) -> None:
    request: dict[str, Any] = {
        **GREEDY,
        "max_tokens": 400,
        "tools": [{"type": "function", "function": {"name": "book", "parameters": PLACE}}],
        "tool_choice": {"type": "function", "function": {"name": "book"}},
    }

    def called(of: OpenAI) -> list[tuple[str, str]]:
        answer: ChatCompletion = of.chat.completions.create(**request)
        calls: list[Any] = answer.choices[0].message.tool_calls or []
        return [(call.function.name, call.function.arguments) for call in calls]

    def called_piecewise(of: OpenAI) -> tuple[str, str]:
        chunks = streamed(of, **request)
        calls = [call for chunk in chunks for choice in chunk.choices for call in choice.delta.tool_calls or ()]
        pieces = [call.function for call in calls if call.function]
        return "".join(p.name or "" for p in pieces), "".join(p.arguments or "" for p in pieces)

    assert called(client) == called(direct)
    assert called_piecewise(client) == called_piecewise(direct)
    assert called_piecewise(client)[0] == called(client)[0][0] == "book"


# --- the account --------------------------------------------------------------------------------------
@pytest.mark.parametrize("form", ["a plain answer", "a plain tool call", "a stream that asks for no usage"])
def test_the_calls_record_holds_vllms_own_token_counts(client: OpenAI, direct: OpenAI, form: str) -> None:
    request = dict(GREEDY)
    if form == "a plain tool call":
        book = {"type": "function", "function": {"name": "book"}}
        request |= {"tools": [book], "tool_choice": book, "max_tokens": 400}
    counted: ChatCompletion = direct.chat.completions.create(**request)
    assert counted.usage is not None

    answer: Any = client.chat.completions.with_raw_response.create(
        **request, stream=form == "a stream that asks for no usage"
    )
    if form == "a stream that asks for no usage":
        assert {chunk.usage for chunk in answer.parse()} == {None}
    record = client.get(f"/calls/{answer.headers['x-gateway-call-id']}", cast_to=httpx.Response).json()

    assert record["usage"] == {
        "prompt_tokens": counted.usage.prompt_tokens,
        "completion_tokens": counted.usage.completion_tokens,
        "cached_tokens": 0,
        "reasoning_tokens": 0,
        "estimated": False,
    }
    assert (record["outcome"], record["finish_reason"]) == ("ok", counted.choices[0].finish_reason)
