"""Slots before a server: never more than it has, never lost, and refused early where waiting makes no sense."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.chat import ChatRequest
from gateway.config.queueing import ServerQueue as Settings
from gateway.errors import QueueFull
from gateway.exchange import Exchange
from gateway.pipeline import Pipeline
from gateway.routing.candidates import Candidate, Lane, Line
from gateway.routing.dispatch import Dispatcher
from gateway.routing.health import Circuit, Patience
from gateway.routing.observed import Observed
from gateway.routing.queueing import Queued, ServerQueue, Slot
from gateway.routing.queues import Queues, Room, room_of
from gateway.routing.retries import RetryBudget
from gateway.routing.strategies import Priority
from gateway.values import Caller, Target


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def queue(clock: Clock | None = None, part: tuple[int, int] = (1, 1), **asked: Any) -> ServerQueue:
    return ServerQueue("gpu", Settings.model_validate({"concurrency": 1, **asked}), part, clock or Clock())


def exchange(tenant: str = "a", **more: Any) -> Exchange:
    made = Exchange("chat.completions")
    made.caller = Caller("key", tenant, **more)
    return made


def entering(waits: ServerQueue, who: Exchange | None = None, within: float = 60.0) -> asyncio.Task[Slot]:
    loop = asyncio.get_running_loop()
    return loop.create_task(waits.enter(who or exchange(), loop.time() + within))


async def settle() -> None:
    """Let everything run that can."""
    for _ in range(5):
        await asyncio.sleep(0)


async def busy(waits: ServerQueue, clock: Clock, seconds: float = 1.0) -> Slot:
    """A slot of a server whose calls take so long; it has no other."""
    slot = await entering(waits)
    clock.now += seconds
    slot.release()
    return await entering(waits)


async def test_no_more_run_at_a_time_than_the_server_has_slots() -> None:
    waits = queue(concurrency=2)
    first, second, third = [entering(waits) for _ in range(3)]
    await settle()
    assert (first.done(), second.done(), third.done(), waits.waiting) == (True, True, False, 1)
    (await second).release()
    assert await third
    assert (waits.running, waits.waiting) == (2, 0)


async def test_a_slot_is_given_back_once_however_often_it_is_released() -> None:
    waits = queue(concurrency=2)
    slot, other = await entering(waits), await entering(waits)
    slot.release()
    slot.release()
    assert waits.running == 1
    other.release()
    assert waits.running == 0


async def test_a_caller_that_leaves_is_out_of_the_queue_at_once() -> None:
    waits = queue()
    held, leaving, staying = await entering(waits), entering(waits), entering(waits)
    await settle()
    leaving.cancel()
    await settle()
    assert waits.waiting == 1
    held.release()
    assert await staying


async def test_a_turn_that_comes_as_its_caller_leaves_is_handed_on() -> None:
    waits = queue()
    for leaves_first in (True, False):
        held, leaving, next_ = await entering(waits), entering(waits), entering(waits)
        await settle()
        for step in (leaving.cancel, held.release) if leaves_first else (held.release, leaving.cancel):
            step()
        (await asyncio.wait_for(next_, 60)).release()
        assert leaving.cancelled()
        assert (waits.running, waits.waiting) == (0, 0)


async def test_nobody_waits_longer_than_may_be() -> None:
    waits = queue(max_wait="20ms")
    await entering(waits)
    with pytest.raises(QueueFull) as told:
        await entering(waits)
    assert (told.value.status, told.value.code, waits.waiting, waits.shed["late"]) == (503, "overloaded", 0, 1)


async def test_a_callers_own_deadline_bounds_its_wait() -> None:
    waits = queue(max_wait="1h")
    await entering(waits)
    with pytest.raises(QueueFull):
        await entering(waits, within=0.02)
    with pytest.raises(QueueFull):
        await entering(waits, within=-1.0)
    assert waits.waiting == 0


async def test_what_would_wait_too_long_is_refused_at_once_with_the_time_that_it_would_take() -> None:
    clock = Clock()
    waits = queue(clock, max_wait="10s")
    await busy(waits, clock, seconds=4.0)
    waiting = [entering(waits) for _ in range(2)]  # 4 s, 8 s
    await settle()
    with pytest.raises(QueueFull) as told:
        await entering(waits)
    assert (told.value.retry_after, waits.shed["wait"], waits.waiting) == ("12", 1, 2)
    with pytest.raises(QueueFull):
        waits.check(exchange())
    waits.check(exchange("b"))  # who has nothing waiting is next but one
    for one in waiting:
        one.cancel()
    await settle()


async def test_a_full_queue_gives_a_newcomers_tenant_its_place() -> None:
    waits = queue(max_length=3)
    await entering(waits)
    crowd = [entering(waits) for _ in range(3)]
    await settle()
    with pytest.raises(QueueFull):
        await entering(waits)
    entering(waits, exchange("b"))
    await settle()
    assert [one.done() for one in crowd] == [False, False, True]  # the newest one made room
    assert isinstance(crowd[2].exception(), QueueFull)
    assert (waits.waiting, waits.shed["length"]) == (3, 2)


async def test_a_call_made_for_one_that_has_a_slot_runs_in_it() -> None:
    """A judge on the same server would else wait for the slot of the answer that waits for it."""
    waits = queue()
    asked = exchange()
    held = await entering(waits, asked)
    judge = asked.beside("guardrail")
    (await asyncio.wait_for(entering(waits, judge), 5)).release()
    assert waits.running == 1
    held.release()
    (await entering(waits, judge)).release()
    assert waits.running == 0


async def test_copies_that_nobody_waits_for_go_behind() -> None:
    waits = queue()
    held = await entering(waits)
    entering(waits, exchange(priority="high").beside("shadow"))
    await settle()
    assert waits.by_class() == {"high": 0, "normal": 0, "low": 1}
    held.release()


async def test_priorities_come_before_each_other_and_starve_nobody() -> None:
    waits = queue()
    held = await entering(waits)
    order: list[str] = []

    async def call(priority: Any) -> None:
        slot = await entering(waits, exchange(priority=priority))
        order.append(priority)
        slot.release()

    calls = [asyncio.create_task(call(priority)) for priority in ("low", "normal", "high") for _ in range(42)]
    await settle()
    held.release()
    await asyncio.gather(*calls)
    first = Counter(order[:42])
    assert first["high"] > first["normal"] > first["low"] >= 1


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 4), st.integers(1, 8), st.randoms(use_true_random=False))
async def test_whatever_happens_no_slot_is_lost_and_nobody_is_left(
    concurrency: int, max_length: int, chance: random.Random
) -> None:
    waits = queue(concurrency=concurrency, max_length=max_length)
    tasks: list[asyncio.Task[Any]] = []
    outcomes: Counter[str] = Counter()

    async def call(tenant: str, steps: int) -> None:
        try:
            slot = await waits.enter(exchange(tenant), asyncio.get_running_loop().time() + 60)
        except QueueFull:
            outcomes["refused"] += 1
            return
        try:
            assert waits.running <= concurrency
            for _ in range(steps):
                await asyncio.sleep(0)
            outcomes["served"] += 1
        finally:
            slot.release()

    for _ in range(40):
        tasks.append(asyncio.create_task(call(chance.choice("abc"), chance.randrange(4))))
        if chance.random() < 0.5:
            await asyncio.sleep(0)
        if chance.random() < 0.4:
            chance.choice(tasks).cancel()
        assert waits.waiting <= max_length
    told = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 10)
    assert all(one is None or isinstance(one, asyncio.CancelledError) for one in told), told
    await settle()
    assert (waits.running, waits.waiting, waits.by_class()) == (0, 0, {"high": 0, "normal": 0, "low": 0})


class _Chunks:
    def __init__(self, bursts: list[Any]) -> None:
        self.bursts = bursts
        self.closed = False

    async def next(self) -> list[Any]:
        burst = self.bursts.pop(0)
        if isinstance(burst, Exception):
            raise burst
        return list(burst)

    def close(self) -> None:
        self.closed = True


async def test_a_stream_has_its_slot_until_it_ends_or_is_cut_off() -> None:
    waits = queue()
    stream = Queued(_Chunks([["a"], ["b"], []]), await entering(waits), whole=False)
    running = []
    while await stream.next():
        running.append(waits.running)
    assert (running, waits.running) == ([1, 1], 0)
    inner = _Chunks([["a"], ["b"]])
    cut = Queued(inner, await entering(waits), whole=False)
    await cut.next()
    cut.close()
    assert (waits.running, inner.closed) == (0, True)


async def test_a_whole_answer_frees_its_slot_as_it_comes() -> None:
    waits = queue()
    whole = Queued(_Chunks([["all"]]), await entering(waits), whole=True)
    await whole.next()
    assert waits.running == 0


class _Guard:
    def __init__(self) -> None:
        self.asked = 0

    async def screen(self, request: Any, exchange: Exchange) -> None:
        self.asked += 1


class _Targets:
    async def call(self, request: Any, exchange: Exchange) -> Any:
        return _Chunks([["all"]])


async def test_where_no_target_has_room_nothing_is_prepared() -> None:
    guard, waits, other = _Guard(), queue(max_length=1), queue(max_length=1)
    pipeline = Pipeline(
        "m", frozenset({"chat.completions"}), _Targets(), input_guard=guard, room=Room([waits, other])  # type: ignore[arg-type]  # as much of a guard as is asked
    )  # fmt: skip
    request = ChatRequest(b'{"model": "m", "messages": [{"role": "user", "content": "hi"}]}')
    tasks = [entering(one) for one in (waits, waits, other)]
    await settle()
    await pipeline.answer(request, exchange())
    assert guard.asked == 1
    tasks.append(entering(other))
    await settle()
    with pytest.raises(QueueFull):
        await pipeline.answer(request, exchange())
    assert guard.asked == 1
    for task in tasks:
        task.cancel()


def test_there_is_always_room_where_a_target_has_no_queue() -> None:
    def candidate(waits: ServerQueue | None) -> Candidate:
        line = Line((), 10.0, 0, 0.0, 0.0, "on_premises")
        return Candidate(Target("gpu", "x"), line, Circuit(Patience()), Observed(), queue=waits)

    waits = queue()
    assert room_of([candidate(waits), candidate(waits)]) is not None
    assert room_of([candidate(waits), candidate(None)]) is None
    assert room_of([]) is None


async def test_a_server_that_fails_is_not_asked_by_those_who_waited_for_it() -> None:
    waits = queue()
    provider = _Provider()
    line = Line((Lane(provider),), 10.0, 0, 0.0, 0.0, "on_premises")
    candidate = Candidate(Target("gpu", "x"), line, Circuit(Patience(failures=1)), Observed(), queue=waits)
    dispatcher = Dispatcher(Priority([candidate], []), RetryBudget())
    held = await entering(waits)
    request = ChatRequest(b'{"model": "m", "messages": [{"role": "user", "content": "hi"}]}')
    waiting = asyncio.create_task(dispatcher.call(request, exchange()))
    await settle()
    assert (candidate.load, waits.waiting) == (1, 1)
    candidate.circuit.failed("upstream_error")
    held.release()
    with pytest.raises(QueueFull) as told:
        await waiting
    assert (told.value.retry_after, provider.asked, waits.running) == ("1", 0, 0)


class _Provider:
    """A server that nobody should ask."""

    endpoints = frozenset({"chat.completions"})
    asked = 0

    def unfit(self, request: Any) -> None:
        return None

    async def open(self, *_: Any) -> Any:
        self.asked += 1
        return _Chunks([])

    async def aclose(self) -> None: ...


async def test_workers_divide_what_the_server_can_do() -> None:
    assert [queue(concurrency=7, part=(number, 3)).concurrency for number in (1, 2, 3)] == [3, 2, 2]
    with pytest.raises(ValueError, match=r"providers\.gpu\.queue: 3 workers can't share a concurrency of 2"):
        queue(concurrency=2, part=(1, 3))


async def test_a_reload_changes_the_bounds_and_keeps_those_who_wait() -> None:
    queues = Queues()
    queues.prepare({"gpu": Settings(concurrency=1)})
    queues.start()
    first = queues.get("gpu")
    assert first is not None
    await entering(first)
    waiting = entering(first)
    await settle()
    queues.prepare({"gpu": Settings(concurrency=2)})
    assert queues.get("gpu") is first
    assert first.concurrency == 1  # until the reload is in force
    queues.start()
    assert await waiting
    queues.prepare({})
    assert queues.get("gpu") is None
