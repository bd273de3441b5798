"""The client is for programs that hold no gateway: it brings in the `openai` package's libraries, and no others."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

CLIENT = Path(__file__).parents[2] / "gateway" / "client"
OPENAIS = {
    "annotated_types", "anyio", "certifi", "charset_normalizer", "distro", "h11", "httpcore", "httpcore2", "httpx",
    "httpx2", "idna", "jiter", "openai", "pydantic", "pydantic_core", "sniffio", "socksio", "tqdm", "truststore",
    "typing_extensions", "typing_inspection",
    "brotli", "brotlicffi", "h2", "hpack", "hyperframe", "zstandard",  # where they happen to be installed
}  # fmt: skip
OURS = {"gateway", "retrieval"}


def test_importing_the_client_loads_what_openai_needs_and_nothing_of_the_servers() -> None:
    code = """
import json, sys
before = set(sys.modules)
from gateway.client import AsyncClient, Client
Client(api_key="k").close()
print(json.dumps(sorted(set(sys.modules) - before)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    loaded = json.loads(done.stdout)

    tops = {name.partition(".")[0] for name in loaded if not name.startswith("_")} - set(sys.stdlib_module_names)
    assert tops <= OPENAIS | OURS, sorted(tops - OPENAIS - OURS)
    ours = {name for name in loaded if name.partition(".")[0] in OURS and not name.startswith("gateway.client")}
    assert ours == {"gateway", "retrieval", "retrieval.loading"}


def test_the_client_imports_nothing_of_the_server_even_later() -> None:
    for file in CLIENT.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            names = (
                [alias.name for alias in node.names] if isinstance(node, ast.Import)
                else [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            )  # fmt: skip
            for name in names:
                allowed = name.startswith("gateway.client") or name == "retrieval.loading"
                assert allowed or name.partition(".")[0] not in {"gateway", "retrieval", "guardrails", "features"}, file
