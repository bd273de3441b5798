"""Every strategy of docs/routing.md answers, as it is written there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from gateway_process import GatewayProcess
from upstream.vendor import Vendor

DOCS = Path(__file__).parents[2] / "docs" / "routing.md"
PIECES: list[dict[str, Any]] = [
    yaml.safe_load(block) for block in re.findall(r"^```yaml\n(.*?)^```", DOCS.read_text("utf-8"), re.S | re.M)
]
MODELS = {name: model for piece in PIECES for name, model in piece.get("models", {}).items()}


def test_every_documented_model_answers(vendor: Vendor, tmp_path: Path) -> None:
    configuration: dict[str, Any] = {"models": MODELS}
    for piece in PIECES:
        configuration |= {name: section for name, section in piece.items() if name not in ("providers", "models")}
    providers = {name: settings for piece in PIECES for name, settings in piece.get("providers", {}).items()}
    for settings in providers.values():
        settings |= {"base_url": vendor.url, "api_key": vendor.api_key}
        settings.pop("api_keys", None)
    with GatewayProcess({**configuration, "providers": providers}, tmp_path) as gateway:
        for name in MODELS:
            body = {"model": name, "messages": [{"role": "user", "content": "hello"}]}
            answer = httpx.post(gateway.url + "/v1/chat/completions", json=body, timeout=20)
            assert answer.status_code == 200, (name, answer.text)
            assert answer.json()["choices"][0]["message"]["content"] == "echo: hello"


@pytest.mark.parametrize(
    "strategy",
    [
        "weighted",
        "least_latency",
        "least_busy",
        "canary",
        "blue_green",
        "ab",
        "bandit",
        "shadow",
        "best_of",
        "prefix_affinity",
    ],
)
def test_each_strategy_is_documented(strategy: str) -> None:
    kinds = {s if isinstance(s := model.get("strategy"), str) else (s or {}).get("kind") for model in MODELS.values()}
    assert strategy in kinds
