"""What waits to be judged is bounded, and what a judge is shown too; no fault ends the judging."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from gateway.chat import JSON, ChatRequest
from gateway.exchange import Exchange
from gateway.quality import sampling
from gateway.quality.sampling import QualityJudges, Sampling
from gateway.records.quality import Judgement
from gateway.values import Caller
from guardrails.text_checks import Context


class Store:
    """Fails as often as it is told to."""

    def __init__(self, faults: int = 0) -> None:
        self.faults = faults
        self.kept: list[Judgement] = []

    def add(self, judgements: Sequence[Judgement]) -> None:
        if self.faults:
            self.faults -= 1
            raise OverflowError("what nobody has thought of")
        self.kept += judgements


async def good(answer: str, context: Context) -> float | None:
    return 1.0


def watch(judges: QualityJudges, question: str, before: str = "") -> Exchange:
    messages: list[Any] = [{"role": "assistant", "content": before}, {"role": "user", "content": question}]
    request = ChatRequest(JSON.encode({"model": "m", "messages": messages}))
    exchange = Exchange("chat.completions")
    exchange.model, exchange.caller, exchange.answer_text = "m", Caller("key"), "An answer."
    judges.watch(Sampling(1.0, {"relevance": good}, "judge"), request, exchange)
    exchange.settle()
    return exchange


async def judged(judges: QualityJudges, store: Store, count: int) -> None:
    running = asyncio.ensure_future(judges.run())
    try:
        async with asyncio.timeout(60):
            while len(store.kept) < count:
                assert not running.done(), running
                await asyncio.sleep(0.01)
    finally:
        running.cancel()


async def test_megabytes_do_not_wait_by_the_hundred(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "_MOST_BYTES", 25_000)
    store = Store()
    judges = QualityJudges(store)  # type: ignore[arg-type]  # it does what the store does
    for _ in range(5):
        watch(judges, "What?", "x" * 10_000)
    assert judges.passed_over == 3
    await judged(judges, store, 2)
    watch(judges, "What?", "x" * 10_000)
    assert judges.passed_over == 3, "there is room again"


async def test_a_question_of_megabytes_is_not_read_by_a_judge_at_the_operators_cost() -> None:
    judges = QualityJudges(Store())  # type: ignore[arg-type]  # it does what the store does
    watch(judges, "x" * 100_000)
    assert judges._waiting.empty()


async def test_a_fault_of_the_store_costs_a_judgement_and_no_more() -> None:
    store = Store(faults=3)
    judges = QualityJudges(store)  # type: ignore[arg-type]  # it does what the store does
    for _ in range(20):
        watch(judges, "What?")
    await judged(judges, store, 1)
    assert judges.failures >= 1
