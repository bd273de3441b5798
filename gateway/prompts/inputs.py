"""What a caller gives a template, held against what the template declares."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.config.faults import nearest
from gateway.prompts.front_matter import Input

_DEEPEST = 6
_MOST_VALUES = 2_000
_TRUE, _FALSE = ("true", "1"), ("false", "0")


class BadInput(Exception):
    """One value that can't be used. `name` is the input's; `missing` says that it was not given at all."""

    def __init__(self, name: str, message: str, *, missing: bool = False) -> None:
        super().__init__(message)
        self.name = name
        self.missing = missing


def filled(inputs: Mapping[str, Input], given: Mapping[str, Any] | None) -> dict[str, Any]:
    """The value of every input: as given, or its default. Raises BadInput, naming the one at fault."""
    given = given or {}
    for name in given:
        if name not in inputs:
            near = nearest(name, inputs)
            known = f"it has {', '.join(sorted(inputs))}" if inputs else "it has none"
            raise BadInput(
                name, f"the template has no such variable{f'; did you mean {near}?' if near else f'; {known}'}"
            )
    values: dict[str, Any] = {}
    for name, declared in inputs.items():
        if name in given and given[name] is not None:
            values[name] = _value(name, declared, given[name])
        elif declared.required:
            said = f" ({declared.description})" if declared.description else ""
            raise BadInput(name, f"the template needs it{said}", missing=True)
        else:
            values[name] = declared.default
    return values


def sample(declared: Input) -> Any:
    """A value that the input would take, to try a template with."""
    if not declared.required:
        return declared.default
    if declared.enum:
        return declared.enum[0]
    plain = {"string": "x", "number": 1.5, "integer": 1, "boolean": True, "object": {}}
    return [plain[declared.items]] if declared.type == "array" else plain[declared.type]


def _value(name: str, declared: Input, value: Any) -> Any:
    if isinstance(value, Mapping) and declared.type != "object":
        value = _words(name, value)
    if declared.type == "array":
        if not isinstance(value, list):
            raise BadInput(name, f"expected a list, got {_kind(value)}")
        if len(value) > declared.max_items:
            raise BadInput(name, f"expected at most {declared.max_items} items, got {len(value)}")
        value = [_one(f"{name}[{order}]", name, declared.items, item) for order, item in enumerate(value)]
    else:
        value = _one(name, name, declared.type, value)
    length = _length(name, value, 0, [0])
    if length > declared.max_length:
        raise BadInput(name, f"expected at most {declared.max_length} characters, got {length}")
    allowed = declared.enum
    if allowed is not None and any(item not in allowed for item in (value if isinstance(value, list) else [value])):
        raise BadInput(name, f"expected one of {', '.join(str(each) for each in allowed)}")
    return value


def _words(name: str, value: Mapping[str, Any]) -> Any:
    """OpenAI's way to write a text: https://platform.openai.com/docs/api-reference/responses/create#responses-create-prompt"""
    if value.get("type") == "input_text" and isinstance(value.get("text"), str):
        return value["text"]
    if value.get("type") in ("input_image", "input_file"):
        raise BadInput(name, f"{value['type']} can't be a variable here: send it in a message")
    return value


def _one(where: str, name: str, kind: str, value: Any) -> Any:
    told = value.strip().lower() if isinstance(value, str) else value
    match kind:
        case "string" if isinstance(value, str):
            return value
        case "string" if isinstance(value, (int, float)) and not isinstance(value, bool):
            return str(value)
        case "boolean" if isinstance(value, bool):
            return value
        case "boolean" if told in (*_TRUE, *_FALSE):
            return told in _TRUE
        case "number" | "integer" if not isinstance(value, bool):
            try:
                number = float(told) if kind == "number" else int(told)
            except (TypeError, ValueError, OverflowError):
                pass
            else:
                if number == number and abs(number) < 1e15 and (kind == "number" or number == float(told)):
                    return number if not isinstance(value, int) else value
        case "object" if isinstance(value, Mapping):
            return dict(value)
    place = "" if where == name else f" at {where}"
    raise BadInput(name, f"expected {_NAMES[kind]}{place}, got {_kind(value)}")


_NAMES = {
    "string": "a text",
    "number": "a number",
    "integer": "a whole number",
    "boolean": "true or false",
    "object": "an object",
}


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "a boolean"
    return {str: "a text", int: "a number", float: "a number", list: "a list", dict: "an object"}.get(
        type(value), "null"
    )


def _length(name: str, value: Any, depth: int, seen: list[int]) -> int:
    """The characters of all texts in a value, keys among them. Raises BadInput where it is nested or made of too much."""
    seen[0] += 1
    if depth > _DEEPEST or seen[0] > _MOST_VALUES:
        raise BadInput(name, "it is nested too deeply, or made of too many values")
    if isinstance(value, str):
        return len(value)
    if isinstance(value, Mapping):
        return sum(len(key) + _length(name, each, depth + 1, seen) for key, each in value.items())
    if isinstance(value, list):
        return sum(_length(name, each, depth + 1, seen) for each in value)
    return 0
