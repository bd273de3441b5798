"""Targets' own limits in the attempt engine: what is held is given back, and a full target is passed over for nothing."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.chat import JSON, ChatRequest
from gateway.errors import LimitReached, TargetsFull, UpstreamFailed
from gateway.exchange import Exchange
from gateway.routing.candidates import Candidate, Lane, Line
from gateway.routing.dispatch import Dispatcher
from gateway.routing.health import Circuit
from gateway.routing.observed import Observed
from gateway.routing.retries import RetryBudget
from gateway.routing.strategies import Priority
from gateway.values import Target


class Provider:
    """Begins to answer, or fails, as told."""

    def __init__(self, *outcomes: Any) -> None:
        self._outcomes = list(outcomes)
        self.asked = 0

    async def open(self, request: Any, target: Target, exchange: Exchange, deadline: float) -> Any:
        self.asked += 1
        outcome = self._outcomes.pop(0) if self._outcomes else "chunks"
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome


class Gate:
    """Has `room` for so many tries at a time; those beyond that are told to come back after `wait` seconds."""

    def __init__(self, room: int, wait: int = 7) -> None:
        self.room = room
        self.wait = wait
        self.told: list[str] = []

    async def enter(self, request: Any, exchange: Exchange) -> Gate:
        if self.room == 0:
            raise LimitReached("full", retry_after=str(self.wait))
        self.room -= 1
        return self

    def settle(self, exchange: Exchange) -> None:
        self.room += 1
        self.told.append("settled")

    def settle_unused(self) -> None:
        self.room += 1
        self.told.append("unused")


def candidate(name: str, provider: Provider, gate: Gate | None = None, retries: int = 0) -> Candidate:
    line = Line((Lane(provider),), 10.0, retries, 0.0, 0.0, "external")  # type: ignore[arg-type]  # all that is asked of it
    return Candidate(Target("p", name), line, Circuit(), Observed(), gate=gate)


def dispatcher(*candidates: Candidate, budget: RetryBudget | None = None) -> Dispatcher:
    return Dispatcher(Priority(candidates, []), budget or RetryBudget())


def request() -> ChatRequest:
    return ChatRequest(JSON.encode({"model": "m", "messages": [{"role": "user", "content": "hi"}]}))


async def test_a_try_is_settled_when_the_call_ends() -> None:
    gate, exchange = Gate(1), Exchange("chat.completions")
    await dispatcher(candidate("a", Provider(), gate)).call(request(), exchange)
    assert (gate.room, gate.told) == (0, [])
    exchange.settle()
    assert (gate.room, gate.told) == (1, ["settled"])


@pytest.mark.parametrize("failure", [UpstreamFailed("x"), KeyboardInterrupt(), RuntimeError("a fault of ours")])
async def test_a_try_that_fails_in_whatever_way_gives_back_what_it_held(failure: BaseException) -> None:
    gate = Gate(1)
    with pytest.raises(type(failure)):
        await dispatcher(candidate("a", Provider(failure), gate)).call(request(), Exchange("chat.completions"))
    assert (gate.room, gate.told) == (1, ["unused"])


async def test_each_try_at_a_target_passes_its_gate() -> None:
    gate, provider = Gate(1), Provider(UpstreamFailed("x"))
    await dispatcher(candidate("a", provider, gate, retries=1)).call(request(), Exchange("chat.completions"))
    assert (provider.asked, gate.told) == (2, ["unused"])


async def test_a_full_target_is_passed_over_without_a_retry_of_the_budget() -> None:
    provider, budget = Provider(), RetryBudget(share=0.0, reserve=0.0)
    exchange = Exchange("chat.completions")
    await dispatcher(candidate("a", Provider(), Gate(0)), candidate("b", provider), budget=budget).call(
        request(), exchange
    )
    assert provider.asked == 1
    assert exchange.target == Target("p", "b")


async def test_when_all_are_full_the_shortest_wait_is_told() -> None:
    full = [candidate("a", Provider(), Gate(0, 30)), candidate("b", Provider(), Gate(0, 4))]
    with pytest.raises(TargetsFull) as told:
        await dispatcher(*full).call(request(), Exchange("chat.completions"))
    assert (told.value.status, told.value.retry_after) == (429, "4")


async def test_who_is_full_is_not_asked_where_the_others_are_out() -> None:
    full, out = Provider(), Provider()
    broken = candidate("b", out)
    for _ in range(10):
        broken.circuit.failed("upstream_error")
    exchange = Exchange("chat.completions")
    await dispatcher(candidate("a", full, Gate(0)), broken).call(request(), exchange)
    assert (full.asked, out.asked) == (0, 1)


async def test_a_failure_says_more_than_a_limit() -> None:
    failing = candidate("b", Provider(UpstreamFailed("down")))
    with pytest.raises(UpstreamFailed, match="down"):
        await dispatcher(candidate("a", Provider(), Gate(0)), failing).call(request(), Exchange("chat.completions"))
