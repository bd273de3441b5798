"""Counts in a real Redis, shared by two processes' counters: exact over both, whatever becomes of either."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import pytest
from redis.asyncio import Redis
from redis_process import RedisProcess

from gateway.access.clock import SteadyClock
from gateway.access.meters import Ask, Meters
from gateway.access.rules import NANO, Ceiling, Rule
from gateway.access.shared_counters import SharedCounters
from gateway.access.spending import Spending
from gateway.state import RedisState


class Ledger:
    """What the record store would say."""

    def __init__(self) -> None:
        self.usd = 0.0

    def spent(self, subject: str, period: str) -> float:
        return self.usd


class Worker:
    """One process's counters, with a clock that the test turns."""

    def __init__(self, state: RedisState, ledger: Ledger, lease: float) -> None:
        self.running, self.wall = 100.0, 1_795_000_000.0
        clock = SteadyClock(lambda: self.running, lambda: self.wall)
        self.counters = SharedCounters(state, clock, Spending(ledger, "local", 0.5), "local", 0.5, lease)
        self.state = state
        self.meters = Meters()
        self.task = asyncio.ensure_future(self.counters.run())

    async def take(self, rule: Rule, subject: str = "a", amount: int = 1) -> list[Ask] | None:
        now = self.counters.clock()
        asks = [
            Ask(self.meters.meter(rule, ceiling, (subject,), now), ceiling, amount if _much(ceiling) else 1)
            for ceiling in rule.ceilings
        ]
        self.asked = asks
        return asks if await self.counters.take(asks) else None

    def settle(self, asks: list[Ask], real: int) -> None:
        for ask in asks:
            if ask.ceiling.measure != "requests":
                self.counters.settle(ask, real)

    async def leave(self) -> None:
        self.task.cancel()
        with suppress(asyncio.CancelledError):
            await self.task

    async def die(self) -> None:
        """As SIGKILL would have it: nothing is said any more."""
        self.counters._redis._state = RedisState("redis://127.0.0.1:1/0", deadline=0.01)
        self.task.cancel()
        with suppress(asyncio.CancelledError):
            await self.task
        await self.counters._redis._state.aclose()


def _much(ceiling: Ceiling) -> bool:
    return ceiling.measure in ("tokens", "budget")


@asynccontextmanager
async def workers(
    redis: RedisProcess, count: int = 2, *, ledger: Ledger | None = None, lease: float = 6.0
) -> AsyncIterator[list[Worker]]:
    prefix = f"test-{random.getrandbits(40):x}"
    books = Ledger() if ledger is None else ledger
    made: list[Worker] = []
    async with AsyncExitStack() as stack:
        for _ in range(count):
            state = RedisState(redis.url, deadline=2.0, prefix=prefix)
            stack.push_async_callback(state.aclose)
            made.append(Worker(state, books, lease))
            stack.push_async_callback(made[-1].leave)
        yield made


async def told(worker: Worker) -> None:
    """Until Redis has heard all."""
    counters = worker.counters
    for _ in range(2_000):
        if not counters._redis._settlements and not counters._redis._sent and not counters._redis._presence:
            return
        await asyncio.sleep(0.005)
    raise AssertionError("Redis has not heard all")


async def held(worker: Worker) -> int:
    """All that is reserved in Redis."""
    redis = Redis(connection_pool=worker.state._redis.connection_pool)
    total = 0
    async for name in redis.scan_iter(f"{worker.state.prefix}:limits:*"):
        if await redis.type(name) == b"hash":
            total += int(await redis.hget(name, "h") or 0)
    return total


def rule(*ceilings: Ceiling) -> Rule:
    return Rule(("key",), (), ceilings)


REQUESTS = rule(Ceiling("requests", 10, 60.0))


async def test_two_processes_grant_exactly_the_limit(redis_server: RedisProcess) -> None:
    async with workers(redis_server) as pair:
        granted = await asyncio.gather(*(worker.take(REQUESTS) for _ in range(30) for worker in pair))
        assert sum(one is not None for one in granted) == 10
        assert await pair[0].take(REQUESTS, "another") is not None


@pytest.mark.parametrize("seed", range(4))
async def test_no_sixty_seconds_hold_more_over_both(redis_server: RedisProcess, seed: int) -> None:
    lots = random.Random(seed)
    given_out: list[float] = []
    async with workers(redis_server) as pair:
        for _ in range(120):
            step = lots.choice((0.0, 0.01, 0.2, 3.0, 29.95, 59.99))
            for worker in pair:
                worker.running += step
            worker = lots.choice(pair)
            if await worker.take(REQUESTS) is not None:
                given_out.append(worker.running)
            else:
                wait = worker.asked[0].wait
                assert 0 < wait <= 60.0
                if lots.random() < 0.3:  # who waits as long as it was told to, comes in
                    for other in pair:
                        other.running += wait + 0.001
                    assert await worker.take(REQUESTS) is not None
                    given_out.append(worker.running)
    assert len(given_out) > 15
    for begin in given_out:
        assert sum(begin <= at < begin + 60.0 for at in given_out) <= 10


