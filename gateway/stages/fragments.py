"""Every string of a message or a delta, wherever it stands: what must be read or rewritten as text."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

_STRUCTURE = frozenset({"role", "type", "id", "index"})


def fragments(delta: dict[str, Any], prefix: str = "") -> list[tuple[dict[str, Any], str, str]]:
    """Every string in a delta or message, as (holder, key, channel); a channel's pieces make one text."""
    found: list[tuple[dict[str, Any], str, str]] = []
    for key, value in delta.items():
        if key in _STRUCTURE and not isinstance(value, (dict, list)):
            continue
        if isinstance(value, str):
            if value:
                found.append((delta, key, prefix + key))
        elif isinstance(value, dict):
            found += fragments(value, f"{prefix}{key}.")
        elif isinstance(value, list):
            for order, item in enumerate(value):
                if isinstance(item, dict):
                    found += fragments(item, f"{prefix}{key}[{item.get('index', order)}].")
                elif isinstance(item, str):
                    found.append((_Place(value, order), "text", f"{prefix}{key}[{order}]"))
    return found


class _Place(dict[str, Any]):
    """One string of a list, read and written like the others. Held text can't be put back into it later, so a
    stream shows what its screen lets go at once, and no more."""

    def __init__(self, items: list[Any], order: int) -> None:
        super().__init__(text=items[order])
        self._items, self._order = items, order

    def __setitem__(self, key: str, value: Any) -> None:
        super().__setitem__(key, value)
        self._items[self._order] = value


def append_fragment(delta: dict[str, Any], channel: str, text: str) -> None:
    """Put `text` behind what `channel` already has in `delta`, making the way to it where it is missing."""
    holder: dict[str, Any] = delta
    *path, key = channel.split(".")
    for step in path:
        name, _, index = step.rstrip("]").partition("[")
        if not index:
            holder = holder.setdefault(name, {})
            continue
        items: list[dict[str, Any]] = holder.setdefault(name, [])
        for item in items:
            if item.get("index") == int(index):
                holder = item
                break
        else:
            items.append({"index": int(index)})
            holder = items[-1]
    holder[key] = holder.get(key, "") + text


def texts(message: dict[str, Any]) -> Iterable[tuple[dict[str, Any], str, str]]:
    """Where a message holds text, as `fragments`: everywhere but in what is not for reading, pictures and sounds."""
    for holder, key, channel in fragments(message):
        if not channel.endswith((".url", ".data", ".file_data", "tool_call_id")):
            yield holder, key, channel


def is_json(channel: str) -> bool:
    """Whether the text of a channel is JSON: the arguments of a tool call."""
    return channel.endswith("arguments")
