"""The gateway that other people's suites are run against: OpenAI's model names, over the imitated vendor."""

from __future__ import annotations

from typing import Any

from embedding_process import EmbeddingProcess
from upstream.vendor import Vendor

CHAT = "gpt-6-astra"
EMBEDDINGS = "text-embedding-3-small"


def configuration(vendor: Vendor, embeddings: EmbeddingProcess) -> dict[str, Any]:
    """Open on loopback: whatever key a suite has is as good as none."""
    mock = {"kind": "openai_compatible", "base_url": vendor.url, "api_key": vendor.api_key}
    return {
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
