"""The semantic cache over a store in memory: what parts answers, what is kept, what happens when something is away."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine, Sequence
from typing import Any

import pytest

from features.vector import FeatureVector
from gateway.cache.memory_questions import MemoryQuestions
from gateway.cache.protocol import CacheUnavailable, Kept
from gateway.cache.semantic import SemanticCache, SemanticTerms
from gateway.cache.semantic_meter import SemanticMeter, by_model
from gateway.chat import ChatRequest
from gateway.chunks import Chunk
from gateway.exchange import Exchange
from gateway.providers.replay import Replayed
from gateway.values import CacheWish, Caller, Target
from retrieval.embedding import Kind
from retrieval.passages import OfDocument, Passage, RetrievalUnavailable

FIRST, PARAPHRASE = "How do I reset my password?", "How can I reset my password?"
SERVED = Target("mock", "m")


class Meaning:
    """Every text has the same vector, but for those named; so likeness is decided by what else the cache looks at."""

    def __init__(self) -> None:
        self.away = False
        self.slow = 0.0
        self.far: set[str] = set()
        self.hidden: set[str] = set()  # documents that only named readers may read

    async def embed(self, texts: Sequence[str], *, kind: Kind) -> list[list[float]]:
        await asyncio.sleep(self.slow)
        if self.away:
            raise RetrievalUnavailable("the embedding server can't be reached")
        return [[0.0, 1.0] if text in self.far else [1.0, 0.0] for text in texts]

    async def still_readable(
        self,
        passages: Sequence[OfDocument],
        *,
        tenant: str,
        user: str | None = None,
        groups: frozenset[str] = frozenset(),
    ) -> bool:
        return user is not None or not any(passage.document_id in self.hidden for passage in passages)


class Setting:
    """One model's cache, and calls to it."""

    def __init__(self, **terms: Any) -> None:
        self.meaning, self.questions, self.meter = Meaning(), MemoryQuestions(100), SemanticMeter()
        self.later: list[Coroutine[Any, Any, None]] = []
        self.was_purged: bool | CacheUnavailable = False
        self.cache = SemanticCache(
            "handbook", "scope", SemanticTerms(**{"budget": 5.0, **terms}), self.questions, self.meaning, self.meter,
            self.later.append,
        )  # fmt: skip

    async def settle(self) -> None:
        for work in self.later:
            await work
        self.later.clear()

    async def keep(self, question: str = FIRST, text: str = "So.", **call: Any) -> Exchange:
        request, exchange = called(question, **call)
        assert self.cache.applies(request, exchange)
        await self.cache.keep(request, exchange, b"k" * 32, completion(text, exchange), SERVED, None, self.purged)
        await self.settle()
        return exchange

    async def purged(self) -> bool:
        if isinstance(self.was_purged, CacheUnavailable):
            raise self.was_purged
        return self.was_purged

    async def find(self, question: str = PARAPHRASE, **call: Any) -> Kept | None:
        request, exchange = called(question, **call)
        self.exchange = exchange
        return await self.cache.find(request, exchange) if self.cache.applies(request, exchange) else None


def called(
    question: Any,
    *,
    caller: Caller | None = None,
    before: Sequence[dict[str, Any]] = (),
    passages: Sequence[Passage] = (),
    features: FeatureVector | None = None,
    wish: CacheWish | None = None,
    **fields: Any,
) -> tuple[ChatRequest, Exchange]:
    messages = [*before, {"role": "user", "content": question}]
    request = ChatRequest(json.dumps({"model": "handbook", "messages": messages, **fields}).encode())
    exchange = Exchange("chat.completions")
    exchange.caller = caller or Caller("key", tenant="acme")
    exchange.model, exchange.passages, exchange.features, exchange.cache_wish = "handbook", passages, features, wish
    return request, exchange


