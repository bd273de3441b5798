"""Failures that must pass by themselves, and documents that must not take the others with them."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import struct
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest

from retrieval.embedding_server import Batcher
from retrieval.knowledge import Knowledge, KnowledgeSettings
from retrieval.passages import Passage, RetrievalUnavailable
from retrieval.store import quoted

session = pytest.mark.asyncio(loop_scope="session")

_HOLD = """
import asyncio, sys
from pathlib import Path
from retrieval.knowledge import Knowledge, KnowledgeSettings

async def main():
    async with Knowledge.open(KnowledgeSettings(Path(sys.argv[1]))):
        print("ready", flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


def quiet(collection: str, done: int, total: int) -> None:
    pass


async def find(knowledge: Knowledge, collection: str, query: str = "Where does the train leave?") -> list[Passage]:
    return await knowledge.find(query, collection=collection, tenant="acme", top_k=10)


async def found_again(knowledge: Knowledge, collection: str) -> list[Passage]:
    async with asyncio.timeout(120):
        while True:
            try:
                return await find(knowledge, collection)
            except RetrievalUnavailable:
                await asyncio.sleep(0.1)


async def test_searches_work_again_after_the_servers_crashed_and_after_their_owner_was_killed(
    tmp_path: Path, docs: Path
) -> None:
    data_dir = tmp_path / "data"
    pipe = asyncio.subprocess.PIPE
    owner = await asyncio.create_subprocess_exec(sys.executable, "-c", _HOLD, str(data_dir), stdout=pipe)
    assert owner.stdout is not None
    assert await asyncio.wait_for(owner.stdout.readline(), 120) == b"ready\n"
    try:
        async with Knowledge.open(KnowledgeSettings(data_dir)) as knowledge:
            await knowledge.ingest([docs], collection="c", tenant="acme", on_progress=quiet)
            servers = psutil.Process(owner.pid).children()
            assert len(servers) == 2
            for server in servers:
                server.kill()
            assert len(await found_again(knowledge, "c")) == 3

            owner.kill()
            await owner.wait()
            assert len(await found_again(knowledge, "c")) == 3
            report = await knowledge.ingest([docs], collection="c", tenant="acme", on_progress=quiet)
            assert report.unchanged == 3
    finally:
        if owner.returncode is None:
            owner.kill()
            await owner.wait()


@session
async def test_names_in_any_script_are_replaced_and_not_kept_twice(
    knowledge: Knowledge, collection: str, docs: Path
) -> None:
    file = docs / 'Züge\n"日本"\\ 😀.md'
    for platform in ("nine", "ten"):
        file.write_text(f"# Zug\n\nThe slow train leaves from platform {platform}.\n")
        await knowledge.ingest([docs], collection=collection, tenant="acme", on_progress=quiet)

    passages = await find(knowledge, collection)

    assert len(passages) == 4
    assert [p.text for p in passages if p.title == "Zug"] == ["# Zug\n\nThe slow train leaves from platform ten."]


@session
@pytest.mark.parametrize("tenant", ["ü", "日本", "\u2028", "\u202eacme", "😀", "acme\0", "a\nb", "a\rb"])
async def test_a_tenant_in_any_script_reads_its_own(
    knowledge: Knowledge, collection: str, docs: Path, tenant: str
) -> None:
    await knowledge.ingest([docs], collection=collection, tenant=tenant, on_progress=quiet)

    for who, count in ((tenant, 3), ("acme", 0)):
        assert len(await knowledge.find("train", collection=collection, tenant=who, top_k=10)) == count


@session
async def test_the_record_of_the_embedding_model_is_no_passage(
    knowledge: Knowledge, collection: str, docs: Path
) -> None:
    with pytest.raises(ValueError, match="# is no tenant"):
        await knowledge.find("train", collection=collection, tenant="#", top_k=10)


@session
async def test_half_a_surrogate_pair_is_only_a_strange_query(knowledge: Knowledge, collection: str, docs: Path) -> None:
    await knowledge.ingest([docs], collection=collection, tenant="acme", on_progress=quiet)

    assert len(await find(knowledge, collection, "train \ud800")) == 3


@session
async def test_one_strange_document_does_not_stop_the_others(
    knowledge: Knowledge, collection: str, tmp_path: Path
) -> None:
    folder = tmp_path / "docs"
    deep = folder.joinpath(*["d" * 200] * 6)
    deep.mkdir(parents=True)
    (deep / "deep.md").write_text("# Deep\n\nIn the deep of many folders.\n")
    (folder / "heading.md").write_text("# " + "long heading " * 500 + "\n\nThe sky is blue.\n")
    (folder / "word.md").write_text("# Word\n\n" + "x" * 150_000 + "\n\nAfter the word.\n")
    (folder / "z.md").write_text("# Last\n\nThe last one.\n")
    (folder / os.fsdecode(b"\xff.md")).write_text("# Name\n\nIts name is not UTF-8.\n")

    report = await knowledge.ingest([folder], collection=collection, tenant="acme", on_progress=quiet)

    assert (report.added, [reason for _, reason in report.failed]) == (4, ["its name is not UTF-8"])
    passages = await knowledge.find("The sky is blue.", collection=collection, tenant="acme", top_k=50)
    assert {passage.document_id.split("/")[-1] for passage in passages} == {"deep.md", "heading.md", "word.md", "z.md"}
    assert all(len(passage.text) <= 4_000 for passage in passages)


@session
async def test_two_files_of_one_name_in_one_load_are_told_and_not_exchanged(
    knowledge: Knowledge, collection: str, tmp_path: Path
) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "README.md").write_text(f"# {name}\n\nThis is {name}.\n")
    paths = [tmp_path / "one" / "README.md", tmp_path / "two" / "README.md"]

    reports = [await knowledge.ingest(paths, collection=collection, tenant="acme", on_progress=quiet) for _ in range(2)]

    assert [(report.added, report.updated, report.unchanged) for report in reports] == [(1, 0, 0), (0, 0, 1)]
    assert [len(report.failed) for report in reports] == [1, 1]
    assert [passage.text for passage in await find(knowledge, collection)] == ["# one\n\nThis is one."]


