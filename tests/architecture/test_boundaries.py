"""What is ours is ours alone, and a plain proxy carries nothing that it does not need."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from gateway_process import GatewayProcess
from upstream.vendor import Vendor

HEAVY = (
    "torch",
    "feast",
    "pymilvus",
    "milvus_lite",
    "presidio_analyzer",
    "spacy",
    "sentence_transformers",
    "pandas",
    "grpc",
    "jwt",
    "pyarrow",
    "duckdb",
    "matplotlib",
    "scipy",
)


@pytest.mark.parametrize("name", ["gateway", "retrieval", "guardrails", "features"])
def test_no_other_distribution_installs_our_packages(name: str) -> None:
    assert set(importlib.metadata.packages_distributions().get(name, ["rag-gateway"])) == {"rag-gateway"}


def test_importing_the_server_loads_no_heavy_library() -> None:
    code = f"""
import json, sys
import gateway.cli, gateway.server, gateway.app, gateway.assembly
print(json.dumps([name for name in {HEAVY} if name in sys.modules]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(done.stdout) == []


@pytest.mark.parametrize("library", ["retrieval", "guardrails", "features"])
def test_the_libraries_know_neither_the_gateway_nor_each_other(library: str) -> None:
    import ast

    others = {"gateway", "retrieval", "guardrails", "features"} - {library}
    for file in (Path(__file__).parents[2] / library).rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            names = (
                [alias.name for alias in node.names] if isinstance(node, ast.Import)
                else [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            )  # fmt: skip
            assert not others & {name.split(".")[0] for name in names}, file


def test_a_plain_proxys_process_maps_no_heavy_library_and_stays_small(vendor: Vendor, tmp_path: Path) -> None:
    mock = {"kind": "openai_compatible", "base_url": vendor.url, "api_key": vendor.api_key}
    with GatewayProcess({"providers": {"mock": mock}}, tmp_path) as running:
        process = psutil.Process(running.process.pid)
        maps = [Path(entry.path).parts for entry in process.memory_maps()]
        assert process.children() == []
        assert running.rss < 120_000_000
    loaded = {name for parts in maps for name in HEAVY if name in parts}
    assert loaded == set()
