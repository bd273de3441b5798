"""Every piece of YAML in the documentation of the configuration is one that the gateway takes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gateway.config.document import parse
from gateway.config.models import Configuration

DOCS = Path(__file__).parents[4] / "docs"
PIECES = [
    pytest.param(block, id=f"{file} {order}")
    for file in (
        "configuration.md",
        "access.md",
        "providers.md",
        "routing.md",
        "vllm.md",
        "tokens.md",
        "queueing.md",
        "chat-page.md",
        "lake.md",
        "drift.md",
        "observability.md",
    )
    for order, block in enumerate(re.findall(r"^```yaml\n(.*?)^```", (DOCS / file).read_text("utf-8"), re.S | re.M))
]


@pytest.mark.parametrize("text", PIECES)
def test_a_documented_piece_is_valid(text: str) -> None:
    env = dict.fromkeys(re.findall(r"\$\{([A-Z0-9_]+)", text), "k")
    document = parse(text.replace("sha256:…", "sha256:" + "0" * 64), "docs", env)
    assert document.faults == []
    Configuration.model_validate({"providers": {"e": {"kind": "extractive"}}} | document.values)


def test_there_are_pieces_of_each_section() -> None:
    text = "".join(str(piece.values[0]) for piece in PIECES)
    assert all(f"{section}:" in text for section in ("providers", "models", "retrieval", "access"))
