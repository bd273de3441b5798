"""E1, E4, E6 with two workers of one gateway: what they grant together, and what is left when one is killed."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx
import psutil
import pytest
from gateway_process import GatewayProcess, until
from redis_process import RedisProcess
from sample_gateway import key_entry
from steady_load import CHAT, load, more, whole
from upstream.vendor import Vendor

ROUNDS = 6  # kills, of each worker in turn; the twenty of E6 are in test_e_kills.py
CALLERS = 12
PRICES = {"*": {"input": 1.0, "output": 2.0}}
COST = 15e-6  # of "hi", 11 tokens, and its echo, 2


def key(name: str) -> str:
    return f"sk-gw-canary-{name}-of-workers"


@pytest.fixture(scope="module")
def started(redis_server: RedisProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, Vendor]]:
    with Vendor() as vendor:
        mock = {"kind": "openai_compatible", "base_url": vendor.url, "api_key": vendor.api_key, "prices": PRICES}
        settings = {
            "server": {"workers": 2},
            "access": {
                "keys": [
                    key_entry("load", key("load")),
                    key_entry("race", key("race"), limits={"budget": 50 * COST}),
                    key_entry("edge", key("edge"), limits={"requests_per_minute": 20}),
                ]
            },
            "records": {"durability": "strict"},
            "state": {"url": redis_server.url, "prefix": "e-workers", "deadline": "2s"},
            "providers": {"mock": {**mock, "retries": {"attempts": 0}}},
            "models": {"plain": {"targets": ["mock/gpt-mock"]}},
        }
        with GatewayProcess(settings, tmp_path_factory.mktemp("e-workers")) as running:
            yield running, vendor
        assert "Traceback" not in running.output, running.output


@pytest.fixture
def crew(started: tuple[GatewayProcess, Vendor]) -> tuple[GatewayProcess, Vendor]:
    gateway, vendor = started
    until(lambda: whole(gateway), 60, "two workers")
    vendor.clear()
    return started


async def burst(gateway: GatewayProcess, name: str, count: int) -> list[httpx.Response]:
    """Calls at the same time, each on a connection of its own, so that both workers get some."""
    body = {"model": "plain", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}
    headers = {"authorization": f"Bearer {key(name)}"}
    limits = httpx.Limits(max_connections=count, max_keepalive_connections=0)
    async with httpx.AsyncClient(base_url=gateway.url, headers=headers, limits=limits, timeout=60) as client:
        return await asyncio.gather(*(client.post(CHAT, json=body) for _ in range(count)))


async def test_e1_a_race_for_a_budget_is_won_by_what_it_pays_for(crew: tuple[GatewayProcess, Vendor]) -> None:
    gateway, vendor = crew
    vendor.behaviours["gpt-mock"] = {"delay": 0.1}
    answers = await burst(gateway, "race", 150)
    assert Counter(answer.status_code for answer in answers) == {200: 50, 429: 100}
    assert len(vendor.requests) == 50


async def test_e4_a_burst_is_let_through_once(crew: tuple[GatewayProcess, Vendor]) -> None:
    gateway, vendor = crew
    answers = await burst(gateway, "edge", 60)
    assert Counter(answer.status_code for answer in answers) == {200: 20, 429: 40}
    assert len(vendor.requests) == 20


async def test_e6_workers_killed_in_turn_lose_and_double_no_record(crew: tuple[GatewayProcess, Vendor]) -> None:
    gateway, vendor = crew
    vendor.behaviours["gpt-mock"] = {"gap": 0.005, "piece": 4}
    async with load(gateway, key("load"), CALLERS, keep_alive=False) as told:
        for turn in range(ROUNDS):
            await asyncio.to_thread(until, lambda: whole(gateway), 60, "two workers")
            await more(told, 10)
            victim = psutil.Process((await asyncio.to_thread(gateway.workers))[turn % 2 + 1])
            victim.kill()
            await asyncio.to_thread(psutil.wait_procs, [victim], 60)
            await more(told, 10)  # by the other
    upstream = len(vendor.requests)
    answered = {call.call_id for call in told.calls if not call.fault}
    assert len(told.faults) <= ROUNDS * CALLERS
    data = gateway.folder / "data"

    def kept() -> list[str]:
        with sqlite3.connect(data / "gateway.db", timeout=5) as database:
            return [row[0] for row in database.execute("SELECT call_id FROM calls WHERE key_name = 'load'")]

    # What a killed worker had in its spool, another one brings to the store.
    await asyncio.to_thread(until, lambda: answered <= set(kept()), 60, "every answered call in the records")
    records = kept()
    assert len(records) == len(set(records))
    assert upstream - ROUNDS * CALLERS <= len(records) <= upstream
