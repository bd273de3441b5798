"""Where a template's code runs: few filters and methods, none of which makes much of little, and a gauge of its work.

Jinja's own sandbox keeps a template from reaching Python; it does not keep it from taking a minute or a gigabyte. So
whatever multiplies is bounded here by what it makes, each value written and each round of a loop is counted, and all
that filters, methods, sums and slices make in one rendering is counted together.
"""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import BuiltinMethodType
from typing import Any, cast

import jinja2
from jinja2.exceptions import SecurityError
from jinja2.filters import FILTERS as JINJA_FILTERS
from jinja2.runtime import LoopContext, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.tests import TESTS as JINJA_TESTS

from gateway.prompts.origins import Origin

MOST_STEPS = 20_000
"""Values written and rounds of loops, all together, in one rendering of one text."""
MOST_CHARACTERS = 1_000_000
MOST_MADE = 8_000_000
"""Characters, all together, of what one rendering makes on its way; an item of a list counts for eight."""
MOST_SECONDS = 0.25
"""Of the rendering thread's own CPU time, for all texts of a template together."""

_LARGEST = 10**15
_LONGEST_LIST = 10_000
_WIDEST = 40  # columns of an indent
_DIGITS = 15  # before or behind the point, to round to
_RANGE = 1_000
_PLAIN = frozenset({
    "abs", "capitalize", "count", "d", "default", "dictsort", "first", "float", "groupby", "int", "items", "last",
    "length", "list", "lower", "map", "max", "min", "reject", "rejectattr", "reverse", "select", "selectattr", "sort",
    "title", "trim", "truncate", "unique", "upper", "wordcount",
})  # fmt: skip
_METHODS = {
    str: frozenset({"endswith", "lower", "lstrip", "rstrip", "split", "startswith", "strip", "title", "upper"}),
    dict: frozenset({"get", "items", "keys", "values"}),
}

# What the rewritten tree calls; no name that a template could write.
SAID, EACH, JOINED, SCALAR, MADE = "said of", "each of", "joined of", "scalar of", "made of"


class RenderingFailed(Exception):
    """A template could not be filled with these values: what it asks of them they don't have, or it grows too large."""


class Piece(str):
    """A piece of what was rendered. `origin` says whose words it is made of."""

    __slots__ = ("origin",)
    origin: Origin

    def __str__(self) -> str:
        return self  # Jinja asks for the text of whatever it writes: it stays what it is


def piece(text: str, origin: Origin) -> Piece:
    made = Piece(text)
    made.origin = origin
    return made


class Gauge:
    """What one rendering has used of what it may."""

    __slots__ = ("_began", "_room", "_steps", "_used")

    def __init__(self) -> None:
        self._steps = MOST_STEPS
        self._room = MOST_MADE
        self._began = time.perf_counter()
        self._used = time.thread_time()

    def next_text(self) -> None:
        """Each text has steps of its own; time and room are one for all of them."""
        self._steps = MOST_STEPS

    def step(self) -> None:
        self._steps -= 1
        if self._steps < 0:
            raise RenderingFailed(f"it writes more than {MOST_STEPS} values, or its loops go round too often")
        self._look()

    def made(self, value: Any) -> Any:
        """The value, once it is counted."""
        if isinstance(value, str):
            self._room -= len(value)
        elif isinstance(value, (list, tuple, dict)):
            self._room -= 8 * len(value)
        self._room -= 8
        if self._room < 0:
            raise RenderingFailed(f"what it makes on its way is more than {MOST_MADE} characters")
        self._look()
        return value

    def _look(self) -> None:
        # The wall's clock is the cheaper one to ask, and what it has not shown the thread's own can't have used.
        if time.perf_counter() - self._began > MOST_SECONDS and time.thread_time() - self._used > MOST_SECONDS:
            raise RenderingFailed(f"it takes more than {MOST_SECONDS:g} s")


gauge: ContextVar[Gauge] = ContextVar("gauge")


@contextmanager
def gauged() -> Iterator[Gauge]:
    """One gauge for all that is rendered within: the one that holds already, or a new one."""
    known = gauge.get(None)
    if known is not None:
        yield known
        return
    token = gauge.set(made := Gauge())
    try:
        yield made
    finally:
        gauge.reset(token)


def _counted(work: Callable[..., Any]) -> Callable[..., Any]:
    """A filter or a test whose results the gauge counts. Jinja's marks of what it is given stay on it."""

    @functools.wraps(work)
    def counting(*given: Any, **named: Any) -> Any:
        return gauge.get().made(work(*given, **named))

    return counting


