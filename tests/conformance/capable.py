"""An imitated model that does what the frameworks' suites expect of a good one: it calls the tool that it is given, with
arguments of the kinds that the tool's schema names, answers once it has the result, and writes JSON where it is to."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

from upstream.vendor import Answer, Seen, Vendor


def made_of(schema: dict[str, Any], definitions: dict[str, Any], word: str) -> Any:
    """A value that fits a JSON schema; `word` where it asks for a string."""
    if "$ref" in schema:
        return made_of(definitions[schema["$ref"].rpartition("/")[2]], definitions, word)
    if "enum" in schema:
        return schema["enum"][0]
    if "anyOf" in schema:
        return made_of(next(one for one in schema["anyOf"] if one.get("type") != "null"), definitions, word)
    kind = schema.get("type", "object")
    kind = next(each for each in kind if each != "null") if isinstance(kind, list) else kind
    if kind == "object":
        parts = schema.get("properties", {})
        return {name: made_of(part, definitions, word) for name, part in parts.items()}
    if kind == "array":
        return [made_of(schema.get("items", {"type": "string"}), definitions, word)]
    return {"integer": 3, "number": 3.0, "boolean": True, "null": None}.get(kind, word)


class Capable(Answer):
    def __init__(self, vendor: Vendor, seen: Seen, writer: asyncio.StreamWriter) -> None:
        super().__init__(vendor, seen, writer)
        body = dict(seen.body)
        choice, tools = body.get("tool_choice"), body.pop("tools", None)
        answered = body.get("messages", [{}])[-1].get("role") == "tool"
        if tools and choice != "none" and not answered:
            named = choice["function"]["name"] if isinstance(choice, dict) else tools[0]["function"]["name"]
            body["tools"] = [tool for tool in tools if tool["function"]["name"] == named]
        seen.body = body

    def _frame(self, kind: str) -> dict[str, Any]:
        return {**super()._frame(kind), "model": self._model}

    def _written(self, schema: dict[str, Any]) -> str:
        quoted = re.search(r"'([^']+)'", super()._text())
        word = quoted[1] if quoted else "San Francisco, CA"
        return json.dumps(made_of(schema, schema.get("$defs", {}), word), ensure_ascii=False)

    def _tool_calls(self) -> list[dict[str, Any]]:
        (tool,) = (tool["function"] for tool in self._seen.body["tools"])
        arguments = self._written(tool.get("parameters", {}))
        return [{"id": "call_1", "type": "function", "function": {"name": tool["name"], "arguments": arguments}}]

    def _text(self) -> str:
        form = self._seen.body.get("response_format") or {}
        if form.get("type") == "json_object":
            return json.dumps({"setup": "Why do cats purr?", "punchline": "They are charged."})
        return self._written(form["json_schema"]["schema"]) if form.get("type") == "json_schema" else super()._text()