@pytest.mark.parametrize("step", [3600.0, -3600.0])
async def test_e5_a_step_of_the_wall_clock_gives_no_quota_and_locks_nobody_out(
    redis_server: RedisProcess, step: float
) -> None:
    async with workers(redis_server) as (one, other):
        for _ in range(10):
            assert await one.take(REQUESTS) is not None
        for worker in (one, other):
            worker.wall += step
            worker.running += 1.0
            assert await worker.take(REQUESTS) is None
        # Who starts with the clock as it is now goes by the time of those who are there.
        late = Worker(one.state, Ledger(), 6.0)
        late.wall += step
        late.counters = SharedCounters(
            one.state, SteadyClock(lambda: late.running, lambda: late.wall), Spending(Ledger(), "local", 0.5),
            "local", 0.5,
        )  # fmt: skip
        await late.leave()
        late.task = asyncio.ensure_future(late.counters.run())
        assert await late.take(REQUESTS) is None
        for worker in (one, other, late):
            worker.running += 60.0
        assert await late.take(REQUESTS) is not None
        assert await other.take(REQUESTS) is not None
        await late.leave()


async def test_slow_round_trips_do_not_make_time_run_fast(
    redis_server: RedisProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with workers(redis_server) as (one, other):
        assert await one.take(REQUESTS) is not None
        through = one.state.run

        async def slow(work: object, **more: object) -> object:
            for worker in (one, other):
                worker.running += 0.02
            await other.take(REQUESTS)  # who asks later is answered sooner
            for worker in (one, other):
                worker.running += 0.01
            return await through(work, **more)  # type: ignore[arg-type]  # as it is called

        monkeypatch.setattr(one.state, "run", slow)
        for _ in range(20):
            await one.take(REQUESTS)
        monkeypatch.undo()
        for worker in (one, other):
            assert worker.counters.clock() == pytest.approx(1_795_000_000.0 + worker.running - 100.0, abs=0.002)


async def test_tokens_are_reserved_and_settled_over_both(redis_server: RedisProcess) -> None:
    tokens = rule(Ceiling("tokens", 1_000, 60.0))
    async with workers(redis_server) as (one, other):
        first = await one.take(tokens, amount=900)
        assert first is not None
        assert await other.take(tokens, amount=200) is None
        one.settle(first, 100)
        await told(one)
        assert await other.take(tokens, amount=900) is not None
        assert await one.take(tokens, amount=1) is None
        assert one.asked[0].used == 1_000


async def test_a_budget_is_spent_once_and_reservations_go_back_whatever_happens(redis_server: RedisProcess) -> None:
    purse = rule(Ceiling("budget", 1_000, period="month"), Ceiling("concurrency", 50))
    lots = random.Random(7)
    spent = 0
    async with workers(redis_server) as pair:

        async def call() -> None:
            nonlocal spent
            worker = lots.choice(pair)
            asking = asyncio.ensure_future(worker.take(purse, amount=30))
            if lots.random() < 0.3:
                await asyncio.sleep(lots.random() * 0.002)
                asking.cancel()
            try:
                asks = await asking
            except asyncio.CancelledError:
                return
            if asks is not None:
                await asyncio.sleep(lots.random() * 0.01)
                real = lots.choice((0, 10, 30))
                worker.settle(asks, real)
                spent += real

        await asyncio.gather(*(call() for _ in range(300)))
        for worker in pair:
            await told(worker)
        assert await held(pair[0]) == 0
        assert 0 < spent < 1_000 + 30, spent
        assert await pair[0].counters.look(pair[0].asked[0].meter) == (spent, 0)
        for worker in pair:
            assert worker.counters._redis._holdings == {}


async def test_what_a_killed_process_held_is_free_when_its_lease_has_run_out(redis_server: RedisProcess) -> None:
    level = rule(Ceiling("concurrency", 3), Ceiling("budget", 100, period="day"))
    async with workers(redis_server, lease=0.3) as (one, other):
        for _ in range(3):
            assert await one.take(level, amount=1) is not None
        assert await other.take(level) is None
        await one.die()
        for _ in range(1_000):
            other.running += 0.05  # time passes, and the living say that they live
            other.counters._redis._presence = other.counters._redis._presence or "beat"
            if await other.take(level) is not None:
                break
            await asyncio.sleep(0.001)
        else:
            raise AssertionError("still held")
        assert await held(other) == 2  # the one call and its reservation


async def test_a_process_that_ends_tells_the_last_of_it_and_holds_nothing(redis_server: RedisProcess) -> None:
    both = rule(Ceiling("concurrency", 3), Ceiling("budget", 100, period="day"))
    async with workers(redis_server) as (one, other):
        asks = await one.take(both, amount=10)
        assert asks is not None
        assert await one.take(both, amount=10) is not None
        one.settle(asks, 7)
        await one.leave()
        assert await held(other) == 0
        assert await other.take(both, amount=1) is not None
        assert [ask.used for ask in other.asked] == [1, 7 + 1]
        assert await one.take(both, "another") is not None  # who still asks is granted by this process's own counts


async def test_a_process_that_was_held_to_be_gone_holds_again_what_it_holds(redis_server: RedisProcess) -> None:
    level = rule(Ceiling("concurrency", 3))
    async with workers(redis_server) as (one, other):
        asks = [await one.take(level) for _ in range(2)]
        await told(one)
        other.running += 10.0  # to the other one the first has been silent for longer than its lease
        other.counters._redis._presence = "beat"
        assert await other.take(level) is not None
        assert await held(other) == 1
        one.running += 10.0
        one.counters._redis._presence = "beat"
        one.counters._redis._wake.set()
        for _ in range(1_000):
            if await held(other) == 3:
                break
            await asyncio.sleep(0.005)
        assert await other.take(level) is None
        for one_call in asks:
            assert one_call is not None
            one.settle(one_call, 0)
        await told(one)
        assert await held(other) == 1


async def test_a_redis_that_forgets_everything_does_not_forget_what_was_spent(redis_server: RedisProcess) -> None:
    purse = rule(Ceiling("budget", 1_000, period="month"), Ceiling("concurrency", 5))
    ledger = Ledger()
    async with workers(redis_server, ledger=ledger) as (one, other):
        running = await one.take(purse, amount=10)
        asks = await one.take(purse, amount=400)
        assert asks is not None
        assert running is not None
        one.settle(asks, 400)
        ledger.usd = 400 / NANO
        await told(one)
        redis = Redis(connection_pool=one.state._redis.connection_pool)
        async for name in redis.scan_iter(f"{one.state.prefix}:*"):
            await redis.delete(name)
        assert await other.take(purse, amount=599) is not None
        assert other.asked[0].used == 400 + 599
        one.counters._redis._presence = "beat"  # then the first one tells what it holds of the call that still runs
        one.counters._redis._wake.set()
        for _ in range(1_000):
            if await other.counters.look(other.asked[0].meter) == (400 + 599 + 10, 609):
                break
            await asyncio.sleep(0.005)
        else:
            raise AssertionError(await other.counters.look(other.asked[0].meter))


async def test_a_settlement_whose_answer_was_lost_is_not_done_twice(redis_server: RedisProcess) -> None:
    purse = rule(Ceiling("budget", 1_000, period="month"), Ceiling("tokens", 10_000, 60.0))
    async with workers(redis_server) as (one, other):
        asks = await one.take(purse, amount=100)
        assert asks is not None
        answered = one.state.run

        async def lost(work: object, **more: object) -> object:
            await answered(work, **more)  # type: ignore[arg-type]  # as it is called
            one.state.run = answered  # type: ignore[method-assign]  # the next one comes through
            from gateway.state import StateUnavailable

            raise StateUnavailable

        one.state.run = lost  # type: ignore[method-assign, assignment]  # Redis does it and the answer is lost
        one.settle(asks, 70)
        for _ in range(1_000):
            one.counters._redis._wake.set()
            await asyncio.sleep(0.005)
            if one.state.run is answered and not one.counters._redis._sent and not one.counters._redis._presence:
                break
        assert await other.take(purse, amount=1) is not None
        assert [ask.used for ask in other.asked] == [71, 71]


async def test_what_is_used_while_redis_is_away_is_told_when_it_is_back(
    redis_server: RedisProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = rule(Ceiling("budget", 1_000, period="month"), Ceiling("requests", 10, 60.0))
    async with workers(redis_server) as (one, other):
        first = await one.take(both, amount=1)
        assert first is not None
        monkeypatch.setattr(RedisState, "healthy", property(lambda state: state is not one.state))
        granted = [asks for _ in range(10) if (asks := await one.take(both, amount=1)) is not None]
        assert len(granted) == 4  # half of ten, with the one that Redis had granted
        for asks in (first, *granted):
            one.settle(asks, 20)
        assert one.counters.alone
        monkeypatch.undo()
        one.counters._redis._wake.set()
        await told(one)
        assert await other.take(both, amount=1) is not None
        assert [ask.used for ask in other.asked] == [101, 6]


async def test_many_budgets_that_redis_does_not_know_yet_are_asked_of_it_all_the_same(
    redis_server: RedisProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key's, its tenant's, a user's and a model's: at the first call, and at the first of each period."""
    async with workers(redis_server, 1) as (worker,):
        rules = [
            Rule((per,), (), (Ceiling("budget", NANO, period="day"),)) for per in ("key", "tenant", "user", "model")
        ]
        now = worker.counters.clock()
        asks = [Ask(worker.meters.meter(one, one.ceilings[0], ("a",), now), one.ceilings[0], 7) for one in rules]
        monkeypatch.setattr(worker.counters, "_refuse", True)  # going by its own counts is an error then
        assert await worker.counters.take(asks)
        assert await held(worker) == 4 * 7
        worker.settle(asks, 7)
