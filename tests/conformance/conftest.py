"""One gateway for all of them; what `make conformance` has fetched."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from embedding_process import EmbeddingProcess
from gateway_process import GatewayProcess
from upstream.vendor import Vendor

CHAT, EMBEDDINGS = "gpt-6-astra", "text-embedding-3-small"


@pytest.fixture(scope="session")
def fetched() -> Path:
    folder = Path(sys.prefix) / "conformance"
    assert (folder / "made-of").is_file(), "`make conformance` fetches the suites first"
    return folder


@pytest.fixture(scope="session")
def conforming(
    shared_vendor: Vendor, embeddings: EmbeddingProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GatewayProcess]:
    """OpenAI's model names over the imitated vendor; open on loopback: whatever key a suite has is as good as none."""
    mock = {"kind": "openai_compatible", "base_url": shared_vendor.url, "api_key": shared_vendor.api_key}
    configuration = {
        "providers": {"mock": {**mock, "retries": {"attempts": 0}}},
        "retrieval": {"embeddings": embeddings.settings},
        "models": {
            CHAT: {"targets": ["mock/gpt-mock"]},
            "gpt-3.5-turbo-instruct": {"targets": ["mock/gpt-mock"]},
            EMBEDDINGS: {"targets": ["mock/mock-embed"]},
            "omni-moderation-latest": {"targets": ["mock/omni-moderation-mock"]},
            "omni-moderation-2024-09-26": {"targets": ["mock/omni-moderation-mock"]},
        },
    }
    with GatewayProcess(configuration, tmp_path_factory.mktemp("conforming")) as running:
        yield running
    assert "Traceback" not in running.output, running.output
