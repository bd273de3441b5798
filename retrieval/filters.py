"""Filters on documents' attributes, in OpenAI's comparison and compound form, as Milvus' expressions.

    {"type": "and", "filters": [{"type": "eq", "key": "region", "value": "eu"},
                                {"type": "gte", "key": "year", "value": 2024}]}

eq, ne, in, nin compare tokens of key and value, so that nothing a caller wrote is in the expression; gt, gte, lt and
lte compare numbers in the attributes' JSON, with the key quoted. A document without the attribute is found by `ne` and
`nin`, and by none of the others.
https://platform.openai.com/docs/guides/retrieval#attribute-filtering
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from retrieval.expressions import holds, quoted, token, token_set

Value = str | float | bool

MOST_ATTRIBUTES = 16
LONGEST_KEY = 64
LONGEST_VALUE = 512
_MOST_CLAUSES = 100
_DEEPEST = 5
_RANGES = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
_EQUALITIES = ("eq", "ne", "in", "nin")


class BadFilter(ValueError):
    """A filter or attributes that can't be used; `where` is the path to what is wrong in it."""

    def __init__(self, message: str, where: str = "") -> None:
        super().__init__(message)
        self.where = where


def attribute_tokens(attributes: Mapping[str, Value], within: str = "") -> str:
    """The stored form of attributes, which equality filters look into. Raises BadFilter.

    `within` is the part of the collection that the document is in; no attribute can look like one.
    """
    if len(attributes) > MOST_ATTRIBUTES:
        raise BadFilter(f"at most {MOST_ATTRIBUTES} attributes")
    tokens = []
    for key, value in attributes.items():
        _check_key(key, key)
        _check_value(value, key)
        tokens.append(_token(key, value))
    return token_set([*tokens, _part(within)] if within else tokens)


def part_clause(within: str) -> str:
    """The expression for one part of a collection."""
    return holds("attribute_tokens", _part(within))


def clause(given: Mapping[str, Any]) -> str:
    """The expression for a filter, in parentheses. Raises BadFilter."""
    return _Translation().clause(given, "", 1)


class _Translation:
    def __init__(self) -> None:
        self._clauses = 0

    def clause(self, given: Any, where: str, depth: int) -> str:
        if not isinstance(given, Mapping):
            raise BadFilter("a filter is an object with `type`", where)
        kind = given.get("type")
        if kind in ("and", "or"):
            _only(given, {"type", "filters"}, where)
            parts = given.get("filters")
            if not isinstance(parts, list) or not parts:
                raise BadFilter("`filters` is a list of at least one filter", _at(where, "filters"))
            if depth >= _DEEPEST:
                raise BadFilter(f"filters are nested at most {_DEEPEST} deep", where)
            made = [self.clause(part, _at(where, f"filters[{n}]"), depth + 1) for n, part in enumerate(parts)]
            return "(" + f" {kind} ".join(made) + ")"
        if kind in _EQUALITIES:
            return self._equality(str(kind), *_comparison(given, where), where)
        if kind in _RANGES:
            return self._range(_RANGES[str(kind)], *_comparison(given, where), where)
        known = ", ".join((*_EQUALITIES, *_RANGES, "and", "or"))
        raise BadFilter(f"`type` is one of {known}", _at(where, "type"))

    def _equality(self, kind: str, key: str, value: Any, where: str) -> str:
        listed = kind in ("in", "nin")
        if listed and (not isinstance(value, list) or not value):
            raise BadFilter("`value` is a list of at least one value", _at(where, "value"))
        values = value if listed else [value]
        for each in values:
            _check_value(each, _at(where, "value"))
        self._count(len(values), where)
        found = " or ".join(holds("attribute_tokens", _token(key, each)) for each in values)
        return f"(not ({found}))" if kind in ("ne", "nin") else f"({found})"

    def _range(self, operator: str, key: str, value: Any, where: str) -> str:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise BadFilter("`value` is a number here", _at(where, "value"))
        self._count(1, where)
        return f"(attributes[{quoted(key)}] {operator} {_number(value)})"

    def _count(self, clauses: int, where: str) -> None:
        self._clauses += clauses
        if self._clauses > _MOST_CLAUSES:
            raise BadFilter(f"at most {_MOST_CLAUSES} comparisons in all", where)


def _comparison(given: Mapping[str, Any], where: str) -> tuple[str, Any]:
    _only(given, {"type", "key", "value"}, where)
    key = given.get("key")
    _check_key(key, _at(where, "key"))
    if "value" not in given:
        raise BadFilter("`value` is missing", _at(where, "value"))
    return str(key), given["value"]


def _only(given: Mapping[str, Any], known: set[str], where: str) -> None:
    if unknown := sorted(set(given) - known):
        raise BadFilter(f"there is no `{unknown[0]}` here", _at(where, str(unknown[0])))


def _check_key(key: Any, where: str) -> None:
    if not isinstance(key, str) or not 0 < len(key) <= LONGEST_KEY:
        raise BadFilter(f"a key is a text of 1 to {LONGEST_KEY} characters", where)


def _check_value(value: Any, where: str) -> None:
    if isinstance(value, str):
        if len(value) > LONGEST_VALUE:
            raise BadFilter(f"a value has at most {LONGEST_VALUE} characters", where)
    elif not isinstance(value, bool | int | float) or not math.isfinite(value):
        raise BadFilter("a value is a text, a number, true or false", where)


def _token(key: str, value: Value) -> str:
    """Numbers that are equal are one: 3 is 3.0; but true is not 1."""
    return token(key, value if isinstance(value, str | bool) else float(value))


def _part(within: str) -> str:
    return token("within", "", within)  # three parts; an attribute's has two


def _number(value: float) -> str:
    """Digits alone, as every version of the language reads them."""
    return str(value) if isinstance(value, int) and abs(value) < 2**53 else f"{float(value):.17g}"


def _at(where: str, part: str) -> str:
    return f"{where}.{part}" if where else part
