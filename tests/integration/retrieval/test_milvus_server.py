"""Retrieval over a Milvus server in place of Milvus Lite: one address in the settings, and no other change.

The server is one before 2.4, with the least that retrieval has to make do with: no BM25, no LIKE inside a text.
"""

from __future__ import annotations

import asyncio
import os
import platform
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from gateway_process import GatewayProcess
from milvus_process import MilvusProcess
from upstream.vendor import Vendor

from gateway.cache.milvus_questions import MilvusQuestions
from gateway.cache.protocol import Kept, Origin, Purge
from gateway.cache.questions import EVERYBODY, Asked, KeptAnswer
from gateway.chunks import Chunk
from retrieval.knowledge import Knowledge, KnowledgeSettings
from retrieval.loading import Document
from retrieval.passages import Passage, RetrievalUnavailable
from retrieval.questions import SearchSettings

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.skipif(
        (sys.platform, platform.machine()) != ("linux", "x86_64"), reason="the server is a program for Linux on x86-64"
    ),
]
ROOT = Path(__file__).parents[3]
COLLECTION, OTHER = "handbook", "made_anew"
ALL = SearchSettings(candidates=100, near_duplicates=None)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MilvusProcess]:
    with MilvusProcess(tmp_path_factory.mktemp("milvus") / "server") as running:
        assert os.readlink(f"/proc/{running.server.pid}/ns/net") != os.readlink("/proc/self/ns/net")
        yield running


@pytest.fixture(scope="module")
def settings(server: MilvusProcess, knowledge: Knowledge, data_dir: Path) -> KnowledgeSettings:
    """Those of `knowledge`, but for the server: both have one embedding process."""
    return KnowledgeSettings(data_dir, milvus_uri=server.url, keywords=False)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def on_server(settings: KnowledgeSettings) -> AsyncIterator[Knowledge]:
    async with Knowledge.open(settings) as opened:
        await once(opened.healthy)
        # Milvus takes three seconds for a collection, and no longer for two.
        await asyncio.gather(*(opened.remove("none", collection=name, tenant="*") for name in (COLLECTION, OTHER)))
        yield opened


async def once(condition: Callable[[], Awaitable[Any]]) -> Any:
    """The first true answer; while Milvus is away there is none."""
    async with asyncio.timeout(60):
        while True:
            try:
                if answer := await condition():
                    return answer
            except RetrievalUnavailable:
                pass
            await asyncio.sleep(0.05)


def quiet(collection: str, done: int, total: int) -> None:
    pass


async def put(knowledge: Knowledge, name: str, text: str, tenant: str, **more: Any) -> None:
    document = Document(name, name, text, str(hash(text) % 10**9), markdown=False, **more)
    await knowledge.put(document, collection=COLLECTION, tenant=tenant)


async def find(knowledge: Knowledge, query: str, tenant: str, **more: Any) -> list[Passage]:
    return await knowledge.find(query, collection=COLLECTION, tenant=tenant, top_k=20, settings=ALL, **more)


async def names(knowledge: Knowledge, tenant: str, query: str = "anything", **more: Any) -> set[str]:
    return {passage.document_id for passage in await find(knowledge, query, tenant, **more)}


async def test_a_gateway_uses_it_by_its_configuration_alone(
    on_server: Knowledge, server: MilvusProcess, vendor: Vendor, docs: Path, tmp_path: Path
) -> None:
    mock = {"kind": "openai_compatible", "base_url": vendor.url, "api_key": vendor.api_key}
    embeddings = {"url": vendor.url, "api_key": vendor.api_key, "model": "mock-embed", "dimension": 3}
    collections = {"office": {"load": [str(docs)], "attributes": {"year": 2025}}}
    retrieval = {"collection": "office", "top_k": 3, "mode": "dense"}
    configuration = {
        "providers": {"mock": mock},
        "retrieval": {
            "milvus": {"uri": server.url, "bm25": False},
            "embeddings": embeddings,
            "collections": collections,
        },
        "prompts": {"folder": str(ROOT / "configs" / "prompts")},
        "models": {"office": {"targets": ["mock/gpt-mock"], "prompt": "handbook@1", "retrieval": retrieval}},
    }

    with GatewayProcess(configuration, tmp_path / "gateway") as gateway:
        rag = {"filters": {"type": "gt", "key": "year", "value": 2024}}
        body = {"model": "office", "messages": [{"role": "user", "content": "When does the train leave?"}], "rag": rag}
        answer = await asyncio.to_thread(httpx.post, f"{gateway.url}/v1/chat/completions", json=body)

    assert {source["collection"] for source in answer.json()["rag"]["sources"]} == {"office"}