class Sandbox(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset({"*", "**", "+", "-", "/", "//", "%"})

    def call_binop(self, context: jinja2.runtime.Context, operator: str, left: Any, right: Any) -> Any:
        if operator == "+" and type(left) is type(right) and isinstance(left, (str, list, tuple)):
            if len(left) + len(right) > (MOST_CHARACTERS if isinstance(left, str) else _LONGEST_LIST):
                raise RenderingFailed("what it adds up grows too large")
            return gauge.get().made(left + right)
        if operator == "**" or not all(
            isinstance(side, (int, float)) and abs(side) < _LARGEST for side in (left, right)
        ):
            raise SecurityError(f"`{operator}` is for numbers below 10^15 here, and there are no powers")
        return super().call_binop(context, operator, left, right)

    def call(__self, __context: jinja2.runtime.Context, __obj: Any, *given: Any, **named: Any) -> Any:
        return gauge.get().made(super().call(__context, __obj, *given, **named))

    def getattr(self, obj: Any, attribute: str) -> Any:
        if isinstance(obj, dict) and attribute in obj:
            return obj[attribute]  # before a method of the same name
        return super().getattr(obj, attribute)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        if isinstance(obj, LoopContext):
            return super().is_safe_attribute(obj, attr, value)
        return any(isinstance(obj, kind) and attr in names for kind, names in _METHODS.items())

    def is_safe_callable(self, obj: Any) -> bool:
        if obj is _bounded_range:
            return True
        holder = getattr(obj, "__self__", None)
        if isinstance(holder, LoopContext):
            return getattr(obj, "__name__", "") in ("cycle", "changed")
        if not isinstance(obj, BuiltinMethodType):
            return False
        return any(isinstance(holder, kind) and obj.__name__ in names for kind, names in _METHODS.items())


def _bounded_range(*bounds: int) -> range:
    made = range(*bounds)
    if len(made) > _RANGE:
        raise RenderingFailed(f"a range has at most {_RANGE} numbers")
    return made


def _scalar(value: Any) -> Any:
    """A value within a list or an object that the template writes: nested ones could be multiplied without end."""
    if value is None or isinstance(value, (str, int, float, Undefined)):
        return value
    raise RenderingFailed("a list or an object that is written here holds texts and numbers only")


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, (str, int, float, Undefined)):
        return str.__str__(value) if isinstance(value, str) else str(value)
    raise RenderingFailed("a list or an object can't be written as it is: use `| join(', ')` or `| tojson`")


def _said(value: Any, origin: Origin) -> Piece:
    gauge.get().step()
    return piece(_text(value), origin)


def _each(values: Iterable[Any]) -> Iterator[Any]:
    step = gauge.get().step
    for value in values:
        step()
        yield value


def _joined(values: Iterable[Any], separator: str = "", attribute: str | None = None) -> str:
    parts: list[str] = []
    length = 0
    for value in values:
        part = _text(value[attribute] if attribute is not None else value)
        length += len(part) + len(separator)
        if length > MOST_CHARACTERS:
            raise RenderingFailed("what it joins grows too large")
        parts.append(part)
    return str(separator).join(parts)


def _replaced(text: str, old: str, new: str) -> str:
    text, old, new = _text(text), _text(old), _text(new)
    if len(text) + text.count(old) * len(new) > MOST_CHARACTERS:
        raise RenderingFailed("what it replaces grows too large")
    return text.replace(old, new)


def _indented(text: str, width: int = 4, first: bool = False) -> str:
    before = " " * min(max(int(width), 0), _WIDEST)
    lines = _text(text).splitlines()
    if len(text) + len(lines) * len(before) > MOST_CHARACTERS:
        raise RenderingFailed("what it indents grows too large")
    return "\n".join(before + line if line and (first or order) else line for order, line in enumerate(lines))


def _json(value: Any, indent: int | None = None) -> str:
    """As JSON, with any script's letters as they are."""
    parts: list[str] = []
    length = 0
    shift = min(max(int(indent), 0), 8) if indent is not None else None
    for part in json.JSONEncoder(ensure_ascii=False, indent=shift).iterencode(value):
        length += len(part)
        if length > MOST_CHARACTERS:
            raise RenderingFailed("what it writes as JSON grows too large")
        parts.append(part)
    return "".join(parts)


def _rounded(value: float, precision: int = 0, method: Any = "common") -> Any:
    if not -_DIGITS <= precision <= _DIGITS:
        raise RenderingFailed(f"it rounds to {_DIGITS} digits at most")
    return JINJA_FILTERS["round"](value, precision, method)


def _summed(values: Iterable[Any], attribute: str | None = None, start: float = 0) -> Any:
    for value in values:
        value = value[attribute] if attribute is not None else value
        if not isinstance(value, (int, float)) or not isinstance(start, (int, float)):
            raise RenderingFailed("it sums up numbers only")
        start = start + value
    return start


_BOUNDED: dict[str, Callable[..., Any]] = {
    "indent": _indented, "join": _joined, "replace": _replaced, "round": _rounded, "sum": _summed, "tojson": _json,
}  # fmt: skip
FILTERS = _PLAIN | _BOUNDED.keys()
"""Those that a template may name."""


def environment() -> Sandbox:
    made = Sandbox(undefined=jinja2.StrictUndefined, autoescape=False, keep_trailing_newline=False)
    given: dict[str, Callable[..., Any]] = {name: JINJA_FILTERS[name] for name in _PLAIN}
    given |= _BOUNDED
    given |= {JOINED: _joined, MADE: lambda value: value}
    made.filters = {name: _counted(work) for name, work in given.items()}
    made.filters |= {SAID: _said, EACH: _each, SCALAR: _scalar}
    made.tests = {name: _counted(cast("Callable[..., Any]", work)) for name, work in JINJA_TESTS.items()}
    made.globals = {"range": _bounded_range}
    return made
