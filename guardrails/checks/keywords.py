"""Lists of words, phrases and patterns that an operator names, found by RE2 in time linear in the text.

What is written to slip past a list is found too: other widths and ligatures, accents, capitals, invisible characters
and letters of other scripts that look like Latin ones (`guardrails.folding`); positions are those of the text as it
came. https://github.com/google/re2/wiki/Syntax

A text is read as it comes. What no match can begin in any more is certain: for words, and for patterns whose matches
have a longest, that many characters behind it; for others its word or line (`guardrails.reach`).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import re2

from guardrails.folding import codes_of, fold, tables, text_of, word_kinds
from guardrails.reach import reach
from guardrails.readings import PLAIN, Reading
from guardrails.text_checks import Context, Cost, Flow, Horizon
from guardrails.verdicts import Action, Finding

_RULES = 2  # counts up when the same text may be judged otherwise
_MOST = 4_000  # findings of one text; the last reaches to its end
_EDGE = "\x01"  # stands where a word begins or ends; folding leaves no such character
_KIND = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_SPACES = re.compile(r"\s+")
_VIEWS = (False, True)  # without and with lookalikes: Greek and Russian words, and Latin ones in their letters
_BOUNDS: dict[Horizon, str] = {"word": " \t\n\r", "line": "\n", "whole": ""}  # what shows that more is certain


@dataclass(frozen=True, slots=True)
class WordList:
    """What is looked for under one `kind`: `words` (phrases too; any white space stands for any), `patterns` (RE2)."""

    kind: str
    words: Sequence[str] = ()
    patterns: Sequence[str] = ()
    whole_words: bool = True
    case_sensitive: bool = False


class Keywords:
    name = "keywords"
    default_action: Action = "block"
    cost: Cost = "cheap"

    def __init__(self, lists: Sequence[WordList]) -> None:
        """Raises ValueError for a list without entries, a word without characters, a pattern that RE2 can't run."""
        if not lists:
            raise ValueError("`keywords` needs at least one list")
        self._sought = [sought for each in lists for sought in _compiled_list(each)]
        told = repr(
            [(each.kind, *each.words, 0, *each.patterns, each.whole_words, each.case_sensitive) for each in lists]
        )
        self.version = f"{_RULES} {hashlib.sha256(told.encode()).hexdigest()[:16]}"
        for view in _VIEWS:
            tables(False, view), tables(True, view), word_kinds()  # made now, not within a call

    async def judge(self, texts: Sequence[str], context: Context) -> list[tuple[Finding, ...]]:
        return [self._find(text) for text in texts]

    def horizon(self, action: Action) -> Horizon:
        return _widest(self._sought)

    def flow(self, context: Context) -> Flow:
        return self._flow()

    def _flow(self, most: int | None = None) -> _Flow:
        return _Flow(self._sought, _BOUNDS.get(_widest(self._sought)), most)

    def _find(self, text: str) -> tuple[Finding, ...]:
        flow = self._flow(_MOST + 1)
        _, early = flow.feed(text)
        found = sorted({*early, *flow.finish()}, key=lambda each: (each.start, -each.end, each.kind))
        if len(found) > _MOST:
            rest = found[_MOST]
            found[_MOST:] = [Finding(rest.kind, rest.start, len(text), rest.score)]
        return tuple(found)


@dataclass(frozen=True, slots=True)
class _Sought:
    """One pattern, and the reading of a text that it is looked for in. `rough`: of words, what finds them all without
    a look at where words begin and end; None for an operator's own pattern."""

    kind: str
    pattern: Any
    horizon: Horizon
    rough: Any = None
    lower: bool = False
    lookalikes: bool = False
    folded: bool = False

    @property
    def plain(self) -> tuple[bool, bool]:
        """Which reading of a text of plain characters is this one's too."""
        return self.rough is not None, self.lower


