"""Lists of words, phrases and patterns that an operator names, found by RE2 in time linear in the text.

What is written to slip past a list is found too: other widths and ligatures, accents, capitals, invisible characters
and letters of other scripts that look like Latin ones (`guardrails.folding`); positions are those of the text as it
came. https://github.com/google/re2/wiki/Syntax
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import re2

from guardrails.folding import Folded, codes_of, fold, tables, text_of, word_kinds
from guardrails.text_checks import Context, Cost
from guardrails.verdicts import Action, Finding

_RULES = 1  # counts up when the same text may be judged otherwise
_MOST = 4_000  # findings of one list in one text; the last reaches to its end
_EDGE = "\x01"  # stands where a word begins or ends; folding leaves no such character
_KIND = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_SPACES = re.compile(r"\s+")
_VIEWS = (False, True)  # without and with lookalikes: Greek and Russian words, and Latin ones in their letters


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
        self._lists = [_Compiled(each) for each in lists]
        told = repr(
            [(each.kind, *each.words, 0, *each.patterns, each.whole_words, each.case_sensitive) for each in lists]
        )
        self.version = f"{_RULES} {hashlib.sha256(told.encode()).hexdigest()[:16]}"
        for view in _VIEWS:
            tables(False, view), tables(True, view), word_kinds()  # made now, not within a call

    async def judge(self, texts: Sequence[str], context: Context) -> list[tuple[Finding, ...]]:
        return [self._find(text) for text in texts]

    def _find(self, text: str) -> tuple[Finding, ...]:
        views = _Views(text)
        found: set[Finding] = set()
        for each in self._lists:
            for count, (start, end) in enumerate(each.spans(views)):
                found.add(Finding(each.kind, start, end if count < _MOST else len(text), 1.0))
                if count == _MOST:
                    break
        return tuple(sorted(found, key=lambda finding: (finding.start, -finding.end, finding.kind)))


class _Compiled:
    def __init__(self, given: WordList) -> None:
        if not _KIND.fullmatch(given.kind):
            raise ValueError(f"`{given.kind}` can't be a kind: letters, digits, `_`, `.` and `-`, at most 64")
        if not given.words and not given.patterns:
            raise ValueError(f"the list `{given.kind}` has neither `words` nor `patterns`")
        self.kind = given.kind
        self._lower = not given.case_sensitive
        self._words = [(view, _words(given, view)) for view in _VIEWS] if given.words else []
        self._patterns = [_pattern(given, pattern) for pattern in given.patterns]

    def spans(self, views: _Views) -> Iterator[tuple[int, int]]:
        for lookalikes, words in self._words:
            if lookalikes and not views.has_lookalikes:
                continue
            view = views.edged(self._lower, lookalikes)
            for match in words.finditer(view.text):
                yield _span(view, *match.span())
        for pattern in self._patterns:
            for view in views.plain():
                for match in pattern.finditer(view.text):
                    if match.end() > match.start():
                        yield view.span(*match.span())


class _Views:
    """One text in the ways that the lists read it, each made once and only if asked."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._ascii = text.isascii()
        self._made: dict[tuple[bool, bool], Folded] = {}
        self._plain: list[Folded] = []

    @property
    def has_lookalikes(self) -> bool:
        return not self._ascii

    def edged(self, lower: bool, lookalikes: bool) -> Folded:
        key = (lower, lookalikes)
        if key not in self._made:
            self._made[key] = _edged(fold(self._text, lower=lower, lookalikes=lookalikes))
        return self._made[key]

    def plain(self) -> list[Folded]:
        """The text as it came, and folded where that differs: a pattern may ask for what folding takes away."""
        if not self._plain:
            raw = text_of(codes_of(self._text))
            self._plain = [Folded(raw, np.arange(len(raw) + 1, dtype=np.int64))]
            for lookalikes in () if self._ascii else _VIEWS:
                folded = fold(self._text, lookalikes=lookalikes)
                if folded.text != self._plain[-1].text:
                    self._plain.append(folded)
        return self._plain


def _words(given: WordList, lookalikes: bool) -> Any:
    """All words of a list as one pattern, which prefers the longest."""
    told = []
    for word in given.words:
        folded = fold(_SPACES.sub(" ", word.strip()), lower=not given.case_sensitive, lookalikes=lookalikes)
        if not folded.text:
            raise ValueError(f"the list `{given.kind}` has a word without any visible character")
        edged = _edged(folded).text
        if not given.whole_words or not _ends_in_word(folded.text[0]):
            edged = edged.removeprefix(_EDGE)
        if not given.whole_words or not _ends_in_word(folded.text[-1]):
            edged = edged.removesuffix(_EDGE)
        told.append(r"\s+".join(re2.escape(part) for part in edged.split(" ")))
    options = re2.Options()
    options.longest_match = True
    options.max_mem = 64 << 20
    return _compiled(given.kind, "|".join(told), options)


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


def _edged(folded: Folded) -> Folded:
    """The same with a mark wherever a word begins or ends, so that a pattern can ask for the edges of whole words."""
    codes = codes_of(folded.text)
    edges = np.flatnonzero(np.diff(word_kinds()[codes], prepend=np.int8(0), append=np.int8(0)))
    codes = np.insert(codes, edges, ord(_EDGE))
    places = np.insert(folded.places, edges, folded.places[edges])
    return Folded(text_of(codes), places)


def _span(view: Folded, start: int, end: int) -> tuple[int, int]:
    """Where a match stands in the original, without the marks at its ends."""
    start += view.text.startswith(_EDGE, start)
    end -= view.text.startswith(_EDGE, end - 1)
    return view.span(start, end)
