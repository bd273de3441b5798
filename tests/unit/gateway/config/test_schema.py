"""The published JSON Schema says what the gateway accepts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from gateway.config.document import parse
from gateway.config.quantities import duration_text
from gateway.config.schema import configuration_schema, schema_text

ROOT = Path(__file__).parents[4]
SHIPPED = ROOT / "configs" / "gateway.yaml"


def invalid(values: Any) -> bool:
    return not jsonschema.Draft202012Validator(configuration_schema()).is_valid(values)


def test_the_published_schema_is_current() -> None:
    """If this fails: rag-gateway schema > docs/configuration.schema.json"""
    assert (ROOT / "docs" / "configuration.schema.json").read_text("utf-8") == schema_text()


def test_it_is_a_valid_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(configuration_schema())


def test_the_shipped_configuration_fits_it_expanded_and_as_it_is_written() -> None:
    text = SHIPPED.read_text("utf-8")
    validate = jsonschema.Draft202012Validator(configuration_schema()).validate
    validate(parse(text, "gateway.yaml", {"RAG_GATEWAY_PORT": "80"}).values | {"server": {"port": 80}})
    validate(yaml.safe_load(text))


@pytest.mark.parametrize(
    "section",
    [
        {"modles": {}},
        {"server": {"port": "eighty"}},
        {"server": {"port": 70000}},
        {"server": {"grace": "30"}},
        {"models": {"a": {"targets": ["o/x"], "strategy": "random"}}},
        {"models": {"a": {"targets": [1]}}},
        {"models": {"a": {}}},
        {"access": {"keys": [{"name": "a", "hash": "abc"}]}},
        {"providers": {"o": {"kind": "opnai"}}},
    ],
)
def test_what_is_wrong_does_not_fit_it(section: dict[str, Any]) -> None:
    assert invalid({"providers": {"e": {"kind": "extractive"}}} | section)


@pytest.mark.parametrize(
    "section",
    [
        {"server": {"port": "${PORT:-8080}", "body_limit": "20MB"}},
        {"models": {"a": {"targets": ["o/x", {"provider": "o", "model": "x"}], "guardrails": {"input": ["pii"]}}}},
    ],
)
def test_short_forms_and_variables_fit_it(section: dict[str, Any]) -> None:
    assert not invalid({"providers": {"e": {"kind": "extractive"}}} | section)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.25, "250ms"), (5.0, "5s"), (90.0, "90s"), (600.0, "10m"), (3600.0, "1h"), (86400.0, "1d")],
)
def test_durations_are_written_with_their_largest_whole_unit(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text