class _Search:
    """One pattern on its way through a reading; `at` is where it is not certain yet what begins."""

    __slots__ = ("at", "reading", "sought")

    def __init__(self, sought: _Sought, reading: Reading) -> None:
        self.sought = sought
        self.reading = reading
        self.at = max(self.needs(), 0)

    def needs(self) -> int:
        """From where on a match may begin that reaches beyond what has come."""
        reading, horizon = self.reading, self.sought.horizon
        if isinstance(horizon, int):
            return max(reading.end - horizon, 0)
        if horizon == "whole":
            return 0
        bounds = [reading.text.rfind(bound) for bound in _BOUNDS[horizon]]
        return reading.start + max(bounds) + 1 if max(bounds) >= 0 else 0

    def advance(self, *, ended: bool) -> Iterator[tuple[int, int]]:
        """The matches that are certain now, by their places in the reading."""
        limit = self.reading.end + 1 if ended else self.needs()
        if limit <= self.at:
            return
        for start, end in self._matches(self.at, limit):
            if start >= limit:
                break
            self.at = end
            yield start, end
        self.at = max(self.at, limit)

    def _matches(self, begin: int, limit: int) -> Iterator[tuple[int, int]]:
        reading, sought = self.reading, self.sought
        begin -= reading.start
        if sought.rough is None:
            for match in sought.pattern.finditer(reading.text, begin):
                if match.end() > match.start():
                    yield match.start() + reading.start, match.end() + reading.start
            return
        first = sought.rough.search(reading.text, begin)
        if first is None or first.start() + reading.start >= limit:
            return
        text, origins = _edged(reading.text)
        for match in sought.pattern.finditer(text, int(np.searchsorted(origins, begin))):
            start, end = match.span()
            start += text.startswith(_EDGE, start)
            end -= text.startswith(_EDGE, end - 1)
            yield int(origins[start]) + reading.start, int(origins[end - 1]) + 1 + reading.start


class _Flow:
    def __init__(self, sought: Sequence[_Sought], bounds: str | None, most: int | None) -> None:
        """`bounds`: nothing is certain up to one of these characters; None where each one makes something certain.
        `most`: findings of each pattern after which it is not looked for any more."""
        self._bounds = bounds
        self._most = most
        self._waiting: list[str] = []
        self._certain = 0
        self._later = [each for each in sought if each.folded]
        self._readings: dict[tuple[bool, bool, bool, bool], Reading] = {}
        self._searches: list[_Search] = []
        self._told = 0
        self._original = ""  # what is needed of the text as it came, up to `_told`
        for each in sought:
            if not each.folded:
                words, lower = each.plain
                key = (words, lower, words, False)
                reading = self._readings.setdefault(key, Reading(words, lower, joined=words))
                self._searches.append(_Search(each, reading))

    def feed(self, text: str) -> tuple[int, list[Finding]]:
        if self._bounds is not None:
            self._waiting.append(text)
            if not any(bound in text for bound in self._bounds):
                return self._certain, []
            text = "".join(self._waiting)
            self._waiting = []
        self._read(text)
        found = self._advance(ended=False)
        needed: dict[int, int] = {}
        for search in self._searches:
            key = id(search.reading)
            needed[key] = min(needed.get(key, search.at), search.at, search.needs())
        for reading in self._readings.values():
            reading.forget(needed[id(reading)])
        # Readings that begin later may find what begins within what is found already.
        self._certain = min(
            each.reading.place(min(each.at, each.needs()) if self._later else each.at) for each in self._searches
        )
        spare = len(self._original) - (self._told - self._certain) - 1
        if spare > 0:
            self._original = self._original[spare:]
        return self._certain, found

    def finish(self) -> list[Finding]:
        self._read("".join(self._waiting))
        return self._advance(ended=True)

    def _read(self, text: str) -> None:
        if self._later and not PLAIN.fullmatch(text):
            plain = PLAIN.match(text)
            begin = plain.end() if plain is not None else 0
            self._take(text[:begin])
            self._read_otherwise()
            self._take(text[begin:])
        else:
            self._take(text)

    def _take(self, text: str) -> None:
        self._told += len(text)
        self._original += text
        for reading in self._readings.values():
            reading.feed(text)

    def _read_otherwise(self) -> None:
        """The first character is coming that readings differ about: up to here they were the same."""
        for each in self._later:
            words, lower = each.plain
            key = (words, lower, True, each.lookalikes)
            if key not in self._readings:
                same = self._readings[words, lower, words, False]
                self._readings[key] = same.also(folded=True, lookalikes=each.lookalikes)
            self._searches.append(_Search(each, self._readings[key]))
        self._later = []

    def _advance(self, *, ended: bool) -> list[Finding]:
        found = []
        for search in self._searches:
            for start, end in islice(search.advance(ended=ended), self._most):
                begin, stop = search.reading.span(start, end)
                if not search.sought.folded or self._differs(begin, stop):
                    found.append(Finding(search.sought.kind, begin, stop, 1.0))
        return found

    def _differs(self, begin: int, stop: int) -> bool:
        """Whether the folded reading says something here that the plain one does not."""
        offset = self._told - len(self._original)
        return not PLAIN.fullmatch(self._original[max(begin - 1 - offset, 0) : stop + 1 - offset])


