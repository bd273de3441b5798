"""The calls of tools that the pieces of a stream make up together: https://platform.openai.com/docs/api-reference/chat-streaming"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class _Call:
    id: str | None = None
    name: str = ""
    arguments: list[str] = field(default_factory=list)

    def told(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "type": "function",
            "function": {"name": self.name, "arguments": "".join(self.arguments)},
        }


def gathered(pieces: Iterable[tuple[int, Any]]) -> list[dict[str, Any]]:
    """The calls, as a whole message has them, in the order in which they began.

    Each piece is a choice's index and the `tool_calls` of one of its deltas, or of a whole message. What has not the
    shape of OpenAI's is left out; what a custom tool is given counts as its arguments.
    """
    calls: dict[tuple[int, Any], _Call] = {}
    for choice, parts in pieces:
        for order, part in enumerate(parts if isinstance(parts, list) else ()):
            if not isinstance(part, dict):
                continue
            index = part.get("index", order)
            call = calls.setdefault((choice, index if isinstance(index, int) else order), _Call())
            if isinstance(told := part.get("id"), str):
                call.id = told
            does = part.get("function") or part.get("custom")
            if not isinstance(does, dict):
                continue
            if isinstance(name := does.get("name"), str):
                call.name = call.name or name  # some servers say it again with every piece
            if isinstance(given := does.get("arguments", does.get("input")), str):
                call.arguments.append(given)
    return [call.told() for call in calls.values()]
