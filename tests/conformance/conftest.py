"""One gateway for all of them; what `make conformance` has fetched."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conformance.capable import Capable
from embedding_process import EmbeddingProcess
from gateway_process import GatewayProcess
from upstream.vendor import Vendor


@pytest.fixture(scope="session")
def fetched() -> Path:
    folder = Path(sys.prefix) / "conformance"
    assert (folder / "made-of").is_file(), "`make conformance` fetches the suites first"
    return folder


def configuration(vendor: Vendor, capable: Vendor, embeddings: EmbeddingProcess) -> dict[str, Any]:
    """OpenAI's model names over imitated vendors; open on loopback: whatever key a suite has is as good as none."""

    def provider(each: Vendor) -> dict[str, Any]:
        address = {"kind": "openai_compatible", "base_url": each.url, "api_key": each.api_key}
        return {**address, "retries": {"attempts": 0}}

    return {
        "providers": {"mock": provider(vendor), "capable": provider(capable)},
        "retrieval": {"embeddings": embeddings.settings},
        "models": {
            "gpt-6-astra": {"targets": ["mock/gpt-mock"]},
            "gpt-3.5-turbo-instruct": {"targets": ["mock/gpt-mock"]},
            "text-embedding-3-small": {"targets": ["mock/mock-embed"]},
            "omni-moderation-latest": {"targets": ["mock/omni-moderation-mock"]},
            "omni-moderation-2024-09-26": {"targets": ["mock/omni-moderation-mock"]},
            "capable": {"targets": ["capable/capable"]},
            "capable-too": {"targets": ["capable/capable-too"]},
        },
    }


@pytest.fixture(scope="session")
def conforming(
    shared_vendor: Vendor, embeddings: EmbeddingProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GatewayProcess]:
    with Vendor(answers=Capable) as capable:
        settings = configuration(shared_vendor, capable, embeddings)
        with GatewayProcess(settings, tmp_path_factory.mktemp("conforming")) as running:
            yield running
    assert "Traceback" not in running.output, running.output
