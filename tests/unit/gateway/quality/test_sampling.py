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
    """Fails as often as it is told to, and then finds no call as often as it is told to."""

    def __init__(self, faults: int = 0, early: int = 0) -> None:
        self.faults = faults
        self.early = early
        self.erased: set[str] = set()
        self.kept: list[Judgement] = []

    def knows(self, call_id: str) -> bool:
        return call_id not in self.erased

    def add(self, judgements: Sequence[Judgement]) -> list[Judgement]:
        if self.faults:
            self.faults -= 1
            raise OverflowError("what nobody has thought of")
        if self.early:
            self.early -= 1
            return list(judgements)
        self.kept += judgements
        return []


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


async def test_whoever_wants_to_is_told_of_each_judgement() -> None:
    told: list[tuple[str, str, float, str]] = []
    store = Store()
    judges = QualityJudges(
        store,  # type: ignore[arg-type]  # it does what the store does
        evaluated=lambda exchange, *found: told.append((exchange.call_id, *found)),
    )
    call = watch(judges, "What?")
    await judged(judges, store, 1)
    assert told == [(call.call_id, "relevance", 1.0, "judge")]


async def test_a_judgement_waits_for_its_call_and_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "_KEEP_EVERY", 0.01)
    store = Store(early=3)
    judges = QualityJudges(store)  # type: ignore[arg-type]  # it does what the store does
    watch(judges, "What?")
    await judged(judges, store, 1)
    assert (store.early, list(judges._unstored)) == (0, [])

    monkeypatch.setattr(sampling, "_CALL_WITHIN", 0)
    store.early = 1
    watch(judges, "What?")
    watch(judges, "What else?")
    await judged(judges, store, 2)
    assert (len(store.kept), list(judges._unstored)) == (2, []), "of an erased call nothing is ever kept"


async def test_an_erased_call_that_waits_is_shown_to_no_judge(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "_LOOKS", (0.0, 0.0))
    store = Store()
    judges = QualityJudges(store)  # type: ignore[arg-type]  # it does what the store does
    gone, kept = watch(judges, "What?"), watch(judges, "What else?")
    store.erased.add(gone.call_id)
    await judged(judges, store, 1)
    assert [one.call_id for one in store.kept] == [kept.call_id]
    assert judges._judged == {("m", "relevance"): 1}
