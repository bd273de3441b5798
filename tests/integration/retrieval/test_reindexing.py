"""A collection of another embedding model, or of the first version, is refused until it is made anew; then it is whole."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from pymilvus import DataType, MilvusClient

from retrieval.embedding import EndpointEmbedder
from retrieval.knowledge import Knowledge
from retrieval.passages import RetrievalUnavailable
from retrieval.schema import Recipe
from retrieval.store import MilvusStore

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_another_recipe_is_refused_until_reindex_and_the_old_serves_meanwhile(
    knowledge: Knowledge, collection: str, docs: Path
) -> None:
    await knowledge.ingest([docs], collection=collection, tenant="acme", on_progress=lambda *_: None)
    store: Any = knowledge.store
    new_store = MilvusStore(store._address, None, Recipe("all-MiniLM-L6-v2", 384, "query: ", "passage: "), exact=True)
    inner: Any = knowledge.embedder
    new = Knowledge(new_store, inner)

    async def find(opened: Knowledge) -> list[str]:
        passages = await opened.find("Where does the train leave?", collection=collection, tenant="acme", top_k=10)
        return [passage.document_id for passage in passages]

    expected = await find(knowledge)
    with pytest.raises(RetrievalUnavailable, match="run `rag-gateway reindex"):
        await find(new)

    told: list[int] = []
    during: list[list[str]] = []
    embed = inner.embed

    class Watching:
        model, dimension = inner.model, inner.dimension

        async def embed(self, texts: Any, *, kind: Any) -> Any:
            during.append(await find(knowledge))
            with pytest.raises(RetrievalUnavailable, match="wait for `reindex`"):
                await new_store.ensure(collection)
            return await embed(texts, kind=kind)

    embedder: Any = Watching()
    count = await Knowledge(new_store, embedder).reindex(collection, on_progress=told.append)

    assert count == told[-1] == 3
    assert during
    assert all(found == expected for found in during)
    assert await find(new) == expected
    assert await new_store.other_forms(collection) == []
    assert await new.reindex(collection, on_progress=told.append) == 0
    await new_store.aclose()


async def test_a_collection_of_the_first_version_keeps_its_documents(knowledge: Knowledge, collection: str) -> None:
    """Its layout, as version 0.1 made it."""
    store: Any = knowledge.store
    embedder: EndpointEmbedder = knowledge.embedder
    (vector,) = await embedder.embed(["The night train leaves from platform nine."], kind="document")
    row = {
        "tenant": "acme", "document_id": "docs/trains.md", "version": "0123456789abcdef.2", "title": "Trains",
        "section_id": "docs/trains.md#0", "url": "docs/trains.md", "heading": json.dumps(["Trains", "Departures"]),
        "text": "The night train leaves from platform nine.", "position": 0, "id": "a" * 64, "vector": vector,
    }  # fmt: skip
    about = {**row, "id": "#", "tenant": "#", "position": -1, "title": "all-MiniLM-L6-v2 in 384 dimensions"}

    def make() -> None:
        client = MilvusClient(uri=store._uri)
        schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=1_200)
        schema.add_field("tenant", DataType.VARCHAR, max_length=64, is_partition_key=True)
        for name in ("document_id", "version", "section_id", "title", "url", "heading", "text"):
            schema.add_field(name, DataType.VARCHAR, max_length=16_000)
        schema.add_field("position", DataType.INT64)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=384)
        index = MilvusClient.prepare_index_params()
        index.add_index("vector", index_type="AUTOINDEX", metric_type="COSINE")
        client.create_collection(collection, schema=schema, index_params=index)
        client.upsert(collection, [row, about])
        client.close()

    await knowledge.healthy()
    await asyncio.to_thread(make)

    async def find(tenant: str) -> list[str]:
        passages = await knowledge.find("night train", collection=collection, tenant=tenant, top_k=5)
        return [f"{passage.document_id}: {passage.text} {passage.heading}" for passage in passages]

    with pytest.raises(RetrievalUnavailable, match="was made by an earlier version"):
        await find("acme")
    assert await knowledge.reindex(collection, on_progress=lambda _: None) == 1
    assert await find("acme") == ["docs/trains.md: The night train leaves from platform nine. ('Trains', 'Departures')"]
    assert await find("umbrella") == []