def completion(text: str, exchange: Exchange) -> Chunk:
    from gateway.stages.citing import citations

    message = {"role": "assistant", "content": text, "annotations": citations(text, exchange.passages)}
    return Chunk(
        json.dumps({"id": "c", "object": "chat.completion", "choices": [
            {"index": 0, "message": message, "finish_reason": "stop"}]}).encode()
    )  # fmt: skip


def passage(name: str, version: str = "v1") -> Passage:
    return Passage(name, version, f"{name}#0", "docs", 0.5, name, name, "text")


async def test_a_paraphrase_finds_what_was_kept() -> None:
    setting = Setting()
    await setting.keep()
    kept = await setting.find()
    assert kept is not None
    assert (kept.served_by, b"So." in kept.completion.data) == (SERVED, True)
    assert setting.exchange.semantic is not None
    assert setting.exchange.semantic.told() == {"outcome": "hit", "likeness": 1.0, "key": (b"k" * 32).hex()}
    assert by_model(setting.meter.counts) == {"handbook": {"hit": 1}}


async def test_a_vector_that_is_far_is_no_hit_whatever_the_words() -> None:
    setting = Setting()
    await setting.keep()
    setting.meaning.far.add(PARAPHRASE)
    assert await setting.find() is None
    assert by_model(setting.meter.counts) == {"handbook": {"miss": 1}}


async def test_words_that_differ_are_told_in_the_record() -> None:
    setting = Setting()
    await setting.keep("How do I reset 2 passwords?")
    assert await setting.find("How do I reset 3 passwords?") is None
    assert setting.exchange.semantic is not None
    assert setting.exchange.semantic.told() == {"outcome": "refused", "likeness": 1.0, "reason": "numbers"}


VECTOR = FeatureVector("staff", {"user_id": "ada"}, {"team": "sales"}, sensitivity=("internal",))


@pytest.mark.parametrize(
    ("kept", "asked"),
    [
        ({}, {"caller": Caller("key", tenant="other")}),
        ({}, {"caller": Caller("key", tenant="acme", sensitivity="internal")}),
        ({}, {"temperature": 0.3}),
        ({"temperature": 0.3}, {"temperature": 0.4}),
        ({}, {"max_tokens": 5}),
        ({}, {"response_format": {"type": "json_object"}}),
        ({}, {"seed": 1}),
        ({}, {"an_unknown_field": 1}),
        ({}, {"n": 2}),
        ({}, {"metadata": {"sensitivity": "internal"}}),
        ({}, {"rag": {"top_k": 2}}),
        ({}, {"before": [{"role": "system", "content": "Be rude."}]}),
        ({"before": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes?"}]}, {}),
        ({}, {"features": VECTOR, "caller": Caller("key", tenant="acme", user="ada")}),
        ({}, {"tools": [{"type": "file_search", "vector_store_ids": ["vs_1"]}]}),
    ],
)
async def test_nothing_else_may_differ(kept: dict[str, Any], asked: dict[str, Any]) -> None:
    setting = Setting()
    await setting.keep(**kept)
    assert await setting.find(**asked) is None
    assert await setting.find(**kept) is not None


@pytest.mark.parametrize("more", [{"user": "somebody"}, {"metadata": {"a": "b"}, "store": True}, {"stream": True}])
async def test_what_shapes_no_answer_may(more: dict[str, Any]) -> None:
    setting = Setting()
    await setting.keep()
    assert await setting.find(**more) is not None


async def test_features_narrow_an_answer_to_their_user_even_where_the_values_are_equal() -> None:
    setting = Setting()
    ada, bob = Caller("key", tenant="acme", user="ada"), Caller("key", tenant="acme", user="bob")
    await setting.keep(caller=ada, features=VECTOR)
    assert await setting.find(caller=ada, features=VECTOR) is not None
    assert await setting.find(caller=bob, features=VECTOR) is None
    changed = FeatureVector("staff", {"user_id": "ada"}, {"team": "legal"}, sensitivity=("internal",))
    assert await setting.find(caller=ada, features=changed) is None


async def test_another_scope_has_other_answers() -> None:
    setting = Setting()
    await setting.keep()
    setting.cache = setting.cache.narrowed("the key's own guardrails")
    assert await setting.find() is None


@pytest.mark.parametrize(
    ("question", "more"),
    [
        (
            [
                {"type": "text", "text": FIRST},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}},
            ],
            {},
        ),
        (FIRST, {"tools": [{"type": "function", "function": {"name": "f"}}]}),
        (FIRST, {"functions": [{"name": "f"}]}),
        (FIRST, {"web_search_options": {}}),
        (FIRST, {"before": [{"role": "tool", "content": "42", "tool_call_id": "t"}]}),
        ("x" * 1_001, {}),
        ("   ", {}),
    ],
)
def test_what_can_have_no_such_answer(question: Any, more: dict[str, Any]) -> None:
    setting = Setting()
    assert not setting.cache.applies(*called(question, **more))


