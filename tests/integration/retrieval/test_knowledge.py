"""Documents in, passages out: a real Milvus Lite server and the real embedding process."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import psutil
import pytest
import pytest_asyncio
from retrieval.embedding import EndpointEmbedder, Kind
from retrieval.knowledge import Knowledge, KnowledgeSettings
from retrieval.passages import RetrievalUnavailable
from retrieval.store import MilvusStore

pytestmark = pytest.mark.asyncio(loop_scope="module")

TEXTS = {
    "budgets.md": "# Budgets\n\n## Monthly limit\n\nA budget ends every month at midnight, and unused money is lost.\n",
    "streams.md": "# Streams\n\n## Cut streams\n\nWhen the provider dies, a stream ends with an error event.\n",
    "cats.txt": "Cats sleep most of the day and hunt at night.",
}


class Counting:
    """The embedder, and how many texts it was given."""

    def __init__(self, embedder: EndpointEmbedder) -> None:
        self._embedder = embedder
        self.model, self.dimension = embedder.model, embedder.dimension
        self.texts = 0

    async def embed(self, texts: Sequence[str], *, kind: Kind) -> list[list[float]]:
        self.texts += len(texts)
        return await self._embedder.embed(texts, kind=kind)

    async def aclose(self) -> None:
        await self._embedder.aclose()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def knowledge(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Knowledge]:
    async with Knowledge.open(KnowledgeSettings(tmp_path_factory.mktemp("knowledge"))) as opened:
        opened._embedder = Counting(opened._embedder)  # type: ignore[assignment]  # has all that is called
        yield opened


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    folder.mkdir()
    for name, text in TEXTS.items():
        (folder / name).write_text(text)
    return folder


def quiet(collection: str, done: int, total: int) -> None:
    pass


async def load(knowledge: Knowledge, folder: Path, collection: str, tenant: str = "*") -> tuple[str, int]:
    counting: Counting = knowledge._embedder  # type: ignore[assignment]  # put there by the fixture
    before = counting.texts
    report = await knowledge.ingest([folder], collection=collection, tenant=tenant, on_progress=quiet)
    return f"{report.added}+{report.updated}~{report.unchanged}={len(report.failed)}!", counting.texts - before


async def found(knowledge: Knowledge, question: str, collection: str, tenant: str = "a") -> list[str]:
    passages = await knowledge.find(question, collection=collection, tenant=tenant, top_k=5)
    return [passage.document_id for passage in passages]


async def test_the_right_passage_comes_first(knowledge: Knowledge, folder: Path) -> None:
    assert await load(knowledge, folder, "first") == ("3+0~0=0!", 3)
    assert (await found(knowledge, "What happens to money that is left over?", "first"))[0] == "docs/budgets.md"
    assert (await found(knowledge, "When do pets rest?", "first"))[0] == "docs/cats.txt"
    (best, *_) = await knowledge.find("a broken stream", collection="first", tenant="a", top_k=1)
    assert best.heading == ("Streams", "Cut streams")
    assert best.title == "Streams"
    assert best.text.endswith("error event.")


async def test_only_what_changed_is_loaded_again(knowledge: Knowledge, folder: Path) -> None:
    await load(knowledge, folder, "again")
    assert await load(knowledge, folder, "again") == ("0+0~3=0!", 0)
    (folder / "cats.txt").write_text("Dogs bark at strangers.")
    assert await load(knowledge, folder, "again") == ("0+1~2=0!", 1)
    (best, *_) = await knowledge.find("barking dogs", collection="again", tenant="a", top_k=1)
    assert best.text == "Dogs bark at strangers."
    texts = [p.text for p in await knowledge.find("cats", collection="again", tenant="a", top_k=5)]
    assert "Cats sleep most of the day and hunt at night." not in texts


async def test_a_broken_off_load_is_made_good(knowledge: Knowledge, folder: Path) -> None:
    await load(knowledge, folder, "broken")
    (folder / "cats.txt").write_text("Dogs bark.")
    store = knowledge._store
    drop, store.drop_versions = store.drop_versions, _fail  # type: ignore[method-assign]  # the process dies here
    with pytest.raises(RetrievalUnavailable):
        await load(knowledge, folder, "broken")
    store.drop_versions = drop  # type: ignore[method-assign]
    await load(knowledge, folder, "broken")
    assert sorted(await found(knowledge, "animals", "broken")) == ["docs/budgets.md", "docs/cats.txt", "docs/streams.md"]


async def _fail(*args: object, **more: object) -> None:
    raise RetrievalUnavailable("gone")


async def test_what_can_not_be_loaded_says_why(knowledge: Knowledge, tmp_path: Path) -> None:
    (tmp_path / "bad.txt").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "empty.md").write_text("# Only a heading\n")
    (tmp_path / "good.md").write_text("# Good\n\nText that can be read.\n")
    (tmp_path / "x.exe").write_bytes(b"MZ")
    (tmp_path / "link.md").symlink_to("/etc/passwd")
    report = await knowledge.ingest(
        [tmp_path, tmp_path / "x.exe", tmp_path / "missing.md"], collection="bad", on_progress=quiet
    )
    assert report.added == 1
    assert {Path(path).name: reason for path, reason in report.failed} == {
        "bad.txt": "is not UTF-8 (byte 0)",
        "empty.md": "holds no text",
        "x.exe": ".exe can't be loaded; .md, .markdown, .txt can",
        "missing.md": "there is no such file",
    }


async def test_tenants_see_their_own_and_what_is_shared(knowledge: Knowledge, folder: Path, tmp_path: Path) -> None:
    await load(knowledge, folder, "tenants")
    for tenant in ("a", "b"):
        own = tmp_path / tenant
        own.mkdir()
        (own / "secret.md").write_text(f"# Secret\n\nThe secret of tenant {tenant} is a canary.\n")
        await load(knowledge, own, "tenants", tenant)
    assert "a/secret.md" in await found(knowledge, "secret canary", "tenants", "a")
    assert "b/secret.md" not in await found(knowledge, "secret canary", "tenants", "a")
    assert "docs/cats.txt" in await found(knowledge, "cats", "tenants", "b")


async def test_hostile_tenants_and_questions_find_only_what_is_shared(knowledge: Knowledge, folder: Path) -> None:
    await load(knowledge, folder, "hostile", "owner")
    for tenant in ('" or tenant != "', "owner\\", 'x" or tenant == "owner', "own%", "", "owner\x00", "\u202eowner"):
        assert await found(knowledge, '" or 1 == 1 \ud800 ${x}', "hostile", tenant) == []
    assert len(await found(knowledge, "cats", "hostile", "owner")) == 3


async def test_another_embedding_model_is_refused(knowledge: Knowledge, folder: Path) -> None:
    await load(knowledge, folder, "model")
    other = MilvusStore(knowledge._store._uri, None, model="another", dimension=384)
    with pytest.raises(RetrievalUnavailable, match="made with all-MiniLM-L6-v2 in 384 dimensions, not with another"):
        await other.ensure("model")
    await other.aclose()


OWNER = """
import asyncio, sys
from pathlib import Path
from retrieval.local_servers import LocalServers
async def main():
    async with LocalServers(Path(sys.argv[1]), milvus=True, embeddings=False) as servers:
        print(servers.milvus_uri, flush=True)
        await asyncio.Event().wait()
