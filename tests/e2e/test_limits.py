"""Limits and budgets through a gateway: every endpoint, the headers, targets' own limits, who pays what."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from click.testing import CliRunner
from gateway_process import GatewayProcess, until
from sample_gateway import key_entry
from upstream.vendor import Vendor

from gateway.cli import main

HELLO: list[Any] = [{"role": "user", "content": "hi"}]
CALL = 15e-6  # USD: the vendor tells of 11 tokens in and 2 out, at 1 and 2 USD a million

ENDPOINTS: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"model": "plain", "messages": HELLO},
    "/v1/completions": {"model": "plain", "prompt": "hi"},
    "/v1/messages": {"model": "plain", "messages": HELLO, "max_tokens": 10},
    "/v1/responses": {"model": "plain", "input": "hi"},
    "/v1/embeddings": {"model": "embedder", "input": "hi"},
    "/v1/rerank": {"model": "reranker", "query": "hi", "documents": ["a", "b"]},
    "/v1/moderations": {"model": "moderator", "input": "hi"},
}


def key(name: str) -> str:
    return f"sk-gw-canary-{name}"


def configuration(vendor: Vendor) -> dict[str, Any]:
    mock = {
        "kind": "openai_compatible",
        "base_url": vendor.url,
        "api_key": vendor.api_key,
        "prices": {"*": {"input": 1.0, "output": 2.0}},
        "retries": {"attempts": 0},
    }
    return {
        "access": {
            "open_on_loopback": False,
            "user_header": "x-user",
            "keys": [
                *(key_entry(f"of {path}", key(path), limits={"requests_per_minute": 1}) for path in ENDPOINTS),
                key_entry("sdk", key("sdk"), limits={"requests_per_minute": 3, "tokens_per_minute": 500}),
                key_entry("spender", key("spender"), limits={"budget": 2 * CALL, "budget_period": "day"}),
                key_entry("payer", key("payer"), tenant="payer", limits={"budget": 1}),
                key_entry("speaker", key("speaker"), tenant="many", speaks_for_users=True),
                key_entry("teller", key("teller"), tenant="many-2"),
                key_entry("sharer", key("sharer"), tenant="sharer", limits={"budget": 1, "tokens_per_day": 100_000}),
                key_entry("cutter", key("cutter"), tenant="cutter", limits={"tokens_per_day": 100_000}),
                key_entry("any", key("any")),
                key_entry("admin", key("admin"), admin=True),
            ],
        },
        "limits": [
            {"per": ["user", "model"], "when": {"tenant": "many"}, "requests_per_minute": 2},
            {"per": ["tenant"], "when": {"tenant": "many-2"}, "requests_per_day": 42},
            {"per": ["target"], "when": {"target": "narrow/one"}, "concurrency": 1},
            {"per": ["target"], "when": {"target": "mock/kept"}, "concurrency": 1},
            {"per": ["target"], "when": {"target": "narrow/two"}, "requests_per_minute": 2, "tokens_per_minute": 5000},
        ],
        "charging": {"own_calls": {"shadow": "caller"}},
        "providers": {"mock": mock, "narrow": mock},
        "models": {
            "plain": {"targets": ["mock/gpt-mock"]},
            "embedder": {"targets": ["mock/mock-embed"]},
            "reranker": {"targets": ["mock/mock-rerank"]},
            "moderator": {"targets": ["mock/mock-moderate"]},
            "narrow": {"targets": ["narrow/one"], "fallbacks": ["narrow/two"]},
            "kept": {"targets": ["mock/kept"], "cache": {"exact": {"ttl": "1h"}}},
            "judged": {
                "targets": ["mock/one", "mock/two"],
                "strategy": {"kind": "best_of", "n": 2, "choose": "judge", "judge": "mock/wise"},
            },
            "shadowed": {"targets": ["mock/gpt-mock", "mock/shadow"], "strategy": {"kind": "shadow", "share": 1.0}},
        },
    }


@pytest.fixture(scope="module")
def limited(shared_vendor: Vendor, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    with GatewayProcess(configuration(shared_vendor), tmp_path_factory.mktemp("limited")) as running:
        yield running
    assert "Traceback" not in running.output, running.output


def post(gateway: GatewayProcess, name: str, path: str, body: dict[str, Any], **headers: str) -> httpx.Response:
    told = {"authorization": f"Bearer {key(name)}", **headers}
    return httpx.post(gateway.url + path, json=body, headers=told, timeout=20)


def standing(gateway: GatewayProcess, name: str) -> list[dict[str, Any]]:
    answer = httpx.get(gateway.url + "/v1/limits", headers={"authorization": f"Bearer {key(name)}"})
    assert answer.status_code == 200
    return list(answer.json()["data"])


@pytest.mark.parametrize("path", ENDPOINTS)
def test_every_endpoint_has_the_same_limits(limited: GatewayProcess, vendor: Vendor, path: str) -> None:
    first = post(limited, path, path, ENDPOINTS[path])
    assert first.status_code == 200, first.text
    assert first.headers["x-ratelimit-remaining-requests"] == "0"
    second = post(limited, path, path, ENDPOINTS[path])
    assert second.status_code == 429
    assert 55 <= int(second.headers["retry-after"]) <= 60
    assert "rate_limit_error" in second.text
    assert len(vendor.requests) == 1
    (row,) = standing(limited, path)
    assert (row["limit"], row["most"], row["used"], row["left"]) == ("requests_per_minute", 1, 1, 0)


def test_openais_client_reads_what_is_left(limited: GatewayProcess, vendor: Vendor) -> None:
    with openai.OpenAI(base_url=limited.url + "/v1", api_key=key("sdk"), max_retries=0) as client:
        told = client.chat.completions.with_raw_response.create(model="plain", messages=HELLO, max_tokens=100)
        headers = told.headers
        assert headers["x-ratelimit-limit-requests"] == "3"
        assert headers["x-ratelimit-remaining-requests"] == "2"
        assert headers["x-ratelimit-reset-requests"] in ("1m0s", "59s", "60s")
        assert headers["x-ratelimit-limit-tokens"] == "500"
        assert headers["x-ratelimit-remaining-tokens"] == str(500 - 100 - 11)  # as reserved
        with pytest.raises(openai.RateLimitError, match="too large") as too_large:
            client.chat.completions.create(model="plain", messages=HELLO, max_tokens=600)
        assert too_large.value.response.headers["x-should-retry"] == "false"
        assert "retry-after" not in too_large.value.response.headers
        # The first call's 13 tokens are settled: all that it did not use can be asked for.
        client.chat.completions.create(model="plain", messages=HELLO, max_tokens=500 - 13 - 11)
        with pytest.raises(openai.RateLimitError) as refused:
            client.chat.completions.create(model="plain", messages=HELLO, max_tokens=500 - 13 - 11)
        assert (refused.value.type, refused.value.code) == ("rate_limit_error", "rate_limit_exceeded")
        assert "tokens per minute" in refused.value.message
        assert 50 <= int(refused.value.response.headers["retry-after"]) <= 60


def test_a_spent_budget_is_refused_until_its_period_ends(limited: GatewayProcess, vendor: Vendor) -> None:
    body = {**ENDPOINTS["/v1/chat/completions"], "max_tokens": 2}
    assert [post(limited, "spender", "/v1/chat/completions", body).status_code for _ in range(3)] == [200, 200, 429]
    refused = post(limited, "spender", "/v1/chat/completions", body)
    assert refused.json()["error"]["code"] == refused.json()["error"]["type"] == "insufficient_quota"
    assert refused.headers["x-should-retry"] == "false"
    assert 0 < int(refused.headers["retry-after"]) <= 86_400
    assert len(vendor.requests) == 2
    (row,) = standing(limited, "spender")
    assert (row["limit"], round(row["used"], 9), row["reserved"], row["left"]) == ("budget_per_day", 30e-6, 0, 0)
    # A call that is refused is on record, and counted.
    call = httpx.get(
        f"{limited.url}/v1/calls/{refused.headers['x-gateway-call-id']}",
        headers={"authorization": f"Bearer {key('spender')}"},
    ).json()
    assert (call["status"], call["error"]["code"], call["cost"]) == (429, "insufficient_quota", None)
    metrics = httpx.get(limited.url + "/metrics", headers={"authorization": f"Bearer {key('admin')}"}).text
    assert 'rag_gateway_limited_total{limit="budget_per_day",per="key"}' in metrics


def test_the_command_line_tells_what_is_left(limited: GatewayProcess, vendor: Vendor) -> None:
    assert post(limited, "teller", "/v1/chat/completions", ENDPOINTS["/v1/chat/completions"]).status_code == 200

    def told(*arguments: str) -> str:
        asked = CliRunner().invoke(main, ["limits", "--url", limited.url, *arguments])
        assert asked.exit_code == 0, asked.output
        return asked.output

    for line in (told("--own", "--api-key", key("teller")), told("--tenant", "many-2", "--api-key", key("admin"))):
        assert "requests_per_day" in line
        assert "41" in line
    assert json.loads(told("--own", "--json", "--api-key", key("teller")))["data"][0]["left"] == 41


def test_users_are_counted_apart_and_so_are_models(limited: GatewayProcess, vendor: Vendor) -> None:
    body = ENDPOINTS["/v1/chat/completions"]

    def statuses(user: str, path: str = "/v1/chat/completions", body: dict[str, Any] = body) -> list[int]:
        return [post(limited, "speaker", path, body, **{"x-user": user}).status_code for _ in range(3)]

    assert statuses("jo") == [200, 200, 429]
    assert statuses("al") == [200, 200, 429]
    assert statuses("jo", "/v1/embeddings", ENDPOINTS["/v1/embeddings"]) == [200, 200, 429]
    rows = httpx.get(
        limited.url + "/admin/limits", params={"user": "jo"}, headers={"authorization": f"Bearer {key('admin')}"}
    ).json()["data"]
    assert [(row["of"], row["used"]) for row in rows] == [
        ({"model": "plain", "tenant": "many", "user": "jo"}, 2),
        ({"model": "embedder", "tenant": "many", "user": "jo"}, 2),
    ]


async def test_a_target_at_its_limit_is_passed_over_and_all_of_them_are_a_429(
    limited: GatewayProcess, vendor: Vendor
) -> None:
    vendor.behaviours["one"] = {"delay": 0.6}
    body = {"model": "narrow", "messages": HELLO, "max_tokens": 2}
    async with httpx.AsyncClient(headers={"authorization": f"Bearer {key('any')}"}, timeout=20) as client:

        async def call() -> httpx.Response:
            return await client.post(limited.url + "/v1/chat/completions", json=body)

        first = asyncio.ensure_future(call())
        while not vendor.requests:
            await asyncio.sleep(0.005)
        others = [await call() for _ in range(3)]
        assert [answer.headers.get("x-gateway-target") for answer in others] == ["narrow/two", "narrow/two", None]
        assert [answer.status_code for answer in others] == [200, 200, 429]
        assert others[2].json()["error"]["code"] == "rate_limit_exceeded"
        assert others[2].headers["retry-after"] == "1"  # the first target's place may be free at any time
        answered = await first
        assert answered.headers["x-gateway-target"] == "narrow/one"
        vendor.behaviours.clear()
        assert (await call()).headers["x-gateway-target"] == "narrow/one"
    assert [seen.body["model"] for seen in vendor.requests] == ["one", "two", "two", "one"]


def test_copies_to_shadow_targets_are_the_callers_where_the_configuration_says_so(
    limited: GatewayProcess, vendor: Vendor
) -> None:
    answer = post(limited, "payer", "/v1/chat/completions", {"model": "shadowed", "messages": HELLO, "max_tokens": 2})
    assert answer.status_code == 200
    until(lambda: round(standing(limited, "payer")[0]["used"], 9) == round(2 * CALL, 9), what="both charged")
    assert standing(limited, "payer")[0]["reserved"] == 0


def test_reranking_is_charged_by_the_tokens_that_its_provider_tells_in_all(
    limited: GatewayProcess, vendor: Vendor
) -> None:
    before = standing(limited, "sharer")
    assert post(limited, "sharer", "/v1/rerank", ENDPOINTS["/v1/rerank"]).status_code == 200
    assert _used(limited, "sharer", before) == (9, 9e-6)
    vendor.behaviours["mock-rerank"] = {"spoil": _by_the_search}
    before = standing(limited, "sharer")
    assert post(limited, "sharer", "/v1/rerank", ENDPOINTS["/v1/rerank"]).status_code == 200
    assert _used(limited, "sharer", before) == (6, 6e-6)  # as reserved, where no tokens are told


def _by_the_search(document: dict[str, Any]) -> dict[str, Any]:
    return {**document, "usage": {"search_units": 1}}


def test_generations_are_charged_whose_judge_failed(limited: GatewayProcess, vendor: Vendor) -> None:
    vendor.behaviours["wise"] = {"status": 400}
    before = standing(limited, "sharer")
    body = {"model": "judged", "messages": HELLO}
    assert post(limited, "sharer", "/v1/chat/completions", body).status_code >= 400
    assert _used(limited, "sharer", before) == (26, 2 * CALL)


async def _left(gateway: GatewayProcess, name: str, body: dict[str, Any], pieces: int) -> None:
    """A stream whose reader goes after so many events."""
    async with (
        httpx.AsyncClient(timeout=20, headers={"authorization": f"Bearer {key(name)}"}) as client,
        client.stream("POST", gateway.url + "/v1/chat/completions", json={**body, "stream": True}) as answer,
    ):
        assert answer.status_code == 200
        seen = 0
        async for line in answer.aiter_lines():
            seen += line.startswith("data: ")
            if seen == pieces:
                return


@pytest.mark.parametrize("how", ["before the answer", "amid it"])
async def test_who_stays_pays_for_a_shared_answer_whose_first_caller_left(
    limited: GatewayProcess, vendor: Vendor, how: str
) -> None:
    early = how == "before the answer"
    vendor.behaviours["kept"] = {"delay": 0.5} if early else {"gap": 0.1}
    body = {"model": "kept", "messages": [{"role": "user", "content": f"one two three four five: {how}"}]}
    before = standing(limited, "sharer")
    headers = {"authorization": f"Bearer {key('sharer')}"}
    async with httpx.AsyncClient(timeout=20, headers=headers, base_url=limited.url) as client:
        first = asyncio.ensure_future(_left(limited, "sharer", body, 3))
        while not vendor.requests:
            await asyncio.sleep(0.005)
        stays = asyncio.ensure_future(client.post("/v1/chat/completions", json={**body, "stream": True}))
        while await asyncio.to_thread(_running, limited) < 2:
            await asyncio.sleep(0.005)
        if early:
            first.cancel()
        await asyncio.wait([first])
        answer = await stays
    assert answer.status_code == 200
    assert "[DONE]" in answer.text
    assert len(vendor.requests) == 1
    words = len(f"echo: one two three four five: {how}".split())
    until(lambda: _used(limited, "sharer", before) == (11 + words, round(11e-6 + words * 2e-6, 9)), what="charged once")
    vendor.behaviours.clear()
    # And what the first one's call held of the target is free.
    again = {"model": "kept", "messages": [{"role": "user", "content": f"another one: {how}"}]}
    assert post(limited, "any", "/v1/chat/completions", again).status_code == 200


async def test_callers_that_leave_a_shared_answer_before_it_has_begun_pay_for_one_question(
    limited: GatewayProcess, vendor: Vendor
) -> None:
    vendor.behaviours["kept"] = {"delay": 20}
    body = {"model": "kept", "messages": [{"role": "user", "content": "left by all"}]}
    before = standing(limited, "sharer")
    calls = [asyncio.ensure_future(_left(limited, "sharer", body, 1)) for _ in range(2)]
    while not vendor.requests or await asyncio.to_thread(_running, limited) < 2:
        await asyncio.sleep(0.005)
    for call in calls:
        call.cancel()
    await asyncio.wait(calls)
    prompt = len('[{"role":"user","content":"left by all"}]') // 3 + 1
    until(lambda: _running(limited) == 0, what="both gone")
    assert _used(limited, "sharer", before) == (prompt, round(prompt * 1e-6, 9))


def _used(gateway: GatewayProcess, name: str, before: list[dict[str, Any]]) -> tuple[int, float]:
    now = {row["limit"]: row["used"] for row in standing(gateway, name)}
    was = {row["limit"]: row["used"] for row in before}
    return now["tokens_per_day"] - was["tokens_per_day"], round(now["budget_per_month"] - was["budget_per_month"], 9)


def _running(gateway: GatewayProcess) -> int:
    told = httpx.get(gateway.url + "/metrics", headers={"authorization": f"Bearer {key('admin')}"}).text
    return int(
        sum(float(line.split()[-1]) for line in told.splitlines() if line.startswith("rag_gateway_calls_in_progress"))
    )


@pytest.mark.parametrize("what", ["calls of tools", "reasoning", "large pieces"])
async def test_a_stream_that_its_reader_left_is_charged_whatever_it_was_of(
    limited: GatewayProcess, vendor: Vendor, what: str
) -> None:
    body: dict[str, Any] = {"model": "plain", "messages": HELLO}
    vendor.behaviours["gpt-mock"] = {"gap": 0.05}
    if what == "calls of tools":
        body["tools"] = [{"type": "function", "function": {"name": "weather", "parameters": {}}}]
    elif what == "large pieces":
        vendor.behaviours["gpt-mock"] |= {"text": "word " * 100, "piece": 250}
    else:
        vendor.behaviours["gpt-mock"]["spoil"] = _as_reasoning
    before = {row["limit"]: row["used"] for row in standing(limited, "cutter")}["tokens_per_day"]
    prompt = 25 if "tools" in body else 7
    least = {"calls of tools": 2, "reasoning": 1, "large pieces": 120}[what]
    await _left(limited, "cutter", body, 4)
    until(lambda: standing(limited, "cutter")[0]["used"] - before >= prompt + least, what="charged")
    assert standing(limited, "cutter")[0]["used"] - before < prompt + 2 * least + 100


def _as_reasoning(event: dict[str, Any]) -> dict[str, Any]:
    for choice in event.get("choices", ()):
        delta = choice.get("delta", {})
        delta["reasoning_content"] = delta.pop("content", None)
    return event


def test_a_killed_process_does_not_forget_what_was_spent(vendor: Vendor, tmp_path: Path) -> None:
    told = {
        **configuration(vendor),
        "records": {"durability": "strict"},
        "access": {"open_on_loopback": False, "keys": [key_entry("saver", key("saver"), limits={"budget": 3 * CALL})]},
    }
    body = {"model": "plain", "messages": HELLO, "max_tokens": 2}
    statuses = []
    first = GatewayProcess(told, tmp_path)
    first.__enter__()
    statuses += [post(first, "saver", "/v1/chat/completions", body).status_code for _ in range(2)]
    first.process.kill()
    first._close()
    with GatewayProcess(told, tmp_path) as again:
        statuses += [post(again, "saver", "/v1/chat/completions", body).status_code for _ in range(2)]
        assert round(standing(again, "saver")[0]["used"], 9) == round(3 * CALL, 9)
    assert statuses == [200, 200, 200, 429]