def _widest(sought: Sequence[_Sought]) -> Horizon:
    waits: tuple[Horizon, ...] = ("whole", "line", "word")
    for waiting in waits:
        if any(each.horizon == waiting for each in sought):
            return waiting
    return max(each.horizon for each in sought if isinstance(each.horizon, int))


def _compiled_list(given: WordList) -> Iterator[_Sought]:
    if not _KIND.fullmatch(given.kind):
        raise ValueError(f"`{given.kind}` can't be a kind: letters, digits, `_`, `.` and `-`, at most 64")
    if not given.words and not given.patterns:
        raise ValueError(f"the list `{given.kind}` has neither `words` nor `patterns`")
    if given.words:
        made = [_words(given, view) for view in _VIEWS]
        longest = max(each[2] for each in made)
        for view, (pattern, rough, _) in zip(_VIEWS, made, strict=True):
            lower = not given.case_sensitive
            yield _Sought(given.kind, pattern, longest, rough, lower, lookalikes=view, folded=view)
    for each in given.patterns:
        compiled, horizon = _pattern(given, each), reach(each)
        yield _Sought(given.kind, compiled, horizon)
        for view in _VIEWS:
            yield _Sought(given.kind, compiled, horizon, lookalikes=view, folded=True)


def _words(given: WordList, lookalikes: bool) -> tuple[Any, Any, int]:
    """All words of a list as one pattern, which prefers the longest; the same without edges; the longest's length."""
    told, rough = [], []
    longest = 0
    for word in given.words:
        folded = fold(_SPACES.sub(" ", word.strip()), lower=not given.case_sensitive, lookalikes=lookalikes).text
        if not folded:
            raise ValueError(f"the list `{given.kind}` has a word without any visible character")
        edged, _ = _edged(folded)
        if not given.whole_words or not _ends_in_word(folded[0]):
            edged = edged.removeprefix(_EDGE)
        if not given.whole_words or not _ends_in_word(folded[-1]):
            edged = edged.removesuffix(_EDGE)
        told.append(r"\s".join(re2.escape(part) for part in edged.split(" ")))
        rough.append(r"\s".join(re2.escape(part) for part in folded.split(" ")))
        longest = max(longest, len(folded))
    options = re2.Options()
    options.longest_match = True
    options.max_mem = 64 << 20
    pattern = _compiled(given.kind, "|".join(told), options)
    options = re2.Options()
    options.never_capture = True
    options.max_mem = 64 << 20
    return pattern, _compiled(given.kind, "|".join(rough), options), longest


def _pattern(given: WordList, pattern: str) -> Any:
    options = re2.Options()
    options.case_sensitive = given.case_sensitive
    options.max_mem = 64 << 20
    return _compiled(given.kind, pattern, options)


def _compiled(kind: str, pattern: str, options: Any) -> Any:
    options.log_errors = False
    try:
        return re2.compile(pattern, options)
    except re2.error as fault:
        told = fault.args[0].decode() if isinstance(fault.args[0], bytes) else fault
        raise ValueError(f"RE2 can't run a pattern of the list `{kind}`: {told}") from None


def _ends_in_word(character: str) -> bool:
    return int(word_kinds()[ord(character)]) == 1


def _edged(text: str) -> tuple[str, np.ndarray[tuple[int], np.dtype[np.int64]]]:
    """The same with a mark wherever a word begins or ends, so that a pattern can ask for the edges of whole words; and
    which character of `text` each one is, a mark being of the one behind it."""
    codes = codes_of(text)
    edges = np.flatnonzero(np.diff(word_kinds()[codes], prepend=np.int8(0), append=np.int8(0)))
    origins = np.insert(np.arange(len(codes), dtype=np.int64), edges, edges)
    return text_of(np.insert(codes, edges, ord(_EDGE))), origins
