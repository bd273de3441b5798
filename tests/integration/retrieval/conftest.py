"""One real Milvus Lite and one real MiniLM for all tests of this folder, and an embedder that counts."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import pytest
import pytest_asyncio

from retrieval.embedding import Embedder, Kind
from retrieval.knowledge import Knowledge, KnowledgeSettings
from retrieval.passages import RetrievalUnavailable

_NUMBERS = itertools.count()


class Counting:
    """Wraps an Embedder: counts texts, and is away after `until` of them."""

    def __init__(self, inner: Embedder) -> None:
        self.inner = inner
        self.model = inner.model
        self.dimension = inner.dimension
        self.documents = 0
        self.until: int | None = None
        self.before: Callable[[], None] = lambda: None

    async def embed(self, texts: Sequence[str], *, kind: Kind) -> list[list[float]]:
        self.before()
        if kind == "document":
            if self.until is not None and self.documents + len(texts) > self.until:
                raise RetrievalUnavailable("the embedding server can't be reached")
            self.documents += len(texts)
        return await self.inner.embed(texts, kind=kind)


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of `knowledge`; whoever opens it too has the same embedding process."""
    return tmp_path_factory.mktemp("knowledge")


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def knowledge(data_dir: Path) -> AsyncIterator[Knowledge]:
    async with Knowledge.open(KnowledgeSettings(data_dir)) as opened:
        yield opened


@pytest.fixture
def counting(knowledge: Knowledge, monkeypatch: pytest.MonkeyPatch) -> Counting:
    counted = Counting(knowledge.embedder)
    monkeypatch.setattr(knowledge, "embedder", counted)
    return counted


@pytest.fixture
def collection() -> str:
    """A name that no other test has."""
    return f"c{next(_NUMBERS)}"


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    """Three documents about things that are far from each other."""
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "bees.md").write_text("# Bees\n\n## Honey\n\nBees store honey in combs of wax to live through winter.\n")
    (folder / "trains.md").write_text("# Trains\n\n## Departures\n\nThe night train leaves from platform nine.\n")
    (folder / "bread.txt").write_text("Knead the dough for ten minutes, then let it rise next to the oven.\n")
    return folder
