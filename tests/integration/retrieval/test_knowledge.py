"""Documents in, passages out, through the real Milvus Lite and the real model."""

from __future__ import annotations

import asyncio
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from retrieval.ingest import IngestReport, Labels
from retrieval.knowledge import Knowledge
from retrieval.passages import Passage, RetrievalUnavailable
from retrieval.questions import Freshness, SearchSettings
from retrieval.schema import Recipe, blank
from retrieval.store import MilvusStore, quoted

pytestmark = pytest.mark.asyncio(loop_scope="session")


def quiet(collection: str, done: int, total: int) -> None:
    pass


async def load(knowledge: Knowledge, collection: str, *paths: Path, tenant: str = "acme") -> IngestReport:
    return await knowledge.ingest(paths, collection=collection, tenant=tenant, on_progress=quiet)


async def find(knowledge: Knowledge, collection: str, query: str, tenant: str = "acme", **more: Any) -> list[Passage]:
    return await knowledge.find(query, collection=collection, tenant=tenant, top_k=10, **more)


def state(passages: list[Passage]) -> list[tuple[str, str]]:
    """What a collection holds, as far as a search for ten passages shows it."""
    return sorted((passage.section_id, passage.text) for passage in passages)


async def test_the_right_passage_comes_first_with_all_that_a_citation_needs(
    knowledge: Knowledge, collection: str, docs: Path
) -> None:
    told: list[tuple[str, int, int]] = []
    report = await knowledge.ingest(
        [docs], collection=collection, tenant="acme", on_progress=lambda *progress: told.append(progress)
    )
    passages = await find(knowledge, collection, "Where does the train leave?")

    assert (report.added, report.updated, report.unchanged, report.failed, report.sections) == (3, 0, 0, [], 3)
    assert told == [(collection, done, 3) for done in range(4)]
    first = passages[0]
    assert (first.document_id, first.section_id, first.title, first.url, first.heading, first.collection) == (
        "docs/trains.md",
        "docs/trains.md#0",
        "Trains",
        "docs/trains.md",
        ("Trains", "Departures"),
        collection,
    )
    assert "platform nine" in first.text
    assert [passage.score for passage in passages] == sorted((passage.score for passage in passages), reverse=True)
    assert len(passages) == 3


async def test_a_minimum_score_leaves_out_what_is_far(knowledge: Knowledge, collection: str, docs: Path) -> None:
    await load(knowledge, collection, docs)

    passages = await find(knowledge, collection, "Where does the night train leave?", min_score=0.4)

    assert [passage.document_id for passage in passages] == ["docs/trains.md"]


async def test_what_has_not_changed_is_not_embedded_again(
    knowledge: Knowledge, counting: Any, collection: str, docs: Path
) -> None:
    await load(knowledge, collection, docs)
    embedded = counting.documents

    report = await load(knowledge, collection, docs)

    assert embedded == 3
    assert (report.added, report.updated, report.unchanged, report.sections) == (0, 0, 3, 0)
    assert counting.documents == embedded


async def test_a_changed_document_is_replaced_whole(knowledge: Knowledge, collection: str, docs: Path) -> None:
    file = docs / "trains.md"
    filler = "The station hall was built of brick and glass a hundred years ago. " * 15
    file.write_text(f"# Trains\n\n{filler}\n\n## Old\n\n{filler}\n")
    await load(knowledge, collection, docs)
    assert len(await find(knowledge, collection, "station hall")) > 3
    file.write_text("# Trains\n\nAll trains now leave from platform ten.\n")

    report = await load(knowledge, collection, docs)

    assert (report.added, report.updated, report.unchanged, report.sections) == (0, 1, 2, 1)
    passages = await find(knowledge, collection, "trains platform station hall")
    assert state(passages)[2] == ("docs/trains.md#0", "# Trains\n\nAll trains now leave from platform ten.")
    assert len(passages) == 3


