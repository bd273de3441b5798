"""What limits cost a call: asked, granted, told in headers and settled; in memory, and on a Redis on loopback.

    .venv/bin/python benchmarks/limits.py

CPU is this process's own; Redis's is told beside it. The best of several rounds, as other work on the machine only adds.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import uvloop

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from redis_process import RedisProcess

from gateway.access.admission import Limits
from gateway.access.clock import SteadyClock
from gateway.access.costs import Costs
from gateway.access.counters import LocalCounters
from gateway.access.lengths import AnswerLengths
from gateway.access.meters import Meters
from gateway.access.rules import rule_of
from gateway.access.shared_counters import SharedCounters
from gateway.access.spending import Spending
from gateway.chat import ChatRequest
from gateway.config.limits import Charging, LimitRule
from gateway.exchange import Exchange
from gateway.pricing import PriceBook
from gateway.state import RedisState
from gateway.values import Caller, Target, Usage

BODY = b'{"model":"plain","messages":[{"role":"user","content":"a question of the usual size, in one line"}],"max_tokens":20}'
CALLER = Caller("a", "t", "u", key_id="cfg_1")
TARGET = Target("mock", "gpt")
FREE = 10**9
RULES: dict[str, list[dict[str, Any]]] = {
    "requests": [{"per": ["key"], "requests_per_minute": FREE}],
    "requests, tokens": [{"per": ["key"], "requests_per_minute": FREE, "tokens_per_minute": FREE}],
    "requests, tokens, budget, concurrency": [
        {"per": ["key"], "requests_per_minute": FREE, "tokens_per_minute": FREE},
        {"per": ["tenant"], "budget": 100_000},
        {"per": ["user"], "concurrency": 1_000},
    ],
}


class Free(PriceBook):
    """Rates that are known, as a configured provider's are."""

    def known(self, target: Target) -> Any:
        from gateway.pricing import Rates

        return Rates(1.0, 2.0)


class NoTemplates:
    def get(self, model: str, /) -> int | None:
        return None

    def named(self, reference: str, which: str | None, tenant: str) -> int:
        return 0


def limits(rules: list[dict[str, Any]], counters: LocalCounters | SharedCounters) -> Limits:
    costs = Costs(Free(), lambda model: (TARGET,), refuse_unknown=False)
    written = [rule_of(LimitRule(**rule)) for rule in rules]
    return Limits(written, Charging(), Meters(), counters, costs, AnswerLengths(), NoTemplates())


async def call(asked: Limits) -> None:
    exchange = Exchange("chat.completions")
    exchange.caller, exchange.model = CALLER, "plain"
    await asked.admit(ChatRequest(BODY), exchange)
    exchange.usage, exchange.target, exchange.cost = Usage(11, 20), TARGET, 51e-6
    assert exchange.permit is not None
    exchange.permit.headers()
    exchange.settle()


async def bare() -> None:
    """What a call of this benchmark costs without limits."""
    exchange = Exchange("chat.completions")
    exchange.caller, exchange.model = CALLER, "plain"
    ChatRequest(BODY)
    exchange.usage, exchange.target, exchange.cost = Usage(11, 20), TARGET, 51e-6
    exchange.settle()


async def measured(one: Callable[[], Awaitable[None]], at_a_time: int, calls: int, rounds: int) -> tuple[float, float]:
    """Microseconds a call, the least of the rounds: this process's CPU, and the time that passes."""
    best = (float("inf"), float("inf"))

    async def some() -> None:
        for _ in range(calls // at_a_time):
            await one()

    for _ in range(rounds):
        cpu, began = time.process_time(), time.perf_counter()
        await asyncio.gather(*(some() for _ in range(at_a_time)))
        took = ((time.process_time() - cpu) / calls * 1e6, (time.perf_counter() - began) / calls * 1e6)
        best = (min(best[0], took[0]), min(best[1], took[1]))
    return best


async def main(redis: RedisProcess) -> None:
    spending = Spending(None, "local", 0.5)
    nothing, _ = await measured(bare, 1, 5_000, 7)
    print(f"{'rules':40} {'memory':>8} {'Redis, 1 call at a time':>28} {'Redis, 16 at a time':>24}")
    print(f"{'':40} {'µs CPU':>8} {'µs CPU':>9} {'µs passed':>10} {'of Redis':>8} {'µs CPU':>9} {'of Redis':>8}")
    for name, rules in RULES.items():
        asked = limits(rules, LocalCounters(SteadyClock(), spending))
        memory, _ = await measured(lambda asked=asked: call(asked), 1, 5_000, 7)  # type: ignore[misc]  # it is bound here
        state = RedisState(redis.url, deadline=5.0, prefix=f"bench-{len(name)}")
        shared = SharedCounters(state, SteadyClock(), spending, "local", 0.5)
        talking = asyncio.ensure_future(shared.run())
        asked = limits(rules, shared)
        server = psutil.Process(redis.process.pid)
        figures: list[float] = []
        for at_a_time in (1, 16):
            await measured(lambda asked=asked: call(asked), at_a_time, 320, 1)  # type: ignore[misc]  # it is bound here
            before = sum(server.cpu_times()[:2])
            cpu, passed = await measured(lambda asked=asked: call(asked), at_a_time, 1_600, 5)  # type: ignore[misc]  # it is bound here
            of_redis = (sum(server.cpu_times()[:2]) - before) / 8_000 * 1e6
            figures += (cpu - nothing, passed - nothing, of_redis)
        print(
            f"{name:40} {memory - nothing:8.1f} {figures[0]:9.0f} {figures[1]:10.0f} {figures[2]:8.0f}"
            f" {figures[3]:9.0f} {figures[5]:8.0f}"
        )
        talking.cancel()
        with suppress(asyncio.CancelledError):
            await talking
        await state.aclose()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder, RedisProcess(Path(folder)) as running:
        uvloop.run(main(running))
