"""Which tools may be offered and called, and with what."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import pytest

from guardrails.checks.tool_policy import ToolPolicy
from guardrails.text_checks import Context

_ARGUMENTS = {
    "send_mail": {"type": "object", "properties": {"to": {"pattern": "@acme\\.example$"}}, "required": ["to"]}
}


async def _kinds(
    text: str, tool: str, part: Literal["text", "definition", "call", "result"] = "call", **settings: Any
) -> list[str]:
    context = dataclasses.replace(Context("tools"), part=part, tool=tool)
    (found,) = await ToolPolicy(**settings).judge([text], context)
    assert all((finding.start, finding.end) == (0, len(text)) for finding in found)
    return [finding.kind for finding in found]


@pytest.mark.parametrize("part", ["definition", "call", "result"])
@pytest.mark.parametrize(
    ("tool", "settings", "kinds"),
    [
        ("search", {"allow": ["search"]}, []),
        ("shell", {"allow": ["search"]}, ["tool"]),
        ("search_web", {"allow": ["search_*"]}, []),
        ("Search", {"allow": ["search"]}, ["tool"]),
        ("search", {"allow": []}, ["tool"]),
        ("shell", {"deny": ["sh*"]}, ["tool"]),
        ("search", {"deny": ["sh*"]}, []),
        ("search_secret", {"allow": ["search_*"], "deny": ["*_secret"]}, ["tool"]),
        ("send_mail", {"deny": ["x"]}, []),
    ],
)
async def test_a_tool_is_allowed_by_its_name(
    tool: str, settings: dict[str, Any], kinds: list[str], part: Literal["definition", "call", "result"]
) -> None:
    assert await _kinds("{}", tool, part, **settings) == kinds


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ('{"to": "ann@acme.example"}', []),
        ('{"to": "ann@evil.example"}', ["arguments.pattern"]),
        ("{}", ["arguments.required"]),
        ("", ["arguments.required"]),
        ("[]", ["arguments.type"]),
        ('{"to": ', ["arguments.json"]),
        ('{"to": "ann@evil.example", "to": "ann@acme.example"}', ["arguments.json"]),
    ],
)
async def test_the_arguments_of_a_call_follow_their_schema(text: str, kinds: list[str]) -> None:
    assert await _kinds(text, "send_mail", arguments=_ARGUMENTS) == kinds
    assert await _kinds(text, "other", arguments=_ARGUMENTS) == []
    assert await _kinds(text, "send_mail", "definition", arguments=_ARGUMENTS) == []


async def test_the_arguments_of_any_call_may_be_bounded() -> None:
    assert await _kinds("x" * 11, "any", max_characters=10) == ["arguments.length"]
    assert await _kinds("x" * 10, "any", max_characters=10) == []


async def test_a_text_that_belongs_to_no_tool_is_left_alone() -> None:
    assert await ToolPolicy(allow=[]).judge(["hello", "{"], Context("input")) == [(), ()]


def test_a_policy_that_asks_nothing_or_has_a_wrong_schema_is_refused() -> None:
    with pytest.raises(ValueError, match="needs `allow`"):
        ToolPolicy()
    with pytest.raises(ValueError, match="`send`: the JSON Schema is wrong"):
        ToolPolicy(arguments={"send": {"type": 5}})
    versions = {
        ToolPolicy(allow=["a"]).version, ToolPolicy(deny=["a"]).version, ToolPolicy(allow=[]).version,
        ToolPolicy(arguments=_ARGUMENTS).version, ToolPolicy(max_characters=5).version,
    }  # fmt: skip
    assert len(versions) == 5
