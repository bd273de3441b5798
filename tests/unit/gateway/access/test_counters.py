"""Counts in memory: a call's asks are granted together or not at all, and everything held is given back."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.access.clock import SteadyClock
from gateway.access.counters import LocalCounters, Unknown
from gateway.access.meters import Ask, Meters
from gateway.access.rules import NANO, Ceiling, Rule
from gateway.access.spending import Spending


class Store:
    """A record store's spending, which may be away."""

    def __init__(self, usd: float = 0.0) -> None:
        self.usd = usd
        self.away = False
        self.asked = 0

    def spent(self, subject: str, period: str) -> float:
        self.asked += 1
        if self.away:
            raise ConnectionError("away")
        return self.usd


class Bench:
    def __init__(self, store: Store | None = None, on_failure: Any = "local") -> None:
        self.running, self.wall = 0.0, 1_795_000_000.0
        clock = SteadyClock(lambda: self.running, lambda: self.wall)
        self.counters = LocalCounters(clock, Spending(store, on_failure, 0.5))
        self.meters = Meters()

    async def take(self, rule: Rule, amount: int = 1, subject: str = "a") -> list[Ask] | None:
        now = self.counters.clock()
        self.asks = [
            Ask(self.meters.meter(rule, ceiling, (subject,), now), ceiling, amount) for ceiling in rule.ceilings
        ]
        return self.asks if await self.counters.take(self.asks) else None


def rule(*ceilings: Ceiling) -> Rule:
    return Rule(("key",), (), ceilings)


ALL = rule(
    Ceiling("requests", 5, 60.0), Ceiling("tokens", 50, 60.0), Ceiling("concurrency", 3), Ceiling("budget", 90, period="day")
)  # fmt: skip


@given(seed=st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_all_or_nothing_and_nothing_left_held_at_the_end(seed: int) -> None:
    lots = random.Random(seed)

    async def go() -> None:
        bench, flying = Bench(), []
        for _ in range(60):
            bench.running += lots.choice((0.0, 0.1, 5.0, 59.0))
            before = {meter: meter.state.used for meter in bench.meters}
            asks = await bench.take(ALL, lots.randrange(1, 4), lots.choice("ab"))
            if asks is None:
                assert any(ask.wait > 0 for ask in bench.asks)
                assert all(meter.state.used <= before[meter] for meter in bench.meters if meter in before)
            else:
                flying.append(asks)
                assert all(ask.used <= ask.ceiling.most or ask.ceiling.measure == "budget" for ask in asks)
            if flying and lots.random() < 0.6:
                for ask in flying.pop(lots.randrange(len(flying))):
                    if ask.ceiling.measure != "requests":
                        bench.counters.settle(ask, lots.choice((0, ask.amount)))
        for asks in flying:
            for ask in asks:
                if ask.ceiling.measure != "requests":
                    bench.counters.settle(ask, 0)
        for meter in bench.meters:
            if meter.ceiling.measure == "budget":
                assert meter.state.held == 0
            elif meter.ceiling.measure == "concurrency":
                assert meter.state.used == 0

    asyncio.run(go())


@pytest.mark.parametrize("step", [3600.0, -3600.0])
async def test_e5_a_step_of_the_wall_clock_gives_no_quota_and_locks_nobody_out(step: float) -> None:
    bench = Bench()
    requests = rule(Ceiling("requests", 2, 60.0), Ceiling("budget", 100, period="day"))
    assert await bench.take(requests)
    assert await bench.take(requests)
    bench.wall += step
    bench.running += 30.0
    assert await bench.take(requests) is None
    assert bench.asks[0].wait == pytest.approx(30.0)
    bench.running += 30.0
    assert await bench.take(requests)


async def test_a_day_is_any_twenty_four_hours() -> None:
    bench = Bench()
    daily = rule(Ceiling("requests", 3, 86_400.0))
    for hours in (0, 23, 23.5):
        bench.running = hours * 3600
        assert await bench.take(daily)
    bench.running = 23.9 * 3600
    assert await bench.take(daily) is None
    assert bench.asks[0].wait == pytest.approx(360.0)
    bench.running = 24 * 3600
    assert await bench.take(daily)
    assert await bench.take(daily) is None


async def test_what_was_spent_before_the_start_counts() -> None:
    store = Store(usd=60 / NANO)
    bench = Bench(store)
    purse = rule(Ceiling("budget", 100, period="month"))
    granted = [await bench.take(purse, 20) for _ in range(3)]
    assert [asks is not None for asks in granted] == [True, True, False]
    assert store.asked == 1


async def test_a_new_period_begins_with_what_the_store_knows_of_it() -> None:
    bench = Bench(store := Store(usd=100 / NANO))
    purse = rule(Ceiling("budget", 100, period="day"))
    assert await bench.take(purse) is None
    store.usd = 0.0
    bench.running += bench.asks[0].wait
    assert await bench.take(purse) is not None


async def test_a_call_over_midnight_is_charged_to_the_day_on_which_it_was_granted() -> None:
    bench = Bench()
    purse = rule(Ceiling("budget", 100, period="day"))
    asks = await bench.take(purse, 50)
    assert asks is not None
    bench.running += 86_400.0
    assert await bench.take(purse, 60) is not None
    bench.counters.settle(asks[0], 50)
    meter = asks[0].meter
    assert (asks[0].by.spent, asks[0].by.held, meter.state.spent, meter.state.held) == (50, 0, 0, 60)


@pytest.mark.parametrize("on_failure", ["local", "refuse"])
async def test_a_store_that_cannot_tell_at_first_sight(on_failure: str) -> None:
    store = Store(usd=90 / NANO)
    store.away = True
    bench = Bench(store, on_failure)
    purse = rule(Ceiling("budget", 100, period="month"))
    if on_failure == "refuse":
        with pytest.raises(Unknown):
            await bench.take(purse, 60)
    else:
        assert [await bench.take(purse, 30) is not None for _ in range(3)] == [True, True, False]
    assert store.asked == 1  # one that is away is not asked by every call
    store.away = False
    bench.running += 1.0
    assert (await bench.take(purse, 30) is not None) == (on_failure == "refuse")
    assert store.asked == 2


def test_the_number_of_subjects_is_bounded_and_idle_ones_make_room() -> None:
    meters, requests = Meters(most=100), rule(Ceiling("requests", 5, 60.0))
    for number in range(1_000):
        meters.meter(requests, requests.ceilings[0], (str(number),), 0.0).state.take(0.0, 1)
    assert len(meters) == 100
    busy = meters.meter(requests, requests.ceilings[0], ("999",), 0.0)
    busy.state.take(100.0, 1)
    for number in range(60):
        meters.meter(requests, requests.ceilings[0], (f"new {number}",), 100.0)
    assert len(meters) <= 61
    assert meters.meter(requests, requests.ceilings[0], ("999",), 100.0) is busy


def test_a_reload_that_changes_how_much_keeps_what_was_used() -> None:
    meters = Meters()
    before, after = rule(Ceiling("requests", 5, 60.0)), rule(Ceiling("requests", 2, 60.0))
    meter = meters.meter(before, before.ceilings[0], ("a",), 0.0)
    meter.state.take(0.0, 1)
    again = meters.meter(after, after.ceilings[0], ("a",), 1.0)
    assert (again is meter, again.ceiling.most, again.state.used) == (True, 2, 1)
