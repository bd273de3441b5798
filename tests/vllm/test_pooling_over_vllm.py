"""Embeddings and reranking by a real vLLM that the gateway starts itself, with the tiny model as an embedder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import pytest
from openai import OpenAI

from .conftest import Server, managed

TEXTS = ["the way to the station", "a way to the station", "0123456789"]


@pytest.fixture(scope="module")
def gateway(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    args = ["--served-model-name", "embedder", "--runner", "pooling", "--convert", "embed"]
    args += ["--pooler-config", '{"pooling_type": "MEAN"}', "--max-model-len", "1024", "--no-enable-prefix-caching"]
    with managed(models / "tiny", args, {}, tmp_path_factory.mktemp("pooling")) as server:
        yield server


@pytest.fixture
def client(gateway: Server) -> Iterator[OpenAI]:
    with OpenAI(base_url=gateway.url, api_key="any", max_retries=0, timeout=60) as client:
        yield client


def vectors(client: OpenAI, texts: list[str]) -> list[list[float]]:
    told = client.embeddings.create(model="gpu/embedder", input=texts, encoding_format="float")
    assert [one.index for one in told.data] == list(range(len(texts)))
    return [one.embedding for one in told.data]


def cosine(one: list[float], other: list[float]) -> float:
    """Of two vectors of length 1, as vLLM gives them."""
    return sum(a * b for a, b in zip(one, other, strict=True))


def test_texts_become_vectors_of_the_models_width(client: OpenAI) -> None:
    first, second, other = vectors(client, TEXTS)

    assert {len(first), len(second), len(other)} == {256}
    assert cosine(first, first) == pytest.approx(1.0, abs=1e-3)
    assert cosine(first, second) > cosine(first, other)


def test_vectors_as_base64_are_the_same(client: OpenAI) -> None:
    """OpenAI's SDK asks for base64 unless told otherwise, and decodes it itself."""
    told = client.embeddings.create(model="gpu/embedder", input=TEXTS[:1])

    assert told.data[0].embedding == pytest.approx(vectors(client, TEXTS[:1])[0], abs=1e-3)
    assert told.usage.prompt_tokens == len(TEXTS[0])


def test_documents_come_back_by_their_likeness_to_the_query(gateway: Server, client: OpenAI) -> None:
    body = {"model": "gpu/embedder", "query": TEXTS[0], "documents": TEXTS[:0:-1]}

    told = httpx.post(f"{gateway.url}/rerank", json=body, timeout=60)

    assert told.status_code == 200, told.text
    results = told.json()["results"]
    assert [one["index"] for one in results] == [1, 0]
    query, like, _ = vectors(client, TEXTS)
    assert results[0]["relevance_score"] == pytest.approx(cosine(query, like), abs=1e-2)


def test_a_text_that_is_too_long_is_refused_in_vllms_own_words(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="1024"):
        client.embeddings.create(model="gpu/embedder", input="far " * 400)
