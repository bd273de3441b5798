"""LangChain and LlamaIndex through their OpenAI classes, unchanged. They come with an older `openai`, so they run in a
process of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from gateway_process import GatewayProcess

SUITES = Path(__file__).parent / "frameworks"
PLUGINS = ("pytest_asyncio.plugin", "pytest_socket", "pytest_recording.plugin", "pytest_benchmark.plugin")


@pytest.mark.parametrize("suite", ["langchain_suite.py", "llama_index_suite.py"])
def test_a_framework(fetched: Path, conforming: GatewayProcess, suite: str) -> None:
    environment = {
        **os.environ,
        "PYTHONPATH": str(fetched / "python"),
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "GATEWAY_URL": conforming.url,
        "LANGSMITH_TRACING": "false",
    }
    options = [part for plugin in PLUGINS for part in ("-p", plugin)]
    options += ["-q", "-c", os.devnull, f"--rootdir={SUITES}", "-p", "no:cacheprovider"]
    # LangChain keeps one client for all event loops: so there is one.
    loops = (
        "asyncio_mode=auto",
        "asyncio_default_test_loop_scope=session",
        "asyncio_default_fixture_loop_scope=session",
    )
    options += [part for loop in loops for part in ("-o", loop)]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(SUITES / suite)],
        env=environment, capture_output=True, text=True, timeout=900, cwd=fetched,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