def test_degraded_and_pseudonymised_calls_take_no_part() -> None:
    setting = Setting()
    for name, value in (("degraded", ["retrieval"]), ("pseudonyms", {"a": "b"})):
        request, exchange = called(FIRST)
        setattr(exchange, name, value)
        assert not setting.cache.applies(request, exchange)


async def test_the_conversation_is_what_the_caller_said_not_what_was_rendered_round_it() -> None:
    setting = Setting()
    request, exchange = called("rendered, with another question in it")
    exchange.asked = [{"role": "user", "content": FIRST}]
    await setting.cache.keep(request, exchange, b"k" * 32, completion("So.", exchange), SERVED, None, setting.purged)
    await setting.later.pop()
    assert await setting.find() is not None


async def test_what_the_answer_cites_has_to_be_found_again_in_the_same_version() -> None:
    setting = Setting()
    await setting.keep(text="So [1].", passages=[passage("a"), passage("b")])
    assert await setting.find(passages=[passage("b"), passage("a")]) is not None
    assert await setting.find(passages=[passage("a"), passage("c")]) is not None
    assert await setting.find(passages=[passage("c"), passage("a")]) is None
    assert await setting.find(passages=[]) is None
    assert setting.exchange.semantic is not None
    assert setting.exchange.semantic.told() == {"outcome": "unfit", "likeness": 1.0, "reason": "passages"}
    assert setting.later == []
    assert await setting.find(passages=[passage("a", "v2"), passage("b")]) is None
    await setting.settle()


async def test_what_is_outdated_does_not_stand_before_what_was_made_since() -> None:
    """Only the most alike are looked at, and a question that many have asked would have none but old answers there."""
    setting = Setting()
    await setting.keep(text="So [1].", passages=[passage("a"), passage("b")])
    assert await setting.find(passages=[passage("b", "v2"), passage("c")]) is None
    await setting.settle()
    assert await setting.questions.size() == 0


async def test_an_answer_made_of_what_not_everybody_may_read_is_its_askers_alone() -> None:
    setting = Setting()
    setting.meaning.hidden.add("a")
    ada, bob = Caller("key", tenant="acme", user="ada"), Caller("key", tenant="acme", user="bob")
    groups = Caller("key", tenant="acme", user="ada", groups=frozenset(["board"]))
    await setting.keep(text="So [1].", passages=[passage("a")], caller=ada)
    assert await setting.find(passages=[passage("a")], caller=ada) is not None
    for other in (bob, groups, Caller("key", tenant="acme")):
        assert await setting.find(passages=[passage("a")], caller=other) is None


async def test_what_was_not_found_again_has_to_be_readable_still() -> None:
    setting = Setting()
    await setting.keep(text="So [1].", passages=[passage("a"), passage("b")])
    setting.meaning.hidden.add("b")  # since then
    assert await setting.find(passages=[passage("a"), passage("b")]) is not None, "their own search has found it"
    assert await setting.find(passages=[passage("a")]) is None
    assert await setting.find(passages=[passage("a")], caller=Caller("key", tenant="acme", user="ada")) is not None


