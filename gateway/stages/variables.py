"""Every word that fills a template, wherever it stands in the variables: guardrails read and rewrite them all.

A number is written as a text too: one that is long enough to be a card's or somebody's is read like one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_SHORTEST = 6  # characters of a number that may be more than a number


def strings_of(value: Any, *, names: bool = True) -> Iterator[tuple[dict[str, Any], str]]:
    """As (holder, key), to be read and put back: values and items at any depth, and the keys of objects.

    `names`: this object's own too; those of a template's variables are the template's, or they are refused.
    """
    if isinstance(value, dict):
        for key in list(value):
            if isinstance(value[key], str):
                yield value, key
            elif _is_long(value[key]):
                yield _Value(value, key), "text"
            else:
                yield from strings_of(value[key])
        for key in list(value) if names else ():
            yield _Key(value, key), "text"
    elif isinstance(value, list):
        for order, item in enumerate(value):
            if isinstance(item, str) or _is_long(item):
                yield _Value(value, order), "text"
            else:
                yield from strings_of(item)


def _is_long(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and len(str(value)) >= _SHORTEST


class _Value(dict[str, Any]):
    """One item of a list, or a number of an object. A number that nobody rewrites stays one."""

    def __init__(self, holder: Any, place: Any) -> None:
        super().__init__(text=str(holder[place]))
        self._holder, self._place = holder, place

    def __setitem__(self, key: str, value: Any) -> None:
        if value != self[key]:
            self._holder[self._place] = value
        super().__setitem__(key, value)


class _Key(dict[str, Any]):
    """The name of one value of an object."""

    def __init__(self, values: dict[str, Any], name: str) -> None:
        super().__init__(text=name)
        self._values, self._name = values, name

    def __setitem__(self, key: str, value: Any) -> None:
        super().__setitem__(key, value)
        self._values[value] = self._values.pop(self._name)
        self._name = value
