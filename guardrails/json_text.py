"""Texts inside JSON, and masks there: what is replaced in a JSON text leaves JSON behind, however the text was cut.

Inside a string a mask never cuts an escape in two; outside of strings, where a number stands, it becomes a string of
its own. Punctuation, `true`, `false` and `null` stay.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

Span = tuple[int, int, str]
"""Characters from, to, and what takes their place."""

_INSIDE = re.compile(r'(?:[^"\\]|\\.)*\\?', re.DOTALL)
_OUTSIDE = re.compile(r'"|[^\s{}\[\],:"]+')
_ESCAPE = re.compile(r"\\u[0-9A-Fa-f]{0,4}|\\.", re.DOTALL)
_UNFINISHED = re.compile(r"\\(?:u[0-9A-Fa-f]{0,3})?\Z")
_WORDS = ("true", "false", "null")


def strings(text: str) -> list[str] | None:
    """Every string of a whole JSON text, keys too, as it reads without escapes; None where it is no JSON."""
    try:
        return list(_strings(json.loads(text)))
    except (ValueError, RecursionError):
        return None


def with_strings(text: str, told: list[str]) -> str:
    """A JSON text with others in the places of its `strings`."""
    return json.dumps(_rebuilt(json.loads(text), iter(told)), ensure_ascii=False)


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from _strings(item)


def _rebuilt(value: Any, told: Iterator[str]) -> Any:
    if isinstance(value, str):
        return next(told)
    if isinstance(value, list):
        return [_rebuilt(item, told) for item in value]
    if isinstance(value, dict):
        return {next(told): _rebuilt(item, told) for item in value.values()}
    return value


class Unescaped:
    """A JSON text in pieces, where printable ASCII stands for itself: `\\u0041` becomes `A`, which is the same JSON.

    So nothing is hidden by writing it in escapes. At most the beginning of one escape is held back.
    """

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held = ""

    def feed(self, text: str) -> str:
        if "\\" not in text and not self._held:
            return text
        text = self._held + text
        unfinished = _UNFINISHED.search(text)
        end = unfinished.start() if unfinished is not None and _is_escape(text, unfinished.start()) else len(text)
        self._held = text[end:]
        return _ESCAPE.sub(_as_itself, text[:end])

    def finish(self) -> str:
        held, self._held = self._held, ""
        return held


def _is_escape(text: str, at: int) -> bool:
    """Whether the backslash at `at` begins an escape, and is not the second one of another."""
    before = len(text[:at]) - len(text[:at].rstrip("\\"))
    return before % 2 == 0


def _as_itself(escape: re.Match[str]) -> str:
    if len(escape[0]) == 6:
        number = int(escape[0][2:], 16)
        if 0x20 <= number < 0x7F and number not in (0x22, 0x5C):
            return chr(number)
    return escape[0]


class JsonPlace:
    """Where one JSON text stands that comes in pieces: inside a string or not, and in the middle of an escape."""

    __slots__ = ("_inside", "_owed")

    def __init__(self) -> None:
        self._inside = False
        self._owed = 0  # characters that still belong to an escape; -1 while its first one is not known

    def fit(self, text: str, spans: list[Span]) -> list[Span]:
        """`spans` of the next piece, `text`, as they may be replaced in it."""
        if not spans and '"' not in text and "\\" not in text and not self._owed:
            return spans
        begin = self._rest_of_escape(text)
        fitted: list[Span] = []
        for start, stop, inside in self._lexemes(text, begin):
            for low, high, mask in spans:
                if low >= stop or high <= start:
                    continue
                if inside:
                    fitted.append((*_whole(text, start, max(low, start), min(high, stop), stop), mask))
                elif text[start:stop] not in _WORDS:
                    fitted.append((start, stop, f'"{mask}"'))
        return fitted

    def _rest_of_escape(self, text: str) -> int:
        """How many characters of `text` belong to an escape that the piece before began."""
        if self._owed < 0 and text:
            self._owed = 5 if text[0] == "u" else 1
        taken = min(self._owed, len(text)) if self._owed > 0 else 0
        self._owed -= taken
        return taken

    def _lexemes(self, text: str, at: int) -> Iterator[tuple[int, int, bool]]:
        """What may be replaced: the content of each string (True), and each word outside of them (False)."""
        while at < len(text):
            if self._inside:
                content = _INSIDE.match(text, at)
                assert content is not None  # it matches nothing at least
                if content.end() > at:
                    yield at, content.end(), True
                at = content.end()
                if at < len(text):
                    self._inside = False
                    at += 1
                else:
                    self._owed = _owed(text, content.start())
                continue
            word = _OUTSIDE.search(text, at)
            if word is None:
                return
            at = word.end()
            if word[0] == '"':
                self._inside = True
            else:
                yield word.start(), word.end(), False


def _owed(text: str, start: int) -> int:
    """What is missing of the escape that `text` ends with."""
    last = None
    for escape in _ESCAPE.finditer(text, start):
        last = escape
    end = last.end() if last is not None else start
    if last is not None and end == len(text) and last[0][1] == "u":
        return 6 - len(last[0])
    return -1 if end < len(text) and text.endswith("\\") else 0


def _whole(text: str, start: int, low: int, high: int, stop: int) -> tuple[int, int]:
    """`low` to `high` without a part of an escape: one at the beginning is kept, one at the end goes too."""
    for escape in _ESCAPE.finditer(text, start, stop):
        if escape.start() >= high:
            break
        if escape.start() < low < escape.end():
            low = escape.end() if escape.end() < high else escape.start()
        if escape.start() < high < escape.end():
            high = escape.end()
    return low, high