@session
async def test_the_socket_is_for_this_user_alone(
    tmp_path_factory: pytest.TempPathFactory, knowledge: Knowledge
) -> None:
    sockets = list(tmp_path_factory.getbasetemp().glob("knowledge*/embeddings.sock"))

    assert sockets
    assert [stat.S_IMODE(socket.stat().st_mode) & 0o077 for socket in sockets] == [0] * len(sockets)


async def test_documents_go_in_small_batches_apart_from_queries() -> None:
    batches: list[list[str]] = []
    entered, gate = threading.Event(), threading.Event()

    class Scribe:
        def encode(self, texts: Sequence[str]) -> list[tuple[bytes, int]]:
            batches.append(list(texts))
            entered.set()
            assert gate.wait(60)
            return [(struct.pack("<f", 1), 1) for _ in texts]

    batcher = Batcher(Scribe())
    running = asyncio.create_task(batcher.run())
    first = asyncio.create_task(batcher.embed(["first"], rank=0))
    assert await asyncio.to_thread(entered.wait, 10)
    long, short = [letter * 1_000 for letter in "abcde"], [str(number) for number in range(20)]
    documents = asyncio.create_task(batcher.embed(long + short, rank=2))
    queries = asyncio.create_task(batcher.embed(["q1", "q2"], rank=0))
    async with asyncio.timeout(60):
        while batcher._waiting.qsize() < 27:
            await asyncio.sleep(0)
    gate.set()
    await asyncio.gather(first, documents, queries)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)

    assert batches == [["first"], ["q1", "q2"], [*short, long[0]], long[1:3], long[3:]]


def test_a_literal_of_a_filter_escapes_what_milvus_lite_knows_and_nothing_else() -> None:
    assert quoted('a"b\\c\nd\re\tf ü\0') == r'"a\"b\\c\nd\re\tf ü' + '\0"'
    assert json.loads(quoted('plain "text"')) == 'plain "text"'
