"""JavaScript clients, unchanged, in node: OpenAI's own package, and Vercel's AI SDK."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from gateway_process import GatewayProcess

SCRIPTS = Path(__file__).parent / "javascript"


@pytest.mark.parametrize("script", ["openai.test.mjs", "ai_sdk.test.mjs"])
def test_a_client_in_node(fetched: Path, conforming: GatewayProcess, script: str) -> None:
    node = shutil.which("node")
    assert node is not None, "node 20 or newer must be there"
    shutil.copy(SCRIPTS / script, fetched / "javascript" / script)  # beside the packages that it imports
    done = subprocess.run(
        [node, "--test", "--test-reporter=tap", script],
        cwd=fetched / "javascript",
        env={**os.environ, "GATEWAY_URL": conforming.url},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "\nok " in done.stdout
