"""Calls that checks make: made for the call that is judged, under its label, accounted for by themselves."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.chat import ChatRequest, Request
from gateway.chunks import Chunk
from gateway.errors import Forbidden
from gateway.exchange import Exchange
from gateway.providers.protocol import Chunks
from gateway.providers.replay import Replayed
from gateway.stages.guard_calls import completes, embeds, embeds_here, guarding
from guardrails.text_checks import CheckUnavailable
from guardrails.verdicts import Finding, Verdict
from retrieval.passages import RetrievalUnavailable

FOUND = ("input", Verdict("pii", "flag", (Finding("IBAN_CODE", 0, 1, 1.0),), "1"))


class Ledger:
    def __init__(self) -> None:
        self.settled_calls: list[Exchange] = []

    def price(self, exchange: Exchange) -> None:
        """Nothing has a price here."""

    def begin(self, exchange: Exchange) -> None:
        """Nothing is counted here."""

    def settled(self, exchange: Exchange) -> None:
        self.settled_calls.append(exchange)


def judged() -> tuple[ChatRequest, Exchange, Ledger]:
    body = {"model": "m", "messages": [{"role": "user", "content": "x"}], "metadata": {"sensitivity": "secret"}}
    exchange, ledger = Exchange("chat.completions"), Ledger()
    exchange.account, exchange.verdicts = ledger, [FOUND]
    return ChatRequest(json.dumps(body).encode()), exchange, ledger


def vectors(*numbers: float) -> dict[str, Any]:
    """As a server may give them: in any order."""
    data = [{"index": index, "embedding": [number]} for index, number in enumerate(numbers)]
    return {"data": data[::-1], "model": "e-1", "usage": {"prompt_tokens": 3}}


class Target:
    def __init__(self, answer: Any) -> None:
        self._answer = answer
        self.seen: list[tuple[Any, str | None, list[Any]]] = []

    async def __call__(self, request: Request, exchange: Exchange) -> Chunks:
        self.seen.append((json.loads(request.body_for("e")), exchange.sensitivity, list(exchange.verdicts)))
        if isinstance(self._answer, Exception):
            raise self._answer
        return Replayed([Chunk(json.dumps(self._answer).encode())])


async def test_an_embedding_is_asked_for_under_the_label_of_the_judged_call_and_recorded_as_its_own() -> None:
    target = Target(vectors(0.5, 0.25))
    request, exchange, ledger = judged()
    with guarding(request, exchange):
        assert await embeds(target, "e")(["a\ud800", ""]) == [[0.5], [0.25]]
    assert target.seen == [({"model": "e", "input": ["a?", " "]}, "secret", [FOUND])]
    (made,) = ledger.settled_calls
    assert (made.made_for, made.endpoint) == (("guardrail", exchange.call_id), "embeddings")
    assert (made.status, made.outcome, made.verdicts) == (200, "ok", [])
    assert made.usage is not None
    assert exchange.verdicts == [FOUND]


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (Forbidden("may not leave", code="residency"), "its model can't be asked (residency)"),
        (vectors(0.5), "its embedder did not give one vector a text"),
        ({"data": [{"embedding": [1]}]}, "its embedder's answer can't be read"),
        ({"data": 3}, "its embedder's answer can't be read"),
    ],
)
async def test_what_is_no_answer_makes_the_check_unavailable(answer: Any, why: str) -> None:
    request, exchange, ledger = judged()
    with guarding(request, exchange), pytest.raises(CheckUnavailable) as caught:
        await embeds(Target(answer), "e")(["a", "b"])
    assert str(caught.value) == why
    assert len(ledger.settled_calls) == 1


async def test_a_chat_model_is_asked_the_same_way() -> None:
    asked: list[tuple[Any, Exchange]] = []

    async def ask(request: ChatRequest, made: Exchange) -> str:
        asked.append((json.loads(request.body_for("j")), made))
        if len(asked) > 1:
            raise Forbidden("may not leave", code="residency")
        return "yes"

    request, exchange, _ = judged()
    messages = [{"role": "user", "content": "Is it so?"}]
    with guarding(request, exchange):
        assert await completes(ask, "j")(messages) == "yes"
        with pytest.raises(CheckUnavailable, match="residency"):
            await completes(ask, "j")(messages)
    body, made = asked[0]
    assert body == {"model": "j", "messages": messages, "temperature": 0}
    assert (made.sensitivity, made.made_for) == ("secret", ("guardrail", exchange.call_id))


async def test_nobody_is_asked_outside_of_a_call() -> None:
    with pytest.raises(CheckUnavailable, match="outside of a call"):
        await embeds(Target(vectors(1.0)), "e")(["a"])


async def test_retrievals_embedder_is_asked_in_parts_and_may_be_away() -> None:
    parts: list[int] = []

    async def embedder(texts: Any) -> list[list[float]]:
        parts.append(len(texts))
        if len(parts) > 3:
            raise RetrievalUnavailable("it is starting")
        return [[1.0]] * len(texts)

    assert len(await embeds_here(embedder)(["x"] * 130)) == 130
    assert parts == [64, 64, 2]
    with pytest.raises(CheckUnavailable, match="its embedder is away: it is starting"):
        await embeds_here(embedder)(["x"])
