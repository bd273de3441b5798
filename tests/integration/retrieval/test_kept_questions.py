"""Where questions are kept with their answers: one suite for memory and for Milvus."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio

from gateway.cache.memory_questions import MemoryQuestions
from gateway.cache.milvus_questions import MilvusQuestions, _create
from gateway.cache.protocol import Kept, Origin, Purge
from gateway.cache.questions import EVERYBODY, Asked, KeptAnswer, Questions, Source
from gateway.chunks import Chunk
from gateway.records.sealing import Seal
from gateway.values import Target
from retrieval.knowledge import Knowledge
from retrieval.passages import RetrievalUnavailable

pytestmark = pytest.mark.asyncio(loop_scope="session")

ONE, NEAR, FAR = [1.0] + [0.0] * 383, [0.96, 0.28] + [0.0] * 382, [0.0, 1.0] + [0.0] * 382
COMPLETION = (
    b'{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":'
    b'{"role":"assistant","content":"Fourteen weeks [1], says Zo\xc3\xab."},"finish_reason":"stop"}]}'
)
SEAL = Seal([b"k" * 32])


@pytest_asyncio.fixture(loop_scope="session", params=["memory", "milvus", "sealed"])
async def questions(request: pytest.FixtureRequest, knowledge: Knowledge) -> AsyncIterator[Questions]:
    if request.param == "memory":
        yield MemoryQuestions(100)
        return
    made = MilvusQuestions(lambda: knowledge.store, 100, SEAL if request.param == "sealed" else None)
    await made.open()
    yield made
    await made.purge(Purge())


def answer(**other: Any) -> KeptAnswer:
    """An answer of the tenant `acme` to somebody, in a partition of its own unless one is named."""
    now = time.time()
    origin = Origin("handbook", "acme", "ada", frozenset(["docs"]), frozenset(["leave.md"]))
    kept = Kept(Chunk(COMPLETION), Target("mock", "gpt-mock", 3.0), now, 60.0, "internal", origin)
    partition = uuid4().hex * 2
    sources = (Source("docs", "leave.md", "leave.md#0", "v1", True), Source("docs", "b.md", "b.md#1", "v2"))
    made = KeptAnswer(uuid4().hex * 2, "How long is it?", partition, EVERYBODY, sources, now + 60, kept)
    return replace(made, **other)


def asked(kept: KeptAnswer, audience: str = "a" * 32) -> Asked:
    return Asked("How long?", kept.partition, audience)


async def test_an_answer_comes_back_whole_to_a_question_that_is_near_enough(questions: Questions) -> None:
    kept = answer()
    await questions.keep(kept, ONE)

    (found,) = await questions.alike(asked(kept), NEAR, 0.9)
    assert found.likeness == pytest.approx(0.96, abs=1e-3)
    assert replace(found.answer, expires=kept.expires, kept=kept.kept) == kept
    assert found.answer.expires == pytest.approx(kept.expires, abs=0.01)
    assert found.answer.kept.completion.data == COMPLETION
    assert found.answer.kept.served_by == Target("mock", "gpt-mock", 3.0)
    assert (found.answer.kept.sensitivity, found.answer.kept.origin) == ("internal", kept.kept.origin)
    assert await questions.alike(asked(kept), NEAR, 0.97) == []
    assert await questions.alike(asked(kept), FAR, 0.5) == []


async def test_no_other_partition_finds_it_at_similarity_one(questions: Questions) -> None:
    """F2: whatever else a caller can influence, the partition is a filter."""
    kept = answer()
    await questions.keep(kept, ONE)
    for partition in (uuid4().hex * 2, kept.partition[:-1] + "g", "", f'{kept.partition}" or "" == "', "%"):
        assert await questions.alike(Asked("How long is it?", partition, EVERYBODY), ONE, 0.5) == []


async def test_an_answer_for_one_audience_is_for_it_alone(questions: Questions) -> None:
    kept = answer(audience="b" * 32)
    await questions.keep(kept, ONE)
    assert await questions.alike(asked(kept, "a" * 32), ONE, 0.5) == []
    assert len(await questions.alike(asked(kept, "b" * 32), ONE, 0.5)) == 1


async def test_the_most_alike_come_first_and_a_second_answer_to_the_same_request_replaces_it(
    questions: Questions,
) -> None:
    first = answer()
    await questions.keep(first, NEAR)
    await questions.keep(answer(partition=first.partition, question="nearest"), ONE)
    await questions.keep(replace(first, question="anew"), NEAR)
    found = await questions.alike(asked(first), ONE, 0.5)
    assert [each.answer.question for each in found] == ["nearest", "anew"]


async def test_what_is_past_its_time_is_not_found_and_goes(questions: Questions) -> None:
    kept = answer()
    await questions.keep(replace(kept, expires=time.time() - 1), ONE)
    await questions.keep(answer(partition=kept.partition), ONE)
    assert len(await questions.alike(asked(kept), ONE, 0.5)) == 1
    assert await questions.tidy() == 1
    assert await questions.size() == 1


@pytest.mark.parametrize(
    ("what", "gone"),
    [
        (Purge(), True),
        (Purge(tenant="acme"), True),
        (Purge(tenant="acme", model="handbook", user="ada", collection="docs", document="leave.md"), True),
        (Purge(tenant="acm"), False),
        (Purge(model='handbook" or "" == "'), False),
        (Purge(user="bob"), False),
        (Purge(collection="docs", document="other.md"), False),
        (Purge(key=b"\x01" * 32), False),
    ],
)
async def test_a_purge_takes_what_fits_all_of_it(questions: Questions, what: Purge, gone: bool) -> None:
    kept = answer()
    await questions.keep(kept, ONE)
    assert (await questions.purge(what) == 1) is gone
    assert bool(await questions.alike(asked(kept), ONE, 0.5)) is not gone


async def test_a_purge_by_key(questions: Questions) -> None:
    kept, other = answer(), answer()
    await questions.keep(kept, ONE)
    await questions.keep(other, ONE)
    assert await questions.purge(Purge(key=bytes.fromhex(kept.key))) == 1
    assert await questions.alike(asked(kept), ONE, 0.5) == []
    assert len(await questions.alike(asked(other), ONE, 0.5)) == 1


async def test_the_oldest_go_where_there_are_too_many(knowledge: Knowledge) -> None:
    for small in (MemoryQuestions(2), MilvusQuestions(lambda: knowledge.store, 2)):
        kept = [answer(question=str(number)) for number in range(4)]
        for number, each in enumerate(kept):
            made = replace(each.kept, made_at=each.kept.made_at + number)
            if isinstance(small, MilvusQuestions):
                await small.open()
            await small.keep(replace(each, partition=kept[0].partition, kept=made), ONE)
        await small.tidy()
        found = await small.alike(asked(kept[0]), ONE, 0.5)
        assert {each.answer.question for each in found} == {"2", "3"}
        await small.purge(Purge())


async def test_nothing_of_a_sealed_answer_can_be_read_in_the_store_nor_with_another_key(knowledge: Knowledge) -> None:
    sealed = MilvusQuestions(lambda: knowledge.store, 100, SEAL)
    other = MilvusQuestions(lambda: knowledge.store, 100, Seal([b"x" * 32]))
    await sealed.open()
    await other.open()
    kept = answer(question="a canary of a question")
    await sealed.keep(kept, ONE)
    rows = await knowledge.store.rows_of(sealed.name, "expires > 0", ["about", "answer", "tenant", "model", "person"])
    for canary in ("canary", "Fourteen", "acme", "leave.md", "ada"):
        assert canary not in str(rows)
    assert await other.alike(asked(kept), ONE, 0.5) == []
    assert await other.purge(Purge(tenant="acme")) == 1, "what nobody can read goes too"


async def test_a_store_that_is_not_open_yet_says_so(knowledge: Knowledge) -> None:
    made = MilvusQuestions(lambda: knowledge.store, 100)
    with pytest.raises(RetrievalUnavailable, match="being opened"):
        await made.alike(asked(answer()), ONE, 0.5)
    with pytest.raises(RetrievalUnavailable, match="being opened"):
        await made.keep(answer(), ONE)


async def test_an_answer_that_is_too_long_for_milvus_is_not_kept(knowledge: Knowledge) -> None:
    made = MilvusQuestions(lambda: knowledge.store, 100)
    await made.open()
    kept = answer(question="?" * 70_000)
    await made.keep(kept, ONE)
    assert await made.alike(asked(kept), ONE, 0.5) == []


async def test_a_store_that_hangs_is_away_for_those_who_wait(
    knowledge: Knowledge, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = MilvusQuestions(lambda: knowledge.store, 100)
    await made.open()

    async def hang(*_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(knowledge.store, "rows_of", hang)
    for name in ("_PURGED_WITHIN", "_COUNTED_WITHIN"):
        monkeypatch.setattr(f"gateway.cache.milvus_questions.{name}", 0.01)
    with pytest.raises(RetrievalUnavailable, match="did not answer in time"):
        await made.purge(Purge(tenant="acme"))
    with pytest.raises(RetrievalUnavailable, match="did not answer in time"):
        await made.size()


async def test_a_collection_whose_making_broke_off_is_finished(
    knowledge: Knowledge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.cache.milvus_questions._COLLECTION", f"answers_{uuid4().hex}")
    made = MilvusQuestions(lambda: knowledge.store, 100)
    with monkeypatch.context() as broken:
        broken.setattr("gateway.cache.milvus_questions._index", lambda store: None)
        await asyncio.to_thread(_create, knowledge.store, made.name)
    await made.open()
    kept = answer()
    await made.keep(kept, ONE)
    assert [each.answer.key for each in await made.alike(asked(kept), ONE, 0.5)] == [kept.key]


async def test_it_can_be_opened_by_several_at_once(knowledge: Knowledge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.cache.milvus_questions._COLLECTION", f"answers_{uuid4().hex}")
    several = [MilvusQuestions(lambda: knowledge.store, 100) for _ in range(3)]
    await asyncio.gather(*(each.open() for each in several for _ in range(2)))
    assert [await each.size() for each in several] == [0, 0, 0]
