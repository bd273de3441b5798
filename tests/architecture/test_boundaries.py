"""What is ours is ours alone, and a plain proxy carries nothing that it does not need."""

from __future__ import annotations

import importlib.metadata
import json
import re
import subprocess
import sys
from pathlib import Path

import httpx
import psutil
import pytest
from gateway_process import GatewayProcess, until
from otlp_sink import Sink
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
# What a plain proxy has no use for, though it is light: libraries, and parts of the gateway itself.
UNASKED = (
    "alembic",
    "cryptography",
    "genai_prices",
    "h2",
    "httpcore",
    "httpx",
    "jinja2",
    "mako",
    "numpy",
    "pygments",
    "redis",
    "rich",
    "tiktoken",
    "gateway.analyst",
    "gateway.drift",
    "gateway.feature_service",
    "gateway.knowledge_service",
    "gateway.lake",
    "gateway.prompts.library",
    "gateway.records.migrations.running",
    "gateway.replay",
    "gateway.report",
    "gateway.vector_stores",
    "gateway.workers",
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


def test_a_plain_proxy_loads_only_what_it_needs_and_stays_small(vendor: Vendor, tmp_path: Path) -> None:
    mock = {"kind": "openai_compatible", "base_url": vendor.url, "api_key": vendor.api_key}
    with Sink() as collector:
        traces = {"otlp": {"endpoint": collector.url}, "sample": 1, "every": "10ms"}
        configuration = {"providers": {"mock": mock}, "telemetry": {"traces": traces}}
        with GatewayProcess(configuration, tmp_path, {"PYTHONPROFILEIMPORTTIME": "1"}) as running:
            asked = {"model": "mock/gpt-mock", "messages": [{"role": "user", "content": "Hello"}]}
            answer = httpx.post(running.url + "/v1/chat/completions", json=asked, timeout=60).raise_for_status()
            until(lambda: httpx.get(f"{running.url}/v1/calls/{answer.headers['x-request-id']}").status_code == 200)
            until(lambda: collector.spans)
            process = psutil.Process(running.process.pid)
            maps = [Path(entry.path).parts for entry in process.memory_maps()]
            assert process.children() == []
            assert running.rss < 120_000_000
    assert {name for parts in maps for name in HEAVY if name in parts} == set()

    loaded = set(re.findall(r"^import time: +\d+ \| +\d+ \| +(\S+)$", running.output, re.M))
    assert {"gateway.server", "gateway.telemetry.traces", "sqlalchemy", "fastapi"} <= loaded
    assert loaded & {*HEAVY, *UNASKED} == set()
    commands = {name for name in loaded if name.startswith("gateway.commands.")}
    assert commands == {"gateway.commands.configuration", "gateway.commands.lazily"}