asyncio.run(main())
"""


async def test_when_the_owner_is_killed_the_next_one_takes_over(tmp_path: Path) -> None:
    command = [sys.executable, "-c", OWNER, str(tmp_path / "shared")]
    owner = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    first = await asyncio.to_thread(owner.stdout.readline)
    assert first.startswith("http://127.0.0.1:")
    children = psutil.Process(owner.pid).children(recursive=True)
    assert any("milvus-lite" in " ".join(child.cmdline()) for child in children)
    heir = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert heir.stdout is not None
    assert await asyncio.to_thread(heir.stdout.readline) == first  # it shares what the owner started
    os.kill(owner.pid, signal.SIGKILL)
    owner.wait()
    gone, alive = await asyncio.to_thread(psutil.wait_procs, children, 15)
    assert not alive, "the owner's children end with it"
    for _ in range(300):
        if any("milvus-lite" in " ".join(c.cmdline()) for c in psutil.Process(heir.pid).children(recursive=True)):
            break
        await asyncio.sleep(0.1)
    inherited = psutil.Process(heir.pid).children(recursive=True)
    assert inherited
    heir.kill()
    heir.wait()
    _, alive = await asyncio.to_thread(psutil.wait_procs, inherited, 15)
    assert not alive
    for process in (owner, heir):
        assert process.stdout is not None
        process.stdout.close()
