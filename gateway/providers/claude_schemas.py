"""A JSON schema as Claude's structured outputs take one.

https://platform.claude.com/docs/en/build-with-claude/structured-outputs#json-schema-limitations: objects must close
themselves, and limits on numbers, lengths and counts are not enforced. Such limits are told to the model in the
schema's description, as the vendor's own SDKs do.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

_LIMITS = (
    "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength", "maxItems",
    "uniqueItems", "minProperties", "maxProperties",
)  # fmt: skip
_MAPS = ("properties", "$defs", "definitions")
_LISTS = ("anyOf", "allOf", "oneOf")


def closed(schema: Mapping[str, Any]) -> dict[str, Any]:
    """`schema`, with what the vendor does not enforce written into descriptions. The given one is left as it is."""
    made = {name: value for name, value in schema.items() if name not in _LIMITS and name != "oneOf"}
    limits = {name: schema[name] for name in _LIMITS if name in schema}
    if schema.get("minItems", 0) not in (0, 1):
        limits["minItems"] = made.pop("minItems")
    if limits:
        told = ", ".join(f"{name}: {json.dumps(value)}" for name, value in limits.items())
        made["description"] = f"{schema['description']} ({told})" if schema.get("description") else f"({told})"
    for name in _MAPS:
        if isinstance(given := schema.get(name), dict):
            made[name] = {key: _closed(value) for key, value in given.items()}
    for name in _LISTS:
        if isinstance(given := schema.get(name), list):
            made["anyOf" if name == "oneOf" else name] = [_closed(value) for value in given]
    if "items" in schema:
        made["items"] = _closed(schema["items"])
    if schema.get("type") == "object":
        made.setdefault("additionalProperties", False)
    return made


def _closed(schema: Any) -> Any:
    return closed(schema) if isinstance(schema, dict) else schema
