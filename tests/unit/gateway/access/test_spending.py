"""What was spent before: read once at first sight, looked at again while in use, and never taken back."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress

import pytest

from gateway.access import spending
from gateway.access.conversation import _added_up
from gateway.access.meters import Meter, Meters
from gateway.access.rules import NANO, Ceiling, Rule
from gateway.access.spending import Spending
from gateway.access.windows import Purse

NOW = 1_795_000_000.0
BUDGET = Rule(("tenant",), (), (Ceiling("budget", 100 * NANO, period="month"),))


class Store:
    def __init__(self, usd: float) -> None:
        self.usd = usd
        self.asked: list[tuple[str, str]] = []
        self.open = threading.Event()
        self.open.set()

    def spent(self, subject: str, period: str) -> float:
        self.asked.append((subject, period))
        assert self.open.wait(60)
        return self.usd


def metered(meters: Meters) -> Meter:
    meter = meters.meter(BUDGET, BUDGET.ceilings[0], ("acme",), NOW)
    meter.purse(NOW)
    return meter


async def test_many_calls_at_first_sight_are_one_look() -> None:
    store = Store(40.0)
    store.open.clear()
    meter, asked = metered(Meters()), Spending(store, "local", 0.5)
    waiting = [asyncio.ensure_future(asked.share_of(meter, NOW)) for _ in range(20)]
    await asyncio.sleep(0)
    waiting[0].cancel()  # who leaves does not take the look of the others along
    store.open.set()
    assert set(await asyncio.gather(*waiting[1:])) == {1.0}
    assert store.asked == [("tenant=acme", "month:2026-11")]
    assert meter.state.spent == 40 * NANO


async def test_a_look_that_takes_too_long_grants_a_share_and_is_of_use_when_it_comes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(spending, "_PATIENCE", 0.01)
    store = Store(40.0)
    store.open.clear()
    meter, asked = metered(Meters()), Spending(store, "local", 0.25)
    assert await asked.share_of(meter, NOW) == 0.25
    store.open.set()
    while not meter.state.known:
        await asyncio.sleep(0.001)
    assert await asked.share_of(meter, NOW) == 1.0


async def test_purses_in_use_are_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spending, "_EVERY", 0.001)
    store, meters = Store(40.0), Meters()
    meter, asked = metered(meters), Spending(store, "local", 0.5)
    heard: list[int] = []

    def told(of: Meter, purse: Purse) -> None:
        assert of is meter
        heard.append(purse.spent // NANO)

    looking = asyncio.ensure_future(asked.run(meters, lambda: NOW, told))
    while 40 not in heard:
        await asyncio.sleep(0.001)
    store.usd = 55.0  # another process has spent
    while 55 not in heard:
        await asyncio.sleep(0.001)
    store.usd = 50.0  # a store that lags behind
    count = len(heard)
    while len(heard) < count + 3:
        await asyncio.sleep(0.001)
    assert heard[-1] == 55
    looking.cancel()
    with suppress(asyncio.CancelledError):
        await looking


async def test_what_a_killed_process_had_not_recorded_is_recorded_before_the_first_look() -> None:
    store = Store(40.0)
    asked, order = Spending(store, "local", 0.5), []

    def catch_up() -> bool:
        order.append(len(store.asked))
        return len(order) > 1  # the first time it was not all in yet

    asked.catch_up = catch_up
    for _ in range(3):
        assert await asked.share_of(metered(Meters()), NOW) == 1.0
    assert order == [0, 1]


def test_what_waits_for_redis_is_added_up() -> None:
    assert _added_up(
        [
            ("spend", "a", 5, 100),
            ("release", "a", 7),
            ("spend", "b", 1, 110),
            ("spend", "a", 6, 120),
            ("note", "w", 1, 60_000, 100),
            ("adjust", "w", 3, -4),
            ("note", "w", 2, 60_000, 100),
            ("know", "a", 50, 1_000),
            ("know", "a", 60, 1_000),
        ]
    ) == [("spend", "a", 11, 120), ("spend", "b", 1, 110), ("note", "w", 3, 60_000, 100), ("know", "a", 60, 1_000)]
