"""The same question again: answered from the cache, in the form asked for, to the same tenant only."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import httpx
import openai
import pytest
from gateway_process import GatewayProcess, until
from sample_gateway import KEY_B
from upstream.vendor import Vendor


@pytest.fixture
def question() -> list[Any]:
    """One that no other test has asked."""
    return [{"role": "user", "content": f"question {uuid4()}"}]


@pytest.fixture
def other_tenant(gateway: GatewayProcess) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=gateway.url + "/v1", api_key=KEY_B, max_retries=0) as made:
        yield made


def ask(client: openai.OpenAI, question: list[Any], **more: Any) -> tuple[str, str]:
    """The text and the cache header."""
    answer = client.chat.completions.with_raw_response.create(model="cached", messages=question, **more)
    if more.get("stream"):
        chunks = list(answer.parse())
        text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
        assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    else:
        text = answer.parse().choices[0].message.content
    return text, answer.headers["x-gateway-cache"]


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("second", [False, True])
def test_a_hit_in_either_form(
    client: openai.OpenAI, vendor: Vendor, question: list[Any], first: bool, second: bool
) -> None:
    text = "echo: " + question[0]["content"]
    assert ask(client, question, stream=first) == (text, "miss")
    assert ask(client, question, stream=second) == (text, "hit")
    assert len(vendor.requests) == 1


def test_a_hit_has_its_usage_and_an_id_of_its_own(client: openai.OpenAI, question: list[Any]) -> None:
    first = client.chat.completions.create(model="cached", messages=question)
    again = client.chat.completions.create(model="cached", messages=question)
    assert again.id != first.id
    assert again.model_dump(exclude={"id"}) == first.model_dump(exclude={"id"})
    streamed = list(
        client.chat.completions.create(
            model="cached", messages=question, stream=True, stream_options={"include_usage": True}
        )
    )
    assert streamed[-1].usage == first.usage


@pytest.mark.parametrize(
    "other", [{"temperature": 0.1}, {"seed": 1}, {"max_tokens": 5}, {"stop": ["x"]}, {"n": 2}, {"logprobs": True}]
)
def test_whatever_shapes_the_answer_is_in_the_key(
    client: openai.OpenAI, vendor: Vendor, question: list[Any], other: dict[str, Any]
) -> None:
    ask(client, question)
    assert ask(client, question, **other)[1] == "miss"


def test_another_tenant_never_gets_it(
    client: openai.OpenAI, other_tenant: openai.OpenAI, vendor: Vendor, question: list[Any]
) -> None:
    """F1."""
    ask(client, question)
    assert ask(other_tenant, question)[1] == "miss"
    assert len(vendor.requests) == 2


@pytest.mark.parametrize("behaviour", [
    {"finish": "length"}, {"finish": "content_filter"}, {"die_after": 4}, {"die_after": 4, "how": "end"},
])  # fmt: skip
def test_what_did_not_end_by_itself_is_not_kept(
    client: openai.OpenAI, vendor: Vendor, question: list[Any], behaviour: dict[str, Any]
) -> None:
    """F4."""
    vendor.behaviours["cached"] = behaviour
    try:
        list(client.chat.completions.create(model="cached", messages=question, stream=True))
    except openai.APIError:
        assert "die_after" in behaviour
    vendor.behaviours.clear()
    assert ask(client, question) == ("echo: " + question[0]["content"], "miss")


def test_errors_are_not_kept(client: openai.OpenAI, vendor: Vendor, question: list[Any]) -> None:
    vendor.behaviours["cached"] = {"status": 500}
    with pytest.raises(openai.InternalServerError):
        ask(client, question)
    vendor.behaviours.clear()
    assert ask(client, question)[1] == "miss"


def test_cache_control_of_the_caller(client: openai.OpenAI, vendor: Vendor, question: list[Any]) -> None:
    ask(client, question)
    ask(client, question, extra_headers={"cache-control": "no-cache"})
    ask(client, question, extra_headers={"cache-control": "no-store"})
    assert len(vendor.requests) == 3
    assert ask(client, question)[1] == "hit"


async def test_many_identical_calls_at_once_make_one_upstream_call(
    aclient: openai.AsyncOpenAI, vendor: Vendor, question: list[Any]
) -> None:
    vendor.behaviours["cached"] = {"delay": 0.5}

    async def one(number: int) -> str | None:
        if number % 2:
            answer = await aclient.chat.completions.create(model="cached", messages=question)
            return answer.choices[0].message.content
        stream = await aclient.chat.completions.create(model="cached", messages=question, stream=True)
        return "".join([chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices])

    told = await asyncio.gather(*(one(number) for number in range(50)))
    assert set(told) == {"echo: " + question[0]["content"]}
    assert len(vendor.requests) == 1


async def test_the_others_are_answered_when_the_first_one_leaves(
    gateway: GatewayProcess, aclient: openai.AsyncOpenAI, vendor: Vendor, question: list[Any]
) -> None:
    vendor.behaviours["cached"] = {"delay": 1.0}
    leader = asyncio.create_task(aclient.chat.completions.create(model="cached", messages=question))
    await asyncio.to_thread(until, lambda: vendor.requests)
    followers = [
        asyncio.create_task(aclient.chat.completions.create(model="cached", messages=question)) for _ in range(5)
    ]
    before = await asyncio.to_thread(until, lambda: gateway.clients() >= 6 and gateway.clients())
    leader.cancel()
    await asyncio.to_thread(until, lambda: gateway.clients() < before)
    told = [(await follower).choices[0].message.content for follower in followers]
    assert told == ["echo: " + question[0]["content"]] * 5
    assert len(vendor.requests) == 1


async def test_the_upstream_call_ends_when_all_have_left(
    aclient: openai.AsyncOpenAI, vendor: Vendor, question: list[Any]
) -> None:
    vendor.behaviours["cached"] = {"delay": 20}
    callers = [
        asyncio.create_task(aclient.chat.completions.create(model="cached", messages=question)) for _ in range(3)
    ]
    await asyncio.to_thread(until, lambda: vendor.requests)
    for caller in callers:
        caller.cancel()
    await asyncio.gather(*callers, return_exceptions=True)
    await asyncio.to_thread(until, lambda: vendor.requests[0].closed_at is not None)
    assert len(vendor.requests) == 1


async def test_a_failure_is_told_to_all_who_waited_for_it(
    aclient: openai.AsyncOpenAI, vendor: Vendor, question: list[Any]
) -> None:
    vendor.behaviours["cached"] = {"delay": 0.5, "status": 500}
    calls = (aclient.chat.completions.create(model="cached", messages=question) for _ in range(10))
    told = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(error) for error in told] == [openai.InternalServerError] * 10
    assert len(vendor.requests) == 1


def test_embeddings_are_not_mixed_with_answers(http: httpx.Client, question: list[Any]) -> None:
    """A cached chat model is asked for embeddings: whatever comes, it is no chat completion out of the cache."""
    http.post("/v1/chat/completions", json={"model": "cached", "messages": question})
    answer = http.post("/v1/embeddings", json={"model": "cached", "input": json.dumps(question)})
    assert answer.json().get("object") == "list"


@pytest.mark.parametrize("stream", [True, False])
async def test_an_answer_too_large_to_keep_is_shared_whole_by_those_who_began_together(
    aclient: openai.AsyncOpenAI, vendor: Vendor, question: list[Any], stream: bool
) -> None:
    vendor.behaviours["cached"] = {"delay": 0.3, "text": "tell me more " * 5_000, "repeat": 200, "piece": 65_000}
    whole = 13 * 5_000 * 200

    async def one(pause: float) -> int:
        if not stream:
            answer = await aclient.chat.completions.create(model="cached", messages=question)
            return len(answer.choices[0].message.content)
        size = 0
        async for chunk in await aclient.chat.completions.create(model="cached", messages=question, stream=True):
            size += len(chunk.choices[0].delta.content or "")
            await asyncio.sleep(pause)
        return size

    assert await asyncio.gather(one(0), one(0.005), one(0)) == [whole] * 3
    assert len(vendor.requests) == 1
