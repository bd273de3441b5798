"""What may be said of the lake and of drift."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.config.faults import ConfigError
from gateway.config.loading import load

BEGIN = "providers: {extractive: {kind: extractive}}\n"


def faults(tmp_path: Path, text: str) -> str:
    file = tmp_path / "gateway.yaml"
    file.write_text(BEGIN + text, "utf-8")
    with pytest.raises(ConfigError) as failure:
        load(file, {})
    return str(failure.value)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("drift: {}\n", "2:1: drift: needs the `lake` section"),
        ("lake: {vectors: 0.1}\n", "lake.vectors: needs the gateway's own embedder"),
        ("lake: {url: 'data/lake'}\n", "should be file:///FOLDER, s3://BUCKET/FOLDER"),
        ("lake: {url: 'gopher://bucket/lake'}\n", "lake.url: nothing knows the scheme gopher"),
        ("lake: {url: 'file://host/x'}\n", "file:///var/lib"),
        ("lake: {url: 's3://id:canary@bucket/x'}\n", "credentials go into lake.options"),
        ("lake: {}\ndrift: {alpha: 0.5}\n", "drift.alpha"),
        ("lake: {content: masked}\n", "lake.content"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(tmp_path: Path, text: str, fault: str) -> None:
    told = faults(tmp_path, text)
    assert fault in told
    assert "canary" not in told


def test_an_empty_section_is_a_lake(tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text(BEGIN + "lake: {options: {secret_key: canary}}\ndrift: {}\n", "utf-8")
    configuration = load(file, {}).configuration
    assert configuration.lake is not None
    assert configuration.drift is not None
    assert (configuration.lake.every, configuration.drift.window) == (60.0, 86_400.0)
    assert "canary" not in repr(configuration)
