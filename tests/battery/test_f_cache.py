"""F1 and F4: nobody gets another tenant's answer out of the cache, and nothing that is no good answer gets into it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import httpx
import pytest
from gateway_process import GatewayProcess, events_of, until
from sample_gateway import KEY_A, KEY_B, plain_configuration
from upstream.vendor import Vendor
from upstream.webhook import Webhook

TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}


class ChangingMind(Webhook):
    """A guardrail service that comes to find a word it did not mind before."""

    minds = ""

    def answer(self, body: dict[str, Any], headers: dict[str, str]) -> tuple[int, bytes]:
        status, told = super().answer(body, headers)
        if status != 200 or not self.minds:
            return status, told
        found = [
            [{"kind": "minded", "start": at, "end": at + len(self.minds), "score": 1.0}] if at >= 0 else []
            for at in (text.find(self.minds) for text in body["texts"])
        ]
        return 200, json.dumps({"findings": found}).encode()


def configuration(vendor: Vendor, webhook: Webhook) -> dict[str, Any]:
    made = plain_configuration(vendor)
    hook = {"check": "webhook", "name": "hook", "headers": {"x-secret": "hook-secret"}, "url": webhook.url}
    cache = {"exact": {"ttl": "1h"}}
    guarded = {"targets": ["patient/cached"], "cache": cache}
    made["models"] |= {
        "hooked": {**guarded, "guardrails": {"output": [hook]}},
        "hook-open": {**guarded, "guardrails": {"output": [{**hook, "on_failure": "continue"}]}},
        "unscreened": {
            **guarded, "cache": {"exact": {"ttl": "1h", "recheck": False}}, "guardrails": {"output": [hook]},
        },
        "worded": {
            **guarded,
            "guardrails": {"output": [{"check": "keywords", "lists": [{"kind": "k", "words": ["forbidden"]}]}]},
        },
    }  # fmt: skip
    return made


@pytest.fixture(scope="module")
def webhook() -> Iterator[ChangingMind]:
    with ChangingMind() as running:
        yield running


@pytest.fixture(scope="module")
def running(
    shared_vendor: Vendor, webhook: ChangingMind, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GatewayProcess]:
    with GatewayProcess(configuration(shared_vendor, webhook), tmp_path_factory.mktemp("cached")) as gateway:
        yield gateway
    assert "Traceback" not in gateway.output, gateway.output


@pytest.fixture
def http(running: GatewayProcess, vendor: Vendor, webhook: ChangingMind) -> Iterator[httpx.Client]:
    webhook.how, webhook.minds = "ok", ""
    webhook.asked.clear()
    with httpx.Client(
        base_url=running.url, headers={"authorization": f"Bearer {KEY_A}"}, timeout=20, trust_env=False
    ) as made:
        yield made


@pytest.fixture
def question() -> str:
    return f"canary {uuid4()}"


def ask(http: httpx.Client, question: str, *, model: str = "cached", key: str = KEY_A, **more: Any) -> httpx.Response:
    body = {"model": model, "messages": [{"role": "user", "content": question}], **more}
    return http.post("/v1/chat/completions", json=body, headers={"authorization": f"Bearer {key}"})


def record(http: httpx.Client, answer: httpx.Response, key: str = KEY_A) -> dict[str, Any]:
    where, headers = "/v1/calls/" + answer.headers["x-gateway-call-id"], {"authorization": f"Bearer {key}"}
    return until(lambda: (found := http.get(where, headers=headers)).status_code == 200 and found.json())


# --- F1 -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("stream", [False, True])
def test_f1_b_gets_nothing_that_a_s_call_has_made(
    http: httpx.Client, vendor: Vendor, question: str, stream: bool
) -> None:
    """Neither the entry nor a sign that there is one: not in a header, not in a key, not in a record."""
    vendor.behaviours["cached"] = {"text": "the answer of a"}
    first = ask(http, question)
    vendor.behaviours["cached"] = {"text": "the answer of b"}
    others = ask(http, question, key=KEY_B, stream=stream)
    assert others.headers["x-gateway-cache"] == "miss"
    assert "age" not in others.headers
    assert "answer of a" not in others.text
    assert len(vendor.requests) == 2
    assert ask(http, question).json()["choices"][0]["message"]["content"] == "the answer of a"
    one, other = record(http, first)["cache_decision"], record(http, others, KEY_B)["cache_decision"]
    assert one["key"] != other["key"]
    assert not set(one["parts"].values()) & set(other["parts"].values())
    where = "/v1/calls/" + first.headers["x-gateway-call-id"]
    assert http.get(where, headers={"authorization": f"Bearer {KEY_B}"}).status_code == 404


def test_f1_no_wish_of_a_caller_reaches_beyond_its_tenant(http: httpx.Client, vendor: Vendor, question: str) -> None:
    ask(http, question)
    wishes = [
        {"x-gateway-cache": "threshold=0"}, {"cache-control": "max-age=999999"}, {"x-tenant": "a"},
        {"cache-control": "only-if-cached"},
    ]  # fmt: skip
    body = {"model": "cached", "messages": [{"role": "user", "content": question}], "user": "a", "tenant": "a"}
    for wish in wishes:
        told = http.post("/v1/chat/completions", json=body, headers={"authorization": f"Bearer {KEY_B}", **wish})
        assert told.headers["x-gateway-cache"] != "hit"
        vendor.requests.clear()
        body["messages"][0]["content"] += " "  # type: ignore[index]  # a list of messages


# --- F4 -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("behaviour", [
    {"finish": "length"}, {"finish": "content_filter"}, {"status": 500}, {"status": 429}, {"die_after": 4},
    {"die_after": 4, "how": "end"}, {"text": ""}, {"text": "this is forbidden"},
], ids=str)  # fmt: skip
def test_f4_what_is_no_good_answer_is_never_given_again(
    http: httpx.Client, vendor: Vendor, question: str, behaviour: dict[str, Any], stream: bool
) -> None:
    model = "worded" if "forbidden" in str(behaviour) else "cached"
    vendor.behaviours["cached"] = behaviour
    with contextlib.suppress(httpx.HTTPError):
        ask(http, question, model=model, stream=stream or "die_after" in behaviour)  # which is about streams
    vendor.behaviours.clear()
    again = ask(http, question, model=model)
    assert again.headers["x-gateway-cache"] == "miss"
    assert again.json()["choices"][0]["message"]["content"] == "echo: " + question


@pytest.mark.parametrize("stream", [False, True])
def test_f4_answers_that_call_tools_are_never_given_again(
    http: httpx.Client, vendor: Vendor, question: str, stream: bool
) -> None:
    kinds = [ask(http, question, tools=[TOOL], stream=stream).headers["x-gateway-cache"] for _ in range(2)]
    assert kinds == ["miss", "miss"]


def test_f4_what_a_caller_has_left_half_way_is_never_given_again(
    http: httpx.Client, running: GatewayProcess, vendor: Vendor, question: str
) -> None:
    vendor.behaviours["cached"] = {"gap": 0.2}
    body = {"model": "cached", "messages": [{"role": "user", "content": question}], "stream": True}
    with http.stream("POST", "/v1/chat/completions", json=body) as response:
        next(response.iter_lines())
    until(lambda: not vendor.unsettled, what="the end of the upstream call")
    vendor.behaviours.clear()
    assert ask(http, question).headers["x-gateway-cache"] == "miss"


def test_f4_an_answer_let_go_without_its_guardrail_is_not_kept(
    http: httpx.Client, webhook: ChangingMind, question: str
) -> None:
    webhook.how = "http 500"
    assert ask(http, question, model="hook-open").headers["x-gateway-degraded"] == "guardrails.hook"
    webhook.how = "ok"
    assert ask(http, question, model="hook-open").headers["x-gateway-cache"] == "miss"
    assert ask(http, question, model="hook-open").headers["x-gateway-cache"] == "hit"


@pytest.mark.parametrize("stream", [False, True])
def test_f4_the_guardrail_looks_at_a_hit_again(
    http: httpx.Client, vendor: Vendor, webhook: ChangingMind, question: str, stream: bool
) -> None:
    """What it would not let out today is not given, and not kept any longer."""
    kinds = [ask(http, question, model="hooked").headers["x-gateway-cache"] for _ in range(2)]
    assert kinds == ["miss", "hit"]
    assert len(webhook.asked) == 2
    webhook.minds = "canary"
    vendor.behaviours["cached"] = {"text": "something harmless"}
    made_anew = ask(http, question, model="hooked", stream=stream)
    assert made_anew.headers["x-gateway-cache"] == "miss"
    assert "canary" not in made_anew.text
    assert "harmless" in "".join(_words(made_anew, stream))
    webhook.minds = ""
    assert "harmless" in ask(http, question, model="hooked").text


def test_f4_a_hit_whose_guardrail_is_away_is_refused_as_any_answer_is(
    http: httpx.Client, webhook: ChangingMind, question: str
) -> None:
    ask(http, question, model="hooked")
    webhook.how = "http 500"
    assert ask(http, question, model="hooked").status_code == 503


def test_f4_whoever_trusts_the_first_verdict_may_say_so(
    http: httpx.Client, webhook: ChangingMind, question: str
) -> None:
    ask(http, question, model="unscreened")
    webhook.minds = "canary"
    assert ask(http, question, model="unscreened").headers["x-gateway-cache"] == "hit"
    assert len(webhook.asked) == 1


def _words(answer: httpx.Response, stream: bool) -> Iterator[str]:
    if not stream:
        yield answer.json()["choices"][0]["message"]["content"]
        return
    for event in events_of(answer.content):
        if event != "[DONE]":
            yield from (choice["delta"].get("content") or "" for choice in event["choices"])
