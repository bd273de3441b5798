"""A store that is away is left alone for a while, and asked by everybody again once it has answered."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.chat import ChatRequest
from gateway.exchange import Exchange
from gateway.stages.preparation import RetrievalStage
from gateway.values import Caller
from retrieval.breaking import Breaker
from retrieval.passages import Passage, RetrievalUnavailable

PASSAGE = Passage("d", "v", "d#0", "c", 0.5, "Title", "url", "Text.")


class Store:
    """A Retriever that is away as long as it is told to be."""

    def __init__(self) -> None:
        self.away = True
        self.asked = 0

    async def find(self, question: str, **how: Any) -> list[Passage]:
        self.asked += 1
        if self.away:
            raise RetrievalUnavailable("away")
        return [PASSAGE]


async def asked(stage: RetrievalStage) -> Exchange:
    exchange = Exchange("chat.completions")
    exchange.caller = Caller("key")
    await stage.find(ChatRequest(b'{"model":"m","messages":[{"role":"user","content":"what?"}]}'), exchange)
    return exchange


async def test_after_one_answer_all_calls_ask_again(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("gateway.stages.preparation.time.monotonic", lambda: now)
    store = Store()
    stage = RetrievalStage(store, "c", 3, None, 5.0, "continue", breaker=Breaker(failures=3, pause=1.0))
    for _ in range(10):
        assert (await asked(stage)).degraded == ["retrieval"]
    assert store.asked == 3, "the calls after the third failure do not wait for it"
    store.away = False
    now += 1.1
    for _ in range(10):
        exchange = await asked(stage)
        assert (exchange.degraded, exchange.passages) == ([], [PASSAGE])
    assert store.asked == 13
