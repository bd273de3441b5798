"""A real Open WebUI in front of a gateway, and a browser in front of that."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from chromium import chromium
from gateway_process import GatewayProcess, free_port, until
from openwebui.room import KEY, Room
from playwright.sync_api import Browser
from sample_gateway import key_entry
from upstream.vendor import Vendor

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ROOT / ".venv-openwebui" / "bin" / "open-webui"


def configuration(vendor: Vendor) -> dict[str, Any]:
    """The shipped handbook, answered by the extractive provider; titles and tags come from a small model."""
    shipped: dict[str, Any] = yaml.safe_load((ROOT / "configs/gateway.yaml").read_text())
    handbook = shipped["models"]["handbook"]
    del handbook["features"]
    return {
        "access": {
            "open_on_loopback": False,
            "keys": [
                key_entry(
                    "open-webui", KEY, speaks_for_users=True,
                    front_end={"kind": "open_webui", "user": "email", "side_calls": "small"},
                )
            ],
        },
        "providers": {
            "extractive": {"kind": "extractive"},
            "mock": {"kind": "openai_compatible", "base_url": vendor.url, "api_key": vendor.api_key},
        },
        "models": {"handbook": {**handbook, "targets": ["extractive"], "fallbacks": []}, "small": {"targets": ["mock/small"]}},
        "prompts": {"folder": str(ROOT / "configs/prompts")},
        "retrieval": {"collections": {"handbook": {"load": [str(ROOT / "docs/configuration.md"), str(ROOT / "docs/providers.md")]}}},
    }  # fmt: skip


@pytest.fixture(scope="session")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    assert PROGRAM.exists(), "make it with `tests/openwebui/setup.sh`, or run `make test-openwebui`"
    folder = tmp_path_factory.mktemp("open-webui")
    with Vendor() as vendor:
        vendor.behaviours["small"] = {"text": json.dumps({"title": "Providers, added", "tags": ["Gateway"]})}
        with GatewayProcess(configuration(vendor), folder / "gateway") as gateway:
            port = free_port()
            environment = {
                **os.environ,
                "DATA_DIR": str(folder / "data"),
                "OPENAI_API_BASE_URL": gateway.url + "/v1",
                "OPENAI_API_KEY": KEY,
                "ENABLE_FORWARD_USER_INFO_HEADERS": "true",
                "WEBUI_SECRET_KEY": "of-this-test",
                # Nothing of the outside can be reached, and nothing of it is wanted.
                "OFFLINE_MODE": "true", "HF_HUB_OFFLINE": "1", "ENABLE_OLLAMA_API": "false",
                "BYPASS_EMBEDDING_AND_RETRIEVAL": "true", "RAG_EMBEDDING_ENGINE": "openai",
            }  # fmt: skip
            log = (folder / "open-webui.log").open("wb")
            command = [str(PROGRAM), "serve", "--host", "127.0.0.1", "--port", str(port)]
            process = subprocess.Popen(command, env=environment, cwd=folder, stdout=log, stderr=subprocess.STDOUT)
            try:
                url = f"http://127.0.0.1:{port}"
                until(lambda: _up(url, process), 180, "Open WebUI's start")
                yield Room(gateway, vendor, url)
            finally:
                process.terminate()
                process.wait(60)
                log.close()


def _up(url: str, process: subprocess.Popen[bytes]) -> bool:
    assert process.poll() is None, "Open WebUI ended at its start"
    try:
        return httpx.get(url + "/health", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started
