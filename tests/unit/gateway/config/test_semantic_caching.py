"""What may be written of a semantic cache, and what it needs of the rest."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.config.faults import ConfigError
from gateway.config.loading import load

MOCK = "providers: {mock: {kind: openai_compatible, base_url: http://127.0.0.1:1/v1}}\n"


def written(folder: Path, semantic: str, rest: str = "retrieval: {}\n") -> Path:
    file = folder / "gateway.yaml"
    file.write_text(f"{MOCK}{rest}models:\n  m:\n    targets: [mock/m]\n    cache: {{semantic: {semantic}}}\n", "utf-8")
    return file


def test_defaults_and_the_exact_cache_beside(tmp_path: Path) -> None:
    cache = load(written(tmp_path, "{}"), {}).configuration.models["m"].cache
    assert cache is not None
    assert cache.semantic is not None
    assert cache.semantic.model_dump() == {
        "ttl": 3600.0, "threshold": 0.9, "store": "milvus", "max_entries": 10_000, "budget": 0.1, "shadow": False,
        "agreement": 0.85,
    }  # fmt: skip
    assert cache.exact.ttl == 600.0


@pytest.mark.parametrize(
    ("semantic", "rest", "said"),
    [
        ("{}", "", "models.m.cache.semantic: needs the top-level `retrieval` section"),
        ("{threshold: 0.2}", "retrieval: {}\n", "models.m.cache.semantic.threshold"),
        ("{threshold: 1.1}", "retrieval: {}\n", "models.m.cache.semantic.threshold"),
        ("{store: redis}", "retrieval: {}\n", "models.m.cache.semantic.store"),
        ("{max_entries: 0}", "retrieval: {}\n", "models.m.cache.semantic.max_entries"),
        ("{ttl: 3600}", "retrieval: {}\n", "models.m.cache.semantic.ttl"),
        ("{treshold: 0.9}", "retrieval: {}\n", "models.m.cache.semantic.treshold"),
        (
            "{}",
            "residency: {labels: [public, internal], default: public, stays: internal}\n"
            "retrieval: {embeddings: {url: https://example.com/v1, model: m, dimension: 3}}\n",
            "retrieval.embeddings.url: would be sent what may not leave",
        ),
    ],
)
def test_what_can_not_be_is_a_fault_at_start(tmp_path: Path, semantic: str, rest: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(written(tmp_path, semantic, rest), {})
    assert said in str(caught.value)
