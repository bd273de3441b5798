"""A YAML file as plain values, each with its line; `${ENV}` expanded after parsing, so no value can become YAML.

`{api_key: ${KEY}}` is not YAML as it stands: a brace ends a plain word there. So each `${…}` is first replaced
by as many private-use characters, which keeps every line and column, and is expanded where it stood afterwards.

Booleans are YAML 1.2's: `true` and `false`; `on`, `off`, `yes` and `no` are words.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from gateway.config.faults import ConfigError, ConfigFault

Path = tuple[str | int, ...]

_MAX_NODES = 50_000  # what aliases may unfold to
_VARIABLE = re.compile(r"\$(?:\$\{|\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}\n]*))?\})")
_FIRST, _LAST, _FILL = 0xE100, 0xF8FF, "\ue001"
_PLACEHOLDER = re.compile(f"([\ue100-\uf8ff]){_FILL}+")


class _Loader(yaml.SafeLoader):
    """SafeLoader with YAML 1.2's booleans, and no timestamps."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith((":bool", ":timestamp"))]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|false|True|False)$"), list("tfTF"))


@dataclass(slots=True)
class Document:
    """The values, and where each stands: `marks` maps a path to (line, column), counting from 1."""

    name: str
    values: Any = None
    marks: dict[Path, tuple[int, int]] = field(default_factory=dict)
    faults: list[ConfigFault] = field(default_factory=list)

    def fault(self, path: Path, message: str, **more: Any) -> ConfigFault:
        """A fault at `path`, or at the nearest thing above it that stands in the file."""
        at = path
        while at and at not in self.marks:
            at = at[:-1]
        line, column = self.marks.get(at, (1, 1))
        return ConfigFault(self.name, line, column, key_of(path), message, **more)


def key_of(path: Path) -> str:
    """models.handbook.targets[0].provider"""
    key = ""
    for part in path:
        key += f"[{part}]" if isinstance(part, int) else f".{part}" if key else part
    return key


def parse(text: str, name: str, env: Mapping[str, str]) -> Document:
    """Raises ConfigError where it is not YAML at all; other faults are collected in the document."""
    document = Document(name)
    variables: list[re.Match[str]] = []

    def held(found: re.Match[str]) -> str:
        variables.append(found)
        return chr(_FIRST + len(variables) - 1) + _FILL * (len(found[0]) - 1)

    try:
        if any(0xE000 <= ord(character) <= _LAST for character in text):
            raise ValueError("it holds characters for private use")
        text = _VARIABLE.sub(held, text)
        if len(variables) > _LAST - _FIRST:
            raise ValueError("it names too many environment variables")
        root = yaml.compose(text, _Loader)
        if root is not None:
            document.values = _Reader(document, env, variables).value(root, ())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        raise ConfigError([ConfigFault(name, line, column, "", f"not valid YAML: {error.problem}")]) from None
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        line, column = before.count("\n") + 1, error.position - (before.rfind("\n") + 1) + 1
        message = f"not valid YAML: the character U+{ord(text[error.position]):04X} is not allowed"
        raise ConfigError([ConfigFault(name, line, column, "", message)]) from None
    except RecursionError:
        raise ConfigError([ConfigFault(name, 1, 1, "", "not valid YAML: nested too deeply")]) from None
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError([ConfigFault(name, 1, 1, "", f"not valid YAML: {error}")]) from None
    return document


class _Reader:
    def __init__(self, document: Document, env: Mapping[str, str], variables: list[re.Match[str]]) -> None:
        self._document = document
        self._env = env
        self._variables = variables
        self._constructor = _Loader("")
        self._nodes = 0

    def value(self, node: yaml.Node, path: Path) -> Any:
        self._nodes += 1
        if self._nodes > _MAX_NODES:
            raise ValueError("aliases unfold to too many values")
        self._document.marks[path] = (node.start_mark.line + 1, node.start_mark.column + 1)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*path, order)) for order, item in enumerate(node.value)]
        assert isinstance(node, yaml.ScalarNode)
        return self._scalar(node, path)

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        values: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key_node, value_node in node.value:
            mark = (key_node.start_mark.line + 1, key_node.start_mark.column + 1)
            if key_node.tag == "tag:yaml.org,2002:merge":
                merged |= self._merged(value_node, path)
                continue
            if not isinstance(key_node, yaml.ScalarNode) or _FILL in key_node.value:
                self._document.marks[*path, "?"] = mark
                fault = "a key is a plain word, and no variable stands in it"
                self._document.faults.append(self._document.fault((*path, "?"), fault))
                continue
            key = key_node.value
            if key in values:
                self._document.marks[*path, key] = mark
                self._document.faults.append(self._document.fault((*path, key), "is written twice"))
                continue
            values[key] = self.value(value_node, (*path, key))
            self._document.marks[*path, key] = mark
        return merged | values  # what is written here goes before what is merged in

    def _merged(self, node: yaml.Node, path: Path) -> dict[str, Any]:
        """The keys that `<<: *base` or `<<: [*first, *second]` brings; of a list, the first one counts."""
        nodes = node.value if isinstance(node, yaml.SequenceNode) else [node]
        here = self._document.marks[path]
        merged: dict[str, Any] = {}
        for base in nodes:
            values = self.value(base, path)
            self._document.marks[path] = here
            if not isinstance(values, dict):
                raise yaml.MarkedYAMLError(problem="`<<` takes a mapping", problem_mark=base.start_mark)
            merged = values | merged
        return merged

    def _scalar(self, node: yaml.ScalarNode, path: Path) -> Any:
        """What is expanded is a string, whatever it looks like: a numeric password stays what it is.

        Where a number or a boolean is wanted, the configuration's models read it from the string.
        """
        if "${" in node.value:
            message = "`${` begins a variable, ${NAME} or ${NAME:-default}; write $${ for the characters themselves"
            self._document.faults.append(self._document.fault(path, message))
        if _FILL in node.value:
            return _PLACEHOLDER.sub(lambda found: self._expanded(found, path), node.value)
        try:
            return self._constructor.construct_object(node)
        except (ValueError, LookupError, AttributeError):  # PyYAML's constructors, of a tag that does not fit
            self._document.faults.append(self._document.fault(path, f"can't be read as {node.tag.rpartition(':')[2]}"))
            return None

    def _expanded(self, placeholder: re.Match[str], path: Path) -> str:
        order = ord(placeholder[1]) - _FIRST
        if order >= len(self._variables):
            return placeholder[0]  # written as an escape sequence; no variable of ours
        name, default = self._variables[order].groups()
        if name is None:
            return "${"  # written $${
        value = self._env.get(name)
        if default is not None:
            return value or default  # as in a shell, an empty variable counts as not set here
        if value is None:
            hint = f"the environment variable {name} is not set; write ${{{name}:-}} to do without"
            self._document.faults.append(self._document.fault(path, hint))
        return value or ""