async def test_folders_are_loaded_found_by_meaning_and_brought_up_to_date(on_server: Knowledge, docs: Path) -> None:
    async def load(**more: Any) -> tuple[int, int, int, int]:
        report = await on_server.ingest([docs], collection=COLLECTION, tenant="t1", on_progress=quiet, **more)
        return report.added, report.updated, report.unchanged, report.removed

    assert await load() == (3, 0, 0, 0)
    assert await load() == (0, 0, 3, 0)
    first, *others = await find(on_server, "Where does the train leave?", "t1")
    assert (first.document_id, first.title, first.heading) == ("docs/trains.md", "Trains", ("Trains", "Departures"))
    assert "platform nine" in first.text
    assert first.score > max(other.score for other in others)

    (docs / "trains.md").write_text("# Trains\n\nAll trains now leave from platform ten.\n")
    (docs / "bees.md").unlink()
    assert await load(prune=True) == (0, 1, 1, 1)
    found = await find(on_server, "Where does the train leave?", "t1")
    assert {passage.document_id: passage.text.split("\n")[-1] for passage in found} == {
        "docs/trains.md": "All trains now leave from platform ten.",
        "docs/bread.txt": "Knead the dough for ten minutes, then let it rise next to the oven.",
    }


async def test_a_tenant_sees_its_own_documents_and_the_shared_ones(on_server: Knowledge) -> None:
    for tenant in ("acme", "umbrella", "*"):
        await put(on_server, f"plan of {tenant}", f"The plan of {tenant}.", tenant)

    assert await names(on_server, "acme") == {"plan of acme", "plan of *"}
    assert await names(on_server, "umbrella") == {"plan of umbrella", "plan of *"}
    for other in ("nobody", "ACME", 'x"] or tenant in ["acme', '" or 1 == 1 or tenant == "', "acme\\", "ac%"):
        assert await names(on_server, other) == {"plan of *"}
    await on_server.remove("plan of *", collection=COLLECTION, tenant="*")


async def test_only_readers_find_a_document(on_server: Knowledge) -> None:
    for name, readers in (("ada", ("user:ada",)), ("board", ("group:board", "user:bo")), ("nobody", ()), ("all", None)):
        await put(on_server, name, f"A note for {name}.", "t2", **({} if readers is None else {"readers": readers}))

    assert await names(on_server, "t2") == {"all"}
    assert await names(on_server, "t2", user="ada") == {"all", "ada"}
    assert await names(on_server, "t2", user="ada", groups=frozenset({"x", "board"})) == {"all", "ada", "board"}
    assert await names(on_server, "t2", user="bo") == {"all", "board"}
    assert (
        await names(on_server, "umbrella", user="ada", groups=frozenset({"board"})) & {"all", "ada", "board"} == set()
    )
    shown = await find(on_server, "note", "t2", user="bo")
    assert await on_server.still_readable(shown, tenant="t2", user="bo")
    assert not await on_server.still_readable(shown, tenant="t2", user="ada")


async def test_filters_on_attributes(on_server: Knowledge) -> None:
    kinds = {"a": {"kind": "manual", "year": 2023}, "b": {"kind": "manual", "year": 2024.5, "old": True}, "c": {}}
    for name, attributes in kinds.items():
        await put(on_server, name, f"About {name}.", "t3", attributes=attributes)

    async def found(**given: Any) -> str:
        return "".join(sorted(await names(on_server, "t3", filters=given)))

    assert await found(type="eq", key="kind", value="manual") == "ab"
    assert await found(type="eq", key="kind", value='" or readers like "%|public|%') == ""
    assert await found(type="eq", key="year", value=2023.0) == "a"
    assert await found(type="eq", key="old", value=True) == "b"
    assert await found(type="ne", key="kind", value="manual") == "c"
    assert await found(type="in", key="year", value=[2023, 1999]) == "a"
    assert await found(type="nin", key="year", value=[2023, 1999]) == "bc"
    assert await found(type="gt", key="year", value=2023) == "b"
    assert await found(type="lte", key="year", value=2024.5) == "ab"
    assert await found(type="gt", key='ye"ar', value=1) == ""
    manual, late = {"type": "eq", "key": "kind", "value": "manual"}, {"type": "gte", "key": "year", "value": 2024}
    assert await found(type="and", filters=[manual, late]) == "b"
    assert await found(type="or", filters=[late, {"type": "ne", "key": "kind", "value": "manual"}]) == "bc"


async def test_neighbours_are_shown_around_what_was_found(on_server: Knowledge) -> None:
    parts = [f"Paragraph {n} of the story. " + f"Filler words about topic {n}. " * 45 for n in range(5)]
    parts[2] += " The treasure is below the third oak."
    await put(on_server, "story", "\n\n".join(parts), "t4")

    async def text(neighbours: int) -> str:
        chosen = SearchSettings(neighbours=neighbours)
        query = "Where is the treasure?"
        (passage,) = await on_server.find(query, collection=COLLECTION, tenant="t4", top_k=1, settings=chosen)
        return passage.text

    assert (await text(0)) in (around := await text(1))
    assert len(around) > 2 * len(await text(0))


