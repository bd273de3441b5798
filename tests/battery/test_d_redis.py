"""D3 and D4: Redis is stopped, or hangs, under load. Calls go on by each process's own counts, and come back to Redis."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from typing import Any

import httpx
import pytest
from gateway_process import GatewayProcess, until
from redis_process import RedisProcess
from sample_gateway import key_entry
from upstream.vendor import Vendor

COST = 15e-6  # of a call, as tests/battery/test_e_limits.py reckons it


def key(name: str) -> str:
    return f"sk-gw-canary-{name}"


def configuration(vendor: Vendor, redis: RedisProcess, on_failure: str) -> dict[str, Any]:
    return {
        "access": {
            "open_on_loopback": False,
            "keys": [
                key_entry("busy", key("busy"), tenant="busy"),
                key_entry("few", key("few"), tenant="few", limits={"requests_per_minute": 10}),
                key_entry("poor", key("poor"), tenant="poor", limits={"budget": 5 * COST, "budget_period": "month"}),
                key_entry("free", key("free"), tenant="free"),
            ],
        },
        # Longer than the default, for machines that have other work: 50 ms may pass there before Redis is asked.
        "state": {"url": redis.url, "on_failure": on_failure, "local_share": 0.5, "deadline": "500ms"},
        "limits": [
            {
                "per": ["tenant"],
                "when": {"tenant": "busy"},
                "requests_per_minute": 100_000,
                "tokens_per_minute": 10_000_000,
                "concurrency": 1_000,
                "budget": 100,
            }
        ],
        "providers": {
            "mock": {
                "kind": "openai_compatible",
                "base_url": vendor.url,
                "api_key": vendor.api_key,
                "prices": {"*": {"input": 1.0, "output": 2.0}},
            }
        },
        "models": {"plain": {"targets": ["mock/gpt-mock"]}},
    }


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisProcess]:
    with RedisProcess(tmp_path_factory.mktemp("redis")) as running:
        yield running


@pytest.fixture(scope="module")
def gateways(
    redis: RedisProcess, shared_vendor: Vendor, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, GatewayProcess]]:
    folder = tmp_path_factory.mktemp("gateways")
    with ExitStack() as stack:
        yield {
            how: stack.enter_context(GatewayProcess(configuration(shared_vendor, redis, how), folder / how))
            for how in ("local", "refuse")
        }


def call(gateway: GatewayProcess, name: str) -> httpx.Response:
    return httpx.post(gateway.url + "/v1/chat/completions", json=BODY, headers=bearer(name), timeout=10)


def bearer(name: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key(name)}"}


BODY: dict[str, Any] = {"model": "plain", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}


@asynccontextmanager
async def load(gateway: GatewayProcess) -> AsyncIterator[list[tuple[httpx.Response, float]]]:
    """Calls of several clients, one after the other each, for as long as the context lasts."""
    answers: list[tuple[httpx.Response, float]] = []
    going = True

    async def calls(client: httpx.AsyncClient) -> None:
        while going:
            began = time.perf_counter()
            answer = await client.post(gateway.url + "/v1/chat/completions", json=BODY, headers=bearer("busy"))
            answers.append((answer, time.perf_counter() - began))

    async with httpx.AsyncClient(timeout=10) as client:
        clients = [asyncio.ensure_future(calls(client)) for _ in range(4)]
        try:
            yield answers
        finally:
            going = False
            await asyncio.gather(*clients)


def degraded(answer: httpx.Response) -> bool:
    return "limits" in answer.headers.get("x-gateway-degraded", "")


async def soon(condition: Any, what: str) -> None:
    for _ in range(2_000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError(f"{what} did not come")


@pytest.mark.parametrize("how", ["stopped", "hung"])
async def test_d3_d4_redis_away_under_load_costs_no_call(
    gateways: dict[str, GatewayProcess], redis: RedisProcess, vendor: Vendor, how: str
) -> None:
    gateway = gateways["local"]
    async with load(gateway) as answers:
        await soon(lambda: len(answers) > 20 and not degraded(answers[-1][0]), "load")
        redis.stop() if how == "stopped" else redis.hang()
        before = len(answers)
        await soon(lambda: len(answers) > before + 20 and degraded(answers[-1][0]), "answers without Redis")
        assert httpx_ready(gateway) == "degraded"
        redis.start() if how == "stopped" else redis.wake()
        await soon(lambda: not degraded(answers[-1][0]), "the way back")
        before = len(answers)
        await soon(lambda: len(answers) > before + 20, "answers with Redis")
    assert {answer.status_code for answer, _ in answers} == {200}
    # Only those that were on their way when it went have waited for it: most of the others were quicker than that.
    late = sorted(took for answer, took in answers if degraded(answer))
    assert late[len(late) // 2] < 0.5
    assert "Traceback" not in gateway.output, gateway.output


def httpx_ready(gateway: GatewayProcess) -> str:
    return str(httpx.get(gateway.url + "/readyz", timeout=5).json()["status"])


def test_d3_without_redis_a_process_grants_its_share_and_what_was_spent_stays_spent(
    gateways: dict[str, GatewayProcess], redis: RedisProcess, vendor: Vendor
) -> None:
    gateway = gateways["local"]
    until(lambda: not degraded(call(gateway, "busy")), what="Redis")  # a test before may have stopped it
    assert [call(gateway, "poor").status_code for _ in range(7)] == [200] * 5 + [429] * 2
    assert call(gateway, "few").status_code == 200
    redis.stop()
    try:
        until(lambda: degraded(call(gateway, "busy")), what="Redis away")
        assert Counter(call(gateway, "few").status_code for _ in range(12)) == {200: 4, 429: 8}  # 5 with the one before
        assert call(gateway, "poor").json()["error"]["code"] == "insufficient_quota"
    finally:
        redis.start()
    until(lambda: not degraded(call(gateway, "busy")), what="Redis back")
    # It has forgotten everything: what was spent comes from the record store, what was used from the process.
    assert call(gateway, "poor").json()["error"]["code"] == "insufficient_quota"
    assert sum(call(gateway, "few").status_code == 200 for _ in range(12)) <= 6


def test_on_failure_refuse_refuses_what_is_limited_and_nothing_else(
    gateways: dict[str, GatewayProcess], redis: RedisProcess, vendor: Vendor
) -> None:
    gateway = gateways["refuse"]
    until(lambda: call(gateway, "busy").status_code == 200, what="Redis")  # a test before may have stopped it
    redis.stop()
    try:
        until(lambda: call(gateway, "busy").status_code == 503, what="Redis away")
        refused = call(gateway, "busy")
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "limits_unavailable")
        assert refused.headers["retry-after"] == "1"
        assert call(gateway, "free").status_code == 200
    finally:
        redis.start()
    until(lambda: call(gateway, "busy").status_code == 200, what="Redis back")
