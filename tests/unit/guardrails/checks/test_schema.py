"""An answer is JSON as its schema says, or what it breaks is told."""

from __future__ import annotations

from typing import Any

import pytest

from guardrails.checks.schema import JsonSchema
from guardrails.text_checks import Context

_SCHEMA = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "maxLength": 20},
        "days": {"type": "array", "items": {"$ref": "#/$defs/day"}},
    },
    "required": ["city"],
    "additionalProperties": False,
    "$defs": {"day": {"type": "integer", "minimum": 1}},
}
_CHECK = JsonSchema(_SCHEMA)


async def _kinds(text: str, check: JsonSchema = _CHECK) -> list[str]:
    (found,) = await check.judge([text], Context("output"))
    assert all((finding.start, finding.end) == (0, len(text)) for finding in found)
    return [finding.kind for finding in found]


@pytest.mark.parametrize(
    "text", ['{"city": "Bern"}', ' {"city": "Bern", "days": [1, 2]}\n', '```json\n{"city": "x"}\n```']
)
async def test_what_the_schema_allows_is_left_alone(text: str) -> None:
    assert await _kinds(text) == []


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("", ["schema.json"]),
        ("Here it is: {}", ["schema.json"]),
        ('{"city": "Bern"} and more', ["schema.json"]),
        ('{"city": NaN}', ["schema.json"]),
        ('{"city": "a", "city": "b"}', ["schema.json"]),
        ("[" * 100_000, ["schema.json"]),
        ("```\nnot json\n```", ["schema.json"]),
        ("[]", ["schema.type"]),
        ("{}", ["schema.required"]),
        ('{"city": 5, "x": 1}', ["schema.additionalProperties", "schema.type"]),
        ('{"city": "x", "days": [0, -1, "a"]}', ["schema.minimum", "schema.type"]),
    ],
)
async def test_each_keyword_that_is_broken_is_told_once(text: str, kinds: list[str]) -> None:
    assert sorted(await _kinds(text)) == kinds


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ('{"city": "x", "days": [1, 0]}', [("minimum", "$.days[1]")]),
        ('{"city": "' + "s" * 30 + '"}', [("maxLength", "$.city")]),
        ("nothing", [("json", "$")]),
    ],
)
def test_where_it_breaks_is_told(text: str, faults: list[tuple[str, str]]) -> None:
    assert _CHECK.faults(text) == faults


def test_a_name_that_the_schema_does_not_know_is_not_repeated() -> None:
    check = JsonSchema({"additionalProperties": {"type": "integer"}})
    assert check.faults('{"sk-secret-4711": "x"}') == [("type", "$.*")]


async def test_fences_count_only_where_they_are_allowed_and_any_json_does_without_a_schema() -> None:
    assert await _kinds('```json\n{"city": "x"}\n```', JsonSchema(_SCHEMA, fenced=False)) == ["schema.json"]
    assert await _kinds("[1, null]", JsonSchema()) == []
    assert await _kinds("[1, null", JsonSchema()) == ["schema.json"]


async def test_other_drafts_hold_and_nothing_is_fetched() -> None:
    old = JsonSchema({"$schema": "http://json-schema.org/draft-04/schema#", "minimum": 3, "exclusiveMinimum": True})
    assert await _kinds("3", old) == ["schema.minimum"]
    assert await _kinds("3", JsonSchema({"$ref": "http://127.0.0.1:9/other.json"})) == ["schema.$ref"]


@pytest.mark.parametrize("schema", [{"type": "strin"}, {"required": "city"}, {"properties": {"a": {"minimum": "x"}}}])
def test_a_schema_that_is_none_is_refused(schema: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"JSON Schema is wrong at \$"):
        JsonSchema(schema)


def test_the_version_follows_the_schema() -> None:
    assert len({JsonSchema(_SCHEMA).version, JsonSchema().version, JsonSchema(_SCHEMA, fenced=False).version}) == 3
    assert JsonSchema(dict(reversed(_SCHEMA.items()))).version == _CHECK.version