async def test_a_broken_load_leaves_what_was_there_and_a_repeat_ends_as_if_nothing_had_happened(
    knowledge: Knowledge, counting: Any, collection: str, docs: Path
) -> None:
    await load(knowledge, collection, docs)
    before = state(await find(knowledge, collection, "anything"))
    for file in (docs / name for name in ("bees.md", "bread.txt", "trains.md")):
        file.write_text(file.read_text() + "\nA new sentence about ships.\n")
    counting.until = counting.documents + 1
    with pytest.raises(RetrievalUnavailable):
        await load(knowledge, collection, docs)

    between = state(await find(knowledge, collection, "anything"))
    counting.until = None
    report = await load(knowledge, collection, docs)

    assert len(between) == len(before)
    assert len(set(before) & set(between)) == 2
    assert (report.updated, report.unchanged) == (2, 1)
    after = state(await find(knowledge, collection, "anything"))
    assert [section for section, _ in after] == [section for section, _ in before]
    assert all("ships" in text for _, text in after)


async def test_a_load_cancelled_between_new_and_old_sections_is_completed_by_the_next(
    knowledge: Knowledge, collection: str, docs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await load(knowledge, collection, docs)
    (docs / "bees.md").write_text("# Bees\n\nBees dance to show where flowers are.\n")
    reached = asyncio.Event()

    async def never(*_: object, **__: object) -> None:
        reached.set()
        await asyncio.Event().wait()

    with monkeypatch.context() as patched:
        patched.setattr(MilvusStore, "drop_versions", never)
        loading = asyncio.create_task(load(knowledge, collection, docs))
        await asyncio.wait_for(reached.wait(), 20)
        loading.cancel()
        await asyncio.gather(loading, return_exceptions=True)
    passages = await find(knowledge, collection, "bees")
    assert len(passages) == 3  # the new document or the old one, never both
    assert "dance" in passages[0].text

    report = await load(knowledge, collection, docs)

    assert (report.updated, report.unchanged, report.sections) == (0, 3, 0)
    passages = await find(knowledge, collection, "bees")
    assert len(passages) == 3
    assert "dance" in passages[0].text


async def test_a_document_that_cannot_be_loaded_is_told_and_the_others_are_loaded(
    knowledge: Knowledge, collection: str, docs: Path
) -> None:
    (docs / "latin.txt").write_bytes(b"caf\xe9")
    (docs / "empty.md").write_text("# Only a heading\n")
    (docs.parent / "program.exe").write_bytes(b"MZ")
    (docs.parent / "slides.pptx").write_bytes(b"PK")

    report = await load(knowledge, collection, docs, docs.parent / "program.exe", docs.parent / "slides.pptx")

    assert report.added == 3
    assert report.failed == [
        (str(docs / "empty.md"), "holds no text"),
        (str(docs / "latin.txt"), "is not UTF-8 (byte 3)"),
        (
            str(docs.parent / "program.exe"),
            ".exe can't be loaded; .md, .markdown, .txt, .html, .htm, .pdf, .docx, .pptx, .xlsx, .csv, .json, .jsonl and "
            "source code can",
        ),
        (str(docs.parent / "slides.pptx"), "is not a .pptx file, whatever its name says"),
    ]


async def test_a_tenant_sees_its_own_documents_and_the_shared_ones(
    knowledge: Knowledge, collection: str, tmp_path: Path
) -> None:
    for tenant in ("acme", "umbrella", "*"):
        folder = tmp_path / tenant.replace("*", "all") / "docs"
        folder.mkdir(parents=True)
        (folder / "plan.md").write_text(f"# Plan\n\nThe plan of {tenant}.\n")
        await load(knowledge, collection, folder, tenant=tenant)

    for tenant, seen in (("acme", {"acme", "*"}), ("umbrella", {"umbrella", "*"}), ("nobody", {"*"})):
        passages = await find(knowledge, collection, "What is the plan of acme, umbrella and all?", tenant)
        assert {passage.text.split("The plan of ")[1].removesuffix(".") for passage in passages} == seen


HOSTILE = [
    'x"] or tenant in ["acme',
    'x" or tenant == "acme',
    '" or 1 == 1 or tenant == "',
    "acme' or '1' == '1",
    '\\"] or tenant != "x',
    "\\",
    'acme\\", "acme',
    "acme\n",
    " acme",
    "ACME",
    "ac%",
    "{tenant}",
    "",
]


@pytest.mark.parametrize("tenant", HOSTILE)
async def test_no_name_of_a_tenant_reads_anothers_documents(
    knowledge: Knowledge, collection: str, docs: Path, tenant: str
) -> None:
    await load(knowledge, collection, docs)

    assert await find(knowledge, collection, "Where does the train leave?", tenant) == []


@pytest.mark.parametrize(
    "query", ["", '"] or tenant != "', "{{ 7 * 7 }}", "\0", "日本 😀", "word " * 5000, "x" * 90_000]
)
async def test_any_query_is_only_a_text(knowledge: Knowledge, collection: str, docs: Path, query: str) -> None:
    await load(knowledge, collection, docs)
    await load(knowledge, collection, docs, tenant="umbrella")

    assert len(await find(knowledge, collection, query)) == 3


@given(name=st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_a_quoted_name_means_itself_and_nothing_more(knowledge: Knowledge, name: str) -> None:
    """Asked of Milvus itself: as many rows are found as have this very name."""
    client = knowledge.store._connected()
    client = await client if asyncio.iscoroutine(client) else client
    await knowledge.store.ensure("quoting")
    physical = knowledge.store.physical("quoting")
    row = {**blank(384), "id": "fuzz", "tenant": "fuzz", "document_id": name, "title": "fuzz"}
    await client.upsert(physical, [row])

    async def rows(text: str) -> list[str]:
        clause = f'tenant == "fuzz" and document_id == {quoted(text)}'
        return [row["id"] for row in await client.query(physical, filter=clause, output_fields=["id"])]

    assert await rows(name) == ["fuzz"]
    assert await rows(name + "x") == []


async def test_a_collection_of_another_model_is_refused_and_says_what_to_do(
    knowledge: Knowledge, collection: str, docs: Path
) -> None:
    await load(knowledge, collection, docs)
    store = knowledge.store
    other = MilvusStore(store._address, None, Recipe("another-model", 384))

    with pytest.raises(RetrievalUnavailable) as refused:
        await other.ensure(collection)
    await other.aclose()

    assert str(refused.value) == (
        f"the collection {collection} was made with all-MiniLM-L6-v2 in 384 dimensions, not with another-model in 384 "
        f"dimensions: run `rag-gateway reindex --collection {collection}`"
    )


async def test_dated_files_are_newer_first_and_a_new_time_embeds_nothing(
    knowledge: Knowledge, collection: str, tmp_path: Path
) -> None:
    for name, year in (("old", 2015), ("new", 2026)):
        file = tmp_path / f"{name}.md"
        file.write_text(f"# Notice\n\nThe canteen opens at noon, says the {name} notice.\n")
        os.utime(file, (datetime(year, 1, 1, tzinfo=UTC).timestamp(),) * 2)

    async def loaded() -> tuple[int, int]:
        report = await knowledge.ingest([tmp_path], collection=collection, on_progress=quiet, labels=Labels(dated=True))
        return report.sections, report.reused

    chosen = SearchSettings(freshness=Freshness("updated_at", 86_400 * 90, 0.5), near_duplicates=None)

    async def first() -> str:
        found = await knowledge.find("canteen notice", collection=collection, tenant="t", top_k=2, settings=chosen)
        return Path(found[0].document_id).name

    assert await loaded() == (2, 0)
    assert await first() == "new.md"
    os.utime(tmp_path / "old.md")
    os.utime(tmp_path / "new.md", (0, 0))
    assert await loaded() == (0, 2)
    assert await first() == "old.md"


async def test_it_is_healthy(knowledge: Knowledge) -> None:
    assert await knowledge.healthy()


async def test_a_search_can_be_given_up(knowledge: Knowledge, collection: str, docs: Path) -> None:
    await load(knowledge, collection, docs)
    task = asyncio.create_task(find(knowledge, collection, "Where does the train leave?"))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert len(await find(knowledge, collection, "Where does the train leave?")) == 3
