"""Searches by meaning, by words and by both; what is left out, put beside it, put in another order."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from retrieval.ingest import Labels
from retrieval.knowledge import Knowledge
from retrieval.loading import Document
from retrieval.passages import Passage, RetrievalUnavailable
from retrieval.questions import Freshness, SearchSettings
from retrieval.store import MilvusStore

pytestmark = pytest.mark.asyncio(loop_scope="session")

TEXTS = {
    "parts": "Replacement part XK-4711 fits the old pump in the cellar.",
    "pump": "The machine that moves water out of the basement is loud.",
    "bees": "Bees store honey in combs of wax to live through winter.",
    "trains": "The night train leaves from platform nine.",
}


async def put(knowledge: Knowledge, collection: str, texts: dict[str, str], **more: Any) -> None:
    for name, text in texts.items():
        document = Document(name, name, text, str(hash(text) % 10**9), markdown=False, **more)
        await knowledge.put(document, collection=collection, tenant="acme")


async def find(knowledge: Knowledge, collection: str, query: str, top_k: int = 3, **settings: Any) -> list[Passage]:
    chosen = SearchSettings(**settings)
    return await knowledge.find(query, collection=collection, tenant="acme", top_k=top_k, settings=chosen)


async def test_words_find_what_meaning_does_not_and_hybrid_finds_both(knowledge: Knowledge, collection: str) -> None:
    await put(knowledge, collection, TEXTS)

    worded = await find(knowledge, collection, "XK-4711", mode="keyword")
    hybrid = await find(knowledge, collection, "XK-4711", mode="hybrid")
    ranked = await find(knowledge, collection, "XK-4711", mode="hybrid", fusion="rrf")
    meant = await find(knowledge, collection, "pumping out a flooded cellar", mode="hybrid")

    assert [passage.document_id for passage in worded] == ["parts"]
    assert worded[0].score > 0
    assert hybrid[0].document_id == ranked[0].document_id == "parts"
    assert {passage.document_id for passage in meant[:2]} == {"parts", "pump"}
    assert all(-1 <= passage.score <= 1 for passage in hybrid), "a passage's score is its cosine, however it was found"


async def test_words_that_nothing_has_are_no_failure(knowledge: Knowledge, collection: str) -> None:
    await put(knowledge, collection, TEXTS)

    assert await find(knowledge, collection, "zzz qqq", mode="keyword") == []
    assert await find(knowledge, collection, " ", mode="keyword") == []
    assert len(await find(knowledge, collection, "?!", mode="hybrid")) == 3


async def test_the_same_said_twice_is_shown_once(knowledge: Knowledge, collection: str) -> None:
    await put(knowledge, collection, {**TEXTS, "copy": TEXTS["bees"], "nearly": TEXTS["bees"].replace(".", "!")})

    kept = await find(knowledge, collection, "Where do bees store honey?", near_duplicates=None)
    shown = await find(knowledge, collection, "Where do bees store honey?", near_duplicates=0.9)
    default = await find(knowledge, collection, "Where do bees store honey?")

    assert {passage.document_id for passage in kept} == {"bees", "copy", "nearly"}
    assert len({passage.document_id for passage in shown} & {"bees", "copy", "nearly"}) == 1
    assert len({passage.document_id for passage in default} & {"bees", "copy"}) == 1


async def test_diversity_puts_something_else_before_more_of_the_same(knowledge: Knowledge, collection: str) -> None:
    similar = {f"bees{n}": f"Bees store honey in combs of wax to live through winter number {n}." for n in range(4)}
    await put(knowledge, collection, {**TEXTS, **similar})
    settings: dict[str, Any] = {"near_duplicates": None, "candidates": 20}

    relevant = await find(knowledge, collection, "bees honey", **settings)
    diverse = await find(knowledge, collection, "bees honey", diversity=0.7, **settings)

    assert sum("bees" in passage.document_id for passage in relevant) == 3
    assert sum("bees" in passage.document_id for passage in diverse) < 3
    assert diverse[0] == relevant[0]


async def test_neighbours_are_shown_around_what_was_found(knowledge: Knowledge, collection: str) -> None:
    parts = [f"Paragraph {n} of the story. " + f"Filler words about topic {n}. " * 45 for n in range(5)]
    parts[2] += " The treasure is below the third oak."
    await put(knowledge, collection, {"story": "\n\n".join(parts)})

    (alone,) = await find(knowledge, collection, "Where is the treasure?", top_k=1)
    (around,) = await find(knowledge, collection, "Where is the treasure?", top_k=1, neighbours=1)

    assert "treasure" in alone.text
    assert alone.text in around.text
    assert len(around.text) > 2 * len(alone.text)
    assert around.section_id == alone.section_id


class Backwards:
    """A reranker that prefers what is shortest, when it is let."""

    def __init__(self) -> None:
        self.failure: Exception | None = None
        self.hangs = False

    async def rerank(self, query: str, texts: Sequence[str]) -> list[float]:
        if self.failure:
            raise self.failure
        if self.hangs:
            await asyncio.Event().wait()
        return [-float(len(text)) for text in texts]


async def test_reranking_within_its_budget(
    knowledge: Knowledge, collection: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    await put(knowledge, collection, TEXTS)
    reranker = Backwards()
    monkeypatch.setattr(knowledge, "_reranker", reranker)
    plain = await find(knowledge, collection, "water pump", 4)

    reranked = await find(knowledge, collection, "water pump", 4, rerank=True)
    assert [len(passage.text) for passage in reranked] == sorted(len(text) for text in TEXTS.values())
    for hangs, failure in ((True, None), (False, RetrievalUnavailable("the reranking server can't be reached"))):
        reranker.hangs, reranker.failure = hangs, failure
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            assert await find(knowledge, collection, "water pump", 4, rerank=True, rerank_budget=0.05) == plain
        assert "not reranked" in caplog.text


async def test_another_way_to_ask_finds_more(knowledge: Knowledge, collection: str) -> None:
    await put(knowledge, collection, TEXTS)
    settings = SearchSettings(mode="keyword")

    alone = await knowledge.find("honey", collection=collection, tenant="acme", top_k=3, settings=settings)
    both = await knowledge.find(
        "honey", collection=collection, tenant="acme", top_k=3, settings=settings, also=("platform",)
    )

    assert [passage.document_id for passage in alone] == ["bees"]
    assert {passage.document_id for passage in both} == {"bees", "trains"}


async def test_labels_of_a_document_are_its_passages(knowledge: Knowledge, collection: str, docs: Path) -> None:
    labels = Labels(readers=("user:ada",), sensitivity="restricted", attributes={"kind": "manual"})
    await knowledge.ingest([docs], collection=collection, tenant="acme", on_progress=lambda *_: None, labels=labels)

    async def seen(**more: Any) -> list[Passage]:
        return await knowledge.find("honey", collection=collection, tenant="acme", top_k=5, **more)

    assert await seen() == []
    assert {passage.sensitivity for passage in await seen(user="ada")} == {"restricted"}
    manual = {"type": "eq", "key": "kind", "value": "manual"}
    assert len(await seen(user="ada", filters=manual)) == 3


async def test_prune_removes_what_is_gone_and_nothing_else(knowledge: Knowledge, collection: str, docs: Path) -> None:
    other = docs.parent / "other"
    other.mkdir()
    (other / "keep.md").write_text("# Keep\n\nThis is of another folder.\n")

    async def load(*paths: Path, **more: Any) -> Any:
        return await knowledge.ingest(paths, collection=collection, tenant="acme", on_progress=lambda *_: None, **more)

    await load(docs, other)
    (docs / "bees.md").unlink()
    (docs / "trains.md").write_bytes(b"caf\xe9")

    kept = await load(docs)
    pruned = await load(docs, prune=True)

    assert (kept.removed, pruned.removed, len(pruned.failed)) == (0, 1, 1)
    found = await knowledge.find("anything", collection=collection, tenant="acme", top_k=10)
    assert {passage.document_id for passage in found} == {"docs/bread.txt", "docs/trains.md", "other/keep.md"}


async def test_only_what_is_new_in_a_document_is_embedded(
    knowledge: Knowledge, counting: Any, collection: str, tmp_path: Path
) -> None:
    paragraphs = [f"## Part {n}\n\n" + f"All about subject number {n}. " * 40 for n in range(6)]
    file = tmp_path / "long.md"

    async def load() -> Any:
        return await knowledge.ingest([file], collection=collection, tenant="acme", on_progress=lambda *_: None)

    file.write_text("\n\n".join(paragraphs))
    first = await load()
    paragraphs[3] = "## Part 3\n\n" + "Something quite different. " * 40
    file.write_text("\n\n".join(paragraphs))
    before = counting.documents
    second = await load()

    assert first.sections == before
    assert 0 < second.sections < first.sections / 2
    assert second.sections == counting.documents - before
    assert second.reused > first.sections / 2


async def test_while_a_document_is_replaced_every_search_sees_one_version_whole(
    knowledge: Knowledge, collection: str
) -> None:
    def text(version: int) -> str:
        return "\n\n".join(f"Paragraph {n} of edition {version}. " + f"It is about ships {n}. " * 40 for n in range(4))

    await put(knowledge, collection, {"book": text(0)})
    seen: set[tuple[int, int]] = set()
    over = asyncio.Event()

    async def watch() -> None:
        while not over.is_set():
            passages = await find(knowledge, collection, "ships", 20, near_duplicates=None)
            versions = {passage.version for passage in passages}
            assert len(versions) == 1, "one version, never a mix, and never nothing"
            seen.add((len(versions), len(passages)))

    watching = asyncio.create_task(watch())
    for version in range(1, 5):
        await put(knowledge, collection, {"book": text(version)})
    over.set()
    await watching

    assert len(seen) == 1, seen


async def test_a_load_that_broke_off_anywhere_ends_as_if_it_had_not(
    knowledge: Knowledge, collection: str, docs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each request of a load fails once; the load is repeated until it ends."""
    for name in ("bees.md", "trains.md"):
        (docs / name).write_text((docs / name).read_text() + "\n\n## More\n\nMore about it.\n")
    real = MilvusStore._connected
    calls = 0
    limit = 0

    async def failing(self: MilvusStore) -> Any:
        nonlocal calls
        calls += 1
        if calls == limit:
            raise RetrievalUnavailable("broke off here")
        return await real(self)

    async def load() -> Any:
        return await knowledge.ingest([docs], collection=collection, tenant="acme", on_progress=lambda *_: None)

    broken = 0
    with monkeypatch.context() as patched:
        patched.setattr(MilvusStore, "_connected", failing)
        for at in range(1, 100):
            calls, limit = 0, at
            try:
                await load()
            except RetrievalUnavailable:
                broken += 1
            else:
                break
    report = await load()

    assert broken >= 5, broken
    assert (report.unchanged, report.added, report.updated) == (3, 0, 0)
    rows = await knowledge.store._all(knowledge.store.physical(collection), 'tenant == "acme"', ["section_id"])
    assert len(rows) == len({row["section_id"] for row in rows}), "no section is there twice"


async def test_newer_documents_come_first_where_both_fit(knowledge: Knowledge, collection: str) -> None:
    now = time.time()
    for name, attributes in {
        "old": {"updated_at": "2019-03-01"}, "new": {"updated_at": now}, "undated": {}, "odd": {"updated_at": "soon"},
    }.items():  # fmt: skip
        await put(
            knowledge, collection, {name: f"The canteen opens at noon, says the {name} notice."}, attributes=attributes
        )
    await put(knowledge, collection, {"bees": TEXTS["bees"]}, attributes={"updated_at": now})

    for mode in ("dense", "keyword", "hybrid"):
        fresh = Freshness("updated_at", half_life=90 * 86_400, weight=0.5)
        found = await find(
            knowledge, collection, "When does the canteen open?", 5, mode=mode, freshness=fresh, near_duplicates=None
        )
        names = [passage.document_id for passage in found]
        assert names[0] == "new"
        assert "bees" not in names[:3], "what is new and does not answer stays behind what does"
