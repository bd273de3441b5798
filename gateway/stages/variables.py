"""Every string that fills a template, wherever it stands in the variables: guardrails read and rewrite them all."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def strings_of(value: Any, *, names: bool = True) -> Iterator[tuple[dict[str, Any], str]]:
    """As (holder, key), to be read and put back: values and items at any depth, and the keys of objects.

    `names`: this object's own too; those of a template's variables are the template's, or they are refused.
    """
    if isinstance(value, dict):
        for key in list(value):
            if isinstance(value[key], str):
                yield value, key
            else:
                yield from strings_of(value[key])
        for key in list(value) if names else ():
            yield _Key(value, key), "text"
    elif isinstance(value, list):
        for order, item in enumerate(value):
            if isinstance(item, str):
                yield _Item(value, order), "text"
            else:
                yield from strings_of(item)


class _Item(dict[str, Any]):
    """One string of a list."""

    def __init__(self, items: list[Any], order: int) -> None:
        super().__init__(text=items[order])
        self._items, self._order = items, order

    def __setitem__(self, key: str, value: Any) -> None:
        super().__setitem__(key, value)
        self._items[self._order] = value


class _Key(dict[str, Any]):
    """The name of one value of an object."""

    def __init__(self, values: dict[str, Any], name: str) -> None:
        super().__init__(text=name)
        self._values, self._name = values, name

    def __setitem__(self, key: str, value: Any) -> None:
        super().__setitem__(key, value)
        self._values[value] = self._values.pop(self._name)
        self._name = value
