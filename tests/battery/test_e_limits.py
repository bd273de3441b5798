"""E1-E4: limits and budgets under races, faults, repeats and at the edges of windows; two gateways over one Redis.

E5, the clock's steps, is in tests/unit/gateway/access/test_clock.py and test_counters.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from gateway_process import GatewayProcess, until
from redis import Redis
from redis_process import RedisProcess
from sample_gateway import key_entry
from upstream.vendor import Vendor

from gateway.access.callers import configured_key_id

HELLO: list[Any] = [{"role": "user", "content": "hi"}]
# What the mock vendor tells of "hi" and its echo: 11 tokens in, 2 out. At these prices that is 15 millionths of a USD,
# which is also what is reserved for a call that says max_tokens=2.
PRICES = {"*": {"input": 1.0, "output": 2.0}}
COST = 15e-6


def key(name: str) -> str:
    return f"sk-gw-canary-{name}"


def configuration(vendor: Vendor, redis: RedisProcess, database: Path, prefix: str) -> dict[str, Any]:
    mock = {
        "kind": "openai_compatible", "base_url": vendor.url, "api_key": vendor.api_key, "prices": PRICES,
        "timeouts": {"connect": "2s", "first_token": "20s", "between_tokens": "2s", "total": "40s"},
        "retries": {"attempts": 1, "backoff": "1ms", "max_backoff": "10ms"},
        "circuit": {"failures": 1_000_000, "within": "1h", "pause": "1ms", "longest": "1ms"},
    }  # fmt: skip
    budget = {"budget": 100 * COST, "budget_period": "month"}
    return {
        "access": {
            "open_on_loopback": False,
            "keys": [
                key_entry("race", key("race"), tenant="race", limits=budget),
                key_entry("small", key("small"), tenant="small", limits={**budget, "budget": 10 * COST}),
                key_entry("faults", key("faults"), tenant="faults"),
                key_entry("once", key("once"), tenant="once"),
                key_entry("edge", key("edge"), tenant="edge", limits={"requests_per_minute": 20}),
                key_entry("narrow", key("narrow"), tenant="narrow", limits={"concurrency": 3}),
                key_entry("admin", key("admin"), admin=True),
            ],
        },
        "records": {"url": f"sqlite:///{database}"},
        "state": {"url": redis.url, "prefix": prefix, "deadline": "1s"},
        "limits": [
            {"per": ["tenant"], "when": {"tenant": ["faults", "once"]}, "budget": 10, "tokens_per_minute": 10_000_000},
            {"per": ["tenant", "model"], "when": {"tenant": "faults"}, "concurrency": 10_000},
        ],
        "providers": {"mock": mock, "other": mock},
        "models": {
            "plain": {"targets": ["mock/gpt-mock"]},
            "fallback": {"targets": ["mock/first"], "fallbacks": ["other/second"]},
            "cached": {"targets": ["mock/gpt-mock"], "cache": {"exact": {"ttl": "1h"}}},
        },
    }  # fmt: skip


class Pair:
    """Two gateways that share Redis and the record store, as two workers on two machines would."""

    def __init__(self, gateways: list[GatewayProcess], database: Path, redis: RedisProcess, prefix: str) -> None:
        self.gateways = gateways
        self.database = database
        self.redis = redis
        self.prefix = prefix

    def spent(self, subject: str) -> tuple[float, int, int]:
        """USD, calls and tokens that the ledger has for a subject, over all periods."""
        with sqlite3.connect(self.database, timeout=5) as db:
            asked = "SELECT sum(usd), sum(calls), sum(tokens) FROM spend WHERE subject = ?"
            found = db.execute(asked, (subject,)).fetchone()
        db.close()
        return (found[0] or 0.0, found[1] or 0, found[2] or 0)

    def held(self) -> dict[str, int]:
        """What calls hold of any count in Redis, where that is not 0."""
        with Redis(host="127.0.0.1", port=self.redis.port) as redis:
            names = list(redis.scan_iter(f"{self.prefix}:limits:*"))
            found = {name.decode(): redis.hget(name, "h") for name in names if redis.type(name) == b"hash"}
            return {name: int(value) for name, value in found.items() if value is not None and int(value)}


@pytest.fixture(scope="module")
def pair(redis_server: RedisProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Pair, Vendor]]:
    folder = tmp_path_factory.mktemp("pair")
    prefix = f"e-{random.getrandbits(32):x}"
    with ExitStack() as stack:
        vendor = stack.enter_context(Vendor())
        told = configuration(vendor, redis_server, folder / "records.db", prefix)
        gateways = [stack.enter_context(GatewayProcess(told, folder / f"g{n}")) for n in range(2)]
        yield Pair(gateways, folder / "records.db", redis_server, prefix), vendor
        for gateway in gateways:
            assert "Traceback" not in gateway.output, gateway.output
            assert "sk-gw-canary" not in gateway.output


async def one(
    client: httpx.AsyncClient, gateway: GatewayProcess, name: str, model: str = "plain", **more: Any
) -> httpx.Response:
    body = {"model": model, "messages": HELLO, "max_tokens": 2, **more}
    body = {name: value for name, value in body.items() if value is not None}
    return await client.post(
        gateway.url + "/v1/chat/completions", json=body, headers={"authorization": f"Bearer {key(name)}"}
    )


# -- E1 ----------------------------------------------------------------------------------------------------
async def test_e1_a_race_for_a_budget_serves_what_it_pays_for(pair: tuple[Pair, Vendor]) -> None:
    both, vendor = pair
    vendor.clear()
    vendor.behaviours["gpt-mock"] = {"delay": 0.2}
    async with httpx.AsyncClient(timeout=60, limits=httpx.Limits(max_connections=500)) as client:
        calls = (
            one(client, both.gateways[n % 2], "race", **({"stream": True} if n % 3 == 0 else {})) for n in range(500)
        )
        answers = await asyncio.gather(*calls)
    assert Counter(answer.status_code for answer in answers) == {200: 100, 429: 400}
    assert len(vendor.requests) == 100
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert refused.json()["error"]["code"] == refused.json()["error"]["type"] == "insufficient_quota"
    subject = f"key={configured_key_id('race')}"
    until(lambda: both.spent(subject)[1] == 100, what="the ledger")
    usd, _, tokens = both.spent(subject)
    assert (round(usd, 9), tokens) == (round(100 * COST, 9), 100 * 13)  # the vendor's own count
    until(lambda: not both.held(), what="reservations given back")


async def test_e1_calls_that_bound_nothing_do_not_overspend_either(pair: tuple[Pair, Vendor]) -> None:
    both, vendor = pair
    vendor.clear()
    vendor.behaviours["gpt-mock"] = {"delay": 0.2}
    async with httpx.AsyncClient(timeout=60, limits=httpx.Limits(max_connections=200)) as client:
        calls = (one(client, both.gateways[n % 2], "small", max_tokens=None) for n in range(200))
        answers = await asyncio.gather(*calls)
    served = sum(answer.status_code == 200 for answer in answers)
    assert 1 <= served <= 10
    assert len(vendor.requests) == served


# -- E2 ----------------------------------------------------------------------------------------------------
FAULTS: list[dict[str, Any]] = [
    {"status": 500},
    {"status": 429, "retry_after": 1},
    {"body": "bad_json"},
    {"delay": 0.5},
    {"die_after": 2, "gap": 0.01, "text": "some words that are said before it ends "},
    {"gap": 0.02, "text": "a long answer that nobody waits for "},
    {},
]


async def test_e2_nothing_stays_reserved_after_faults_of_all_kinds(pair: tuple[Pair, Vendor]) -> None:
    both, vendor = pair
    vendor.clear()
    for order, fault in enumerate(FAULTS):
        vendor.behaviours[f"fault-{order}"] = fault
    lots = random.Random(20261121)

    async def faulty(client: httpx.AsyncClient, number: int) -> None:
        patience = lots.choice((0.001, 0.02, 0.1, 0.2, 20.0))
        how = lots.randrange(len(FAULTS))
        model = f"mock/fault-{how}"
        stream = lots.random() < 0.6
        more: dict[str, Any] = {"stream": stream}
        if lots.random() < 0.1:
            more["temperature"] = 17  # refused before anything is reserved
        with contextlib.suppress(TimeoutError, httpx.HTTPError):  # who leaves; and a stream that is broken off
            await asyncio.wait_for(one(client, both.gateways[number % 2], "faults", model, **more), patience)

    async with httpx.AsyncClient(timeout=30, limits=httpx.Limits(max_connections=60)) as client:
        for start in range(0, 1000, 50):
            await asyncio.gather(*(faulty(client, start + n) for n in range(50)))
    until(lambda: not vendor.unsettled, what="the end of every upstream call")
    until(lambda: not both.held(), what="reservations given back")
    async with httpx.AsyncClient(headers={"authorization": f"Bearer {key('admin')}"}) as client:
        for gateway in both.gateways:
            left = (await client.get(gateway.url + "/admin/limits", params={"tenant": "faults"})).json()["data"]
            assert {row["limit"] for row in left} >= {"budget_per_month"}
            assert [row for row in left if row["reserved"]] == []

    # The ledger is what the calls on record used, and that is what the vendor has said. A call that was cut off before
    # it said anything is charged its question: 11 tokens by the estimate.
    subject = "tenant=faults?tenant=faults,once"

    def unsaid() -> float:
        return (both.spent(subject)[0] - sum(row[2] or 0.0 for row in _rows(both, "faults"))) / 11e-6

    def settled() -> bool:
        return bool(both.spent(subject)[1]) and abs(unsaid() - round(unsaid())) < 1e-3

    until(settled, what="the ledger")
    assert 0 <= round(unsaid()) <= len(_rows(both, "faults", "outcome = 'cancelled' AND prompt_tokens IS NULL"))
    whole = _rows(both, "faults", "outcome = 'ok' AND usage_estimated = 0")
    told = {len(str(fault.get("text", "echo: hi")).split()) for fault in FAULTS}
    assert whole
    assert {row[:2] for row in whole} <= {(11, words) for words in told}
    assert len(whole) <= len([seen for seen in vendor.requests if seen.answered])


def _rows(both: Pair, tenant: str, where: str = "1 = 1") -> list[tuple[int, int, float]]:
    with sqlite3.connect(both.database, timeout=5) as db:
        asked = f"SELECT prompt_tokens, completion_tokens, cost FROM calls WHERE tenant = ? AND {where}"
        found = db.execute(asked, (tenant,)).fetchall()
    db.close()
    return found


# -- E3 ----------------------------------------------------------------------------------------------------
async def test_e3_each_call_is_billed_once_whatever_it_took(pair: tuple[Pair, Vendor]) -> None:
    both, vendor = pair
    vendor.clear()
    subject = "tenant=once?tenant=faults,once"
    gateway = both.gateways[0]
    charged = 0

    async def costs(how: str, cost: float, **behaviours: Any) -> None:
        nonlocal charged
        before = both.spent(subject)[0]
        vendor.behaviours |= behaviours
        model, _, stream = how.partition(" ")
        async with httpx.AsyncClient(timeout=30) as client:
            answer = await one(client, gateway, "once", model, stream=bool(stream))
        assert answer.status_code == 200
        charged += 1
        until(lambda: both.spent(subject)[1] == charged, what="the ledger")
        assert round(both.spent(subject)[0] - before, 9) == round(cost, 9), how

    await costs("mock/again", COST, again={"status": 500, "fail_times": 1})  # a retry
    await costs("fallback", COST, first={"status": 500}, second={})
    await costs("fallback streamed", COST)
    await costs("cached", COST)
    await costs("cached", 0.0)  # a hit is free, by this configuration
    assert [seen.body["model"] for seen in vendor.requests].count("second") == 2

    # A stream that its reader leaves costs what had been said by then, once.
    vendor.behaviours["slow"] = {"gap": 0.1, "piece": 5, "text": "word " * 100}
    before = both.spent(subject)[0]
    with openai.OpenAI(base_url=gateway.url + "/v1", api_key=key("once"), max_retries=0) as client:
        heard = 0
        with client.chat.completions.create(model="mock/slow", messages=HELLO, stream=True) as stream:
            for chunk in stream:
                heard += bool(chunk.choices and chunk.choices[0].delta.content)
                if heard == 5:
                    break
    until(lambda: both.spent(subject)[1] == charged + 1, what="the ledger")
    ((prompt, answer, cost),) = _rows(both, "once", "outcome = 'cancelled'")
    assert 5 <= answer <= 8
    assert round(cost, 9) == round((prompt + 2 * answer) * 1e-6, 9)
    assert round(both.spent(subject)[0] - before, 9) == round(cost, 9)


# -- E4 ----------------------------------------------------------------------------------------------------
async def test_e4_a_burst_over_both_is_let_through_once(pair: tuple[Pair, Vendor]) -> None:
    both, vendor = pair
    vendor.clear()
    began = time.monotonic()
    async with httpx.AsyncClient(timeout=30, limits=httpx.Limits(max_connections=60)) as client:
        answers = await asyncio.gather(*(one(client, both.gateways[n % 2], "edge") for n in range(60)))
    took = time.monotonic() - began
    assert Counter(answer.status_code for answer in answers) == {200: 20, 429: 40}
    assert len(vendor.requests) == 20
    for answer in answers:
        assert answer.headers["x-ratelimit-limit-requests"] == "20"
        if answer.status_code == 429:
            assert 60 - took - 1 <= int(answer.headers["retry-after"]) <= 60
            assert answer.headers["x-ratelimit-remaining-requests"] == "0"
            assert answer.json()["error"]["code"] == "rate_limit_exceeded"


async def test_concurrency_holds_over_both_and_is_free_as_soon_as_a_call_ends(pair: tuple[Pair, Vendor]) -> None:
    both, vendor = pair
    vendor.clear()
    vendor.behaviours["gpt-mock"] = {"delay": 0.5}
    async with httpx.AsyncClient(timeout=30, limits=httpx.Limits(max_connections=60)) as client:
        answers = await asyncio.gather(*(one(client, both.gateways[n % 2], "narrow") for n in range(12)))
        assert Counter(answer.status_code for answer in answers) == {200: 3, 429: 9}
        vendor.behaviours.clear()
        for n in range(6):  # one after the other, at one and the other gateway in turn
            until(lambda: not both.held(), what="the call before given back")
            assert (await one(client, both.gateways[n % 2], "narrow")).status_code == 200
