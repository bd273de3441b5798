"""How far a match of a regular expression can reach: read from its RE2 syntax, on the side of caution.

https://github.com/google/re2/wiki/Syntax
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import re2

from guardrails.text_checks import Horizon

_LONGEST = 2_000  # characters beyond which a bound is no help: rather a word or a line is waited for
_QUANTIFIER = re.compile(r"(?:[*+?]|\{(\d+)(,?)(\d*)\})\??")
_GROUP = re.compile(r"\(\?(?:P?<\w+>|([a-zA-Z]*)(?:-[a-zA-Z]+)?([:)]))")
_ESCAPE = re.compile(r"\\(?:[pP](?:\{[^}]*\}|.)|x(?:\{[^}]*\}|..)|[0-7]{1,3}|.)", re.DOTALL)
_CLASS = re.compile(r"\[\^?\]?(?:\[:\^?\w+:\]|\\[pP]\{[^}]*\}|\\.|[^\]\\])*\]", re.DOTALL)
_OF_LINES = re.compile(r"\(\?[a-zA-Z]*m[a-zA-Z]*[):]")
_SPACES = " \t\n\r"


def reach(pattern: str) -> Horizon:
    """The characters of the longest match; `word` or `line` where there is no bound, but no match leaves one of them;
    `whole` where neither is certain. `pattern` is one that RE2 can run.
    """
    reader = _Reader(pattern)
    try:
        longest = reader.alternatives()
    except _Unknown:
        return "whole"
    if reader.at < len(pattern) or reader.asks_for_ends:
        return "whole"
    if longest <= _LONGEST:
        return int(longest)
    if not reader.spaces:
        return "word"
    return "whole" if "\n" in reader.spaces else "line"


class _Unknown(Exception):
    """Syntax that can't be measured."""


@dataclass(slots=True)
class _Reader:
    pattern: str
    at: int = 0
    asks_for_ends: bool = False  # where the text itself begins or ends decides
    dot: str = "."
    spaces: str = ""  # the white space that a match can hold

    def alternatives(self) -> float:
        longest = self._sequence()
        while self.pattern.startswith("|", self.at):
            self.at += 1
            longest = max(longest, self._sequence())
        return longest

    def _sequence(self) -> float:
        length = 0.0
        while self.at < len(self.pattern) and self.pattern[self.at] not in "|)":
            one = self._atom()
            while (times := _QUANTIFIER.match(self.pattern, self.at)) is not None:
                self.at = times.end()
                one *= _most(times) if one else 0
            length += one
        return length

    def _atom(self) -> float:
        pattern = self.pattern
        match pattern[self.at]:
            case "(":
                return self._group()
            case "[":
                found = _CLASS.match(pattern, self.at)
                if found is None:
                    raise _Unknown
                return self._one(found[0])
            case "\\":
                return self._escape()
            case "^" | "$":
                self.at += 1
                self.asks_for_ends |= _OF_LINES.match(pattern) is None
                return 0
            case ".":
                self.at += 1
                return self._holds(self.dot)
            case other:
                return self._one(other)

    def _group(self) -> float:
        given = _GROUP.match(self.pattern, self.at)
        if given is None:
            if self.pattern.startswith("(?", self.at):
                raise _Unknown
            self.at += 1
        else:
            self.at = given.end()
            if "s" in (given[1] or ""):
                self.dot = "(?s)."  # from here on, and maybe longer than it holds
            if given[2] == ")":
                return 0
        longest = self.alternatives()
        self.at += 1  # its parenthesis
        return longest

    def _escape(self) -> float:
        pattern = self.pattern
        if pattern.startswith("\\Q", self.at):
            end = pattern.find("\\E", self.at)
            end = len(pattern) if end < 0 else end
            quoted = pattern[self.at + 2 : end]
            self.at = min(end + 2, len(pattern))
            self.spaces += "".join(space for space in _SPACES if space in quoted)
            # A quantifier behind it is about its last character; the whole is more, never less.
            return len(quoted)
        found = _ESCAPE.match(pattern, self.at)
        if found is None or found[0] == "\\C":
            raise _Unknown
        if found[0] in ("\\b", "\\B"):
            self.at = found.end()
            return 0
        if found[0] in ("\\A", "\\z"):
            self.at = found.end()
            self.asks_for_ends = True
            return 0
        return self._one(found[0])

    def _one(self, atom: str) -> float:
        """What stands for one character."""
        self.at += len(atom)
        return self._holds(atom if len(atom) > 1 else re2.escape(atom))

    def _holds(self, atom: str) -> float:
        if any(space not in self.spaces for space in _SPACES):
            try:
                known = re2.compile(atom)
            except re2.error:
                raise _Unknown from None
            self.spaces += "".join(
                space for space in _SPACES if space not in self.spaces and known.fullmatch(space) is not None
            )
        return 1


def _most(times: re.Match[str]) -> float:
    if times[1] is None:
        return 1 if times[0].startswith("?") else math.inf
    if not times[2]:
        return int(times[1])
    return int(times[3]) if times[3] else math.inf