async def test_a_caller_can_ask_for_more_likeness_and_never_for_less() -> None:
    setting = Setting(threshold=0.9)
    await setting.keep()
    setting.meaning.far.add(PARAPHRASE)
    assert await setting.find(wish=CacheWish(threshold=0.0)) is None
    setting.meaning.far.clear()
    assert await setting.find(wish=CacheWish(threshold=0.95)) is not None


async def test_a_refusal_and_several_answers_are_not_kept() -> None:
    setting = Setting()
    request, exchange = called(FIRST)
    message = {"role": "assistant", "content": "I can't.", "refusal": "I can't."}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    for choices in ([choice], [choice | {"message": {"role": "assistant", "content": "A"}}] * 2):
        data = json.dumps({"id": "c", "object": "chat.completion", "choices": choices}).encode()
        await setting.cache.keep(request, exchange, b"k" * 32, Chunk(data), SERVED, None, setting.purged)
    assert setting.later == []


async def test_the_embedder_away_is_a_miss_that_is_counted_and_soon_not_waited_for() -> None:
    setting = Setting()
    await setting.keep()
    setting.meaning.away = True
    for _ in range(5):
        assert await setting.find() is None
    assert by_model(setting.meter.counts) == {"handbook": {"unavailable": 5}}
    await setting.keep("How do I log in?")
    assert setting.meter.counts["handbook", "not_kept"] == 1


async def test_a_look_up_has_its_budget() -> None:
    setting = Setting(budget=0.01)
    await setting.keep()
    setting.meaning.slow = 60.0
    assert await setting.find() is None
    assert by_model(setting.meter.counts) == {"handbook": {"late": 1}}


@pytest.mark.parametrize("purged", [True, CacheUnavailable("Redis is away")])
async def test_what_may_have_been_meant_by_a_purge_while_it_was_kept_is_gone(purged: bool | CacheUnavailable) -> None:
    setting = Setting()
    setting.was_purged = purged
    await setting.keep()
    assert await setting.questions.size() == 0
    assert await setting.find() is None


async def test_shadow_gives_nothing_and_compares_with_the_new_answer() -> None:
    setting = Setting(shadow=True)
    await setting.keep(text="Press the red button.")
    for text, outcome in (("Press the red button!", "agreed"), ("Never press anything.", "false_hit")):
        setting.meaning.far.add(text)
        assert await setting.find() is None
        exchange = setting.exchange
        chunks = setting.cache.watched(Replayed([completion(text, exchange)]), exchange)
        while await chunks.next():
            pass
        assert exchange.semantic is not None
        assert exchange.semantic.outcome == outcome
    assert by_model(setting.meter.counts) == {"handbook": {"agreed": 1, "false_hit": 1, "false_hit_rate": 0.5}}


async def test_shadow_compares_a_stream_at_its_end_and_a_broken_one_never() -> None:
    setting = Setting(shadow=True)
    await setting.keep(text="Press the red button.")
    parts = [
        Chunk(json.dumps({"id": "c", "object": "chat.completion.chunk", "choices": [
            {"index": 0, "delta": {"content": part}, "finish_reason": None}]}).encode())
        for part in ("Press the ", "red button.")
    ]  # fmt: skip
    assert await setting.find() is None
    chunks = setting.cache.watched(Replayed(parts), setting.exchange)
    assert await chunks.next() == parts
    assert by_model(setting.meter.counts) == {}
    assert await chunks.next() == []
    assert by_model(setting.meter.counts) == {"handbook": {"agreed": 1, "false_hit_rate": 0.0}}

    assert await setting.find() is None
    setting.cache.watched(Replayed(parts), setting.exchange).close()
    assert by_model(setting.meter.counts) == {"handbook": {"agreed": 1, "false_hit_rate": 0.0}}