async def test_while_a_document_is_replaced_every_search_sees_one_version_whole(on_server: Knowledge) -> None:
    def text(version: int) -> str:
        return "\n\n".join(f"Paragraph {n} of edition {version}. " + f"It is about ships {n}. " * 40 for n in range(4))

    await put(on_server, "book", text(0), "t5")
    whole = len(await find(on_server, "ships", "t5"))
    over = asyncio.Event()
    seen: set[str] = set()

    async def watch() -> None:
        while not over.is_set():
            passages = await find(on_server, "ships", "t5")
            assert len({passage.version for passage in passages}) == 1, "one version, never a mix, and never nothing"
            assert len(passages) == whole
            seen.add(passages[0].version)

    watching = asyncio.create_task(watch())
    for version in range(1, 3):
        await put(on_server, "book", text(version), "t5")
    over.set()
    await watching

    assert len(seen) > 1


async def test_a_document_that_was_removed_is_gone_and_can_come_again(on_server: Knowledge) -> None:
    await put(on_server, "secret", "The secret recipe.", "t6")
    assert await names(on_server, "t6") == {"secret"}

    await on_server.remove("secret", collection=COLLECTION, tenant="t6")

    async def gone() -> bool:
        return not await names(on_server, "t6")

    assert await once(gone)
    await put(on_server, "secret", "The secret recipe.", "t6")
    assert await names(on_server, "t6") == {"secret"}


async def test_another_recipe_is_refused_until_reindex_and_takes_all_with_it(
    on_server: Knowledge, settings: KnowledgeSettings
) -> None:
    attributes = {"kind": "manual"}
    for name, readers in (("open", ("public",)), ("closed", ("user:ada",))):
        document = Document(name, name, f"An {name} note.", "1", markdown=False, readers=readers, attributes=attributes)
        await on_server.put(document, collection=OTHER, tenant="t7")

    async with Knowledge.open(replace(settings, query_prefix="query: ", document_prefix="passage: ")) as other:

        async def found(**who: Any) -> set[str]:
            filters = {"type": "eq", "key": "kind", "value": "manual"}
            passages = await other.find("note", collection=OTHER, tenant="t7", top_k=5, filters=filters, **who)
            return {passage.document_id for passage in passages}

        with pytest.raises(RetrievalUnavailable, match="run `rag-gateway reindex"):
            await found()
        assert await other.reindex(OTHER, on_progress=lambda done: None) == 2
        assert await found() == {"open"}
        assert await found(user="ada") == {"open", "closed"}
        assert await other.reindex(OTHER, on_progress=lambda done: None) == 0
        await other.drop(OTHER)


async def test_keyword_search_is_refused_in_words(on_server: Knowledge, settings: KnowledgeSettings) -> None:
    async with Knowledge.open(replace(settings, keywords=True)) as other:
        with pytest.raises(RetrievalUnavailable, match=r"Milvus 2\.3 has no keyword search.*`bm25: false`"):
            await other.find("note", collection="worded", tenant="t8", top_k=5)
    for chosen in (SearchSettings(mode="keyword"), SearchSettings(mode="hybrid")):
        with pytest.raises(RetrievalUnavailable, match="no keyword search here"):
            await on_server.find("note", collection=COLLECTION, tenant="t8", top_k=5, settings=chosen)


async def test_questions_are_kept_with_their_answers_and_gone_when_a_purge_has_ended(on_server: Knowledge) -> None:
    questions = MilvusQuestions(lambda: on_server.store, 100)
    await questions.open()
    kept = Kept(Chunk(b'{"choices":[]}'), None, time.time(), 60.0, None, Origin("m", "acme"))
    answer = KeptAnswer("b" * 64, "How long is it?", "a" * 64, EVERYBODY, (), time.time() + 60, kept)
    vector = [1.0] + [0.0] * 383
    await questions.keep(answer, vector)
    asked = Asked("How long?", "a" * 64, "c" * 32)
    (found,) = await once(lambda: questions.alike(asked, vector, 0.9))
    assert found.answer.question == "How long is it?"
    assert await questions.alike(replace(asked, partition="d" * 64), vector, -1.0) == []
    assert await questions.purge(Purge(tenant="acme")) == 1
    assert await questions.alike(asked, vector, 0.9) == []


async def test_a_server_that_hangs_costs_a_search_its_budget_and_a_load_only_time(
    on_server: Knowledge, server: MilvusProcess
) -> None:
    await put(on_server, "note", "A note.", "t9")

    with server.hanging():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await find(on_server, "note", "t9")
        loading = asyncio.create_task(put(on_server, "other", "Another note.", "t9"))
        done, _ = await asyncio.wait([loading], timeout=0.2)
        assert not done
    await loading

    assert await names(on_server, "t9") == {"note", "other"}


async def test_a_server_that_was_started_again_has_kept_all(on_server: Knowledge, server: MilvusProcess) -> None:
    await put(on_server, "old", "An old note.", "t10")
    await put(on_server, "old", "An old note, changed.", "t10")

    server.kill()
    with pytest.raises((RetrievalUnavailable, TimeoutError)):
        async with asyncio.timeout(0.2):
            await find(on_server, "note", "t10")
    server.start()

    async def found() -> list[Passage]:
        return await find(on_server, "note", "t10")

    assert [passage.text for passage in await once(found)] == ["An old note, changed."]
    await put(on_server, "new", "A new note.", "t10")
    assert await names(on_server, "t10") == {"old", "new"}
