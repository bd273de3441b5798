"""The JSON Schema of the configuration file, for editors and for other tools' checks.

It describes the file as it is written, so `${NAME}` may stand for any number, boolean or fixed word.
"""

from __future__ import annotations

import json
from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from gateway.config.models import Configuration
from gateway.config.quantities import duration_text

_VARIABLE = {"type": "string", "pattern": r"\$\{[A-Za-z_][A-Za-z0-9_]*(:-[^}\n]*)?\}"}


class _FileSchema(GenerateJsonSchema):
    """Pydantic's schema, its durations' defaults written as in a file: 10s, not 10.0."""

    def encode_default(self, dft: Any) -> Any:
        return dft if isinstance(dft, float) else super().encode_default(dft)

    def default_schema(self, schema: Any) -> dict[str, Any]:
        described = super().default_schema(schema)
        default = described.get("default")
        if isinstance(default, float) and described.get("type") == "string":
            described["default"] = duration_text(default)
        return described


def configuration_schema() -> dict[str, Any]:
    """JSON Schema, draft 2020-12."""
    schema = Configuration.model_json_schema(schema_generator=_FileSchema)
    described: dict[str, Any] = _with_variables(schema)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "rag-gateway configuration",
        **{key: value for key, value in described.items() if key != "title"},
    }


def schema_text() -> str:
    """As it stands in docs/configuration.schema.json."""
    return json.dumps(configuration_schema(), indent=2, ensure_ascii=False) + "\n"


def _with_variables(schema: Any) -> Any:
    """`schema`, where each number, boolean, choice of words or patterned string may be a variable instead."""
    if isinstance(schema, list):
        return [_with_variables(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {
        key: value if key in ("default", "enum", "mapping") else _with_variables(value) for key, value in schema.items()
    }
    narrow = schema.get("type") in ("integer", "number", "boolean") or (
        schema.get("type") == "string" and ("pattern" in schema or "enum" in schema)
    )
    if not narrow:
        return schema
    outside = {key: schema.pop(key) for key in ("title", "description", "default") if key in schema}
    return {**outside, "anyOf": [schema, _VARIABLE]}
