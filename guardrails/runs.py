"""A text, cut into runs: the pieces that no match of a check ever crosses.

A run is a word, or several in a row where a number may be written in groups ("4111 1111 1111 1111") or the
head of a key stands ("-----BEGIN RSA PRIVATE KEY-----"). Where a run ends is decided by the text alone, never by
how it arrived, so a stream cut anywhere has the same runs as the whole text; and ordinary prose is held back by no
more than the word that is being written, or two after a number.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

LONGEST = 2048
"""Characters after which a word is given out before it ends, so that what is held back stays bounded."""

_OVERLAP = 512  # of a word that goes on, what is looked at again with what follows
_GROUPS = 200  # characters behind its first word after which words that follow in a row are given out
_GROUPS_OVERLAP = 80  # of those, what is looked at again: longer than any number in groups, or a key's head
_GROUP = 40  # the beginning of a word that decides whether it is a group of a number

_SPACE = re.compile(r"\s+")
_WORD = re.compile(r"\S+")
_DIGIT = re.compile(r"\d")
_LETTERS = re.compile(r"[A-Z]{4}\Z")  # the bank in "GB29 NWBK 6016 1331 9268 19"
_MARKER = re.compile(r"-----(?:BEGIN|END)[A-Z0-9 ]{0,40}\Z")
_MOST_SPACE = 2  # white space that may stand inside a number written in groups


@dataclass(frozen=True, slots=True)
class Run:
    """`start` counts characters of the whole text.

    The last `overlap` characters of one that goes on can't be judged without what follows; 0 where it is whole.
    """

    start: int
    text: str
    overlap: int

    @property
    def whole(self) -> bool:
        return self.overlap == 0


class Runs:
    __slots__ = ("_at", "_ended", "_offset", "_text")

    def __init__(self) -> None:
        self._text = ""
        self._at = 0  # what of `_text` has been taken
        self._offset = 0  # where `_text` begins in the whole text
        self._ended = False

    def feed(self, text: str) -> None:
        self._offset += self._at
        self._text = self._text[self._at :] + text
        self._at = 0

    def end(self) -> None:
        """No more text will come: what is left is certain."""
        self._ended = True

    def space(self) -> str:
        """The white space at hand; no run contains its first character, so it can leave at once."""
        found = _SPACE.match(self._text, self._at)
        if found is None:
            return ""
        self._at = found.end()
        return found[0]

    def take(self) -> Run | None:
        """The next run, once it is certain. White space before it must have been taken."""
        text, begin = self._text, self._at
        word = _WORD.match(text, begin, begin + LONGEST + 1)
        if word is None:
            return None
        end = word.end()
        if end - begin > LONGEST:
            return self._give(begin + LONGEST, _OVERLAP)
        if end == len(text) and not self._ended:
            return None
        limit = end + _GROUPS
        joined: int | None = end
        while joined is not None:
            end = joined
            if end > limit:
                return self._give(limit, _GROUPS_OVERLAP)
            joined = self._joined(begin, end, limit)
            if joined == end:
                return self._give(end, 0)
        return None

    def give_back(self, count: int) -> None:
        """The last `count` characters of the run belong to the next one."""
        self._at -= count

    def _give(self, end: int, overlap: int) -> Run:
        begin, self._at = self._at, end
        return Run(self._offset + begin, self._text[begin:end], overlap)

    def _joined(self, begin: int, end: int, limit: int) -> int | None:
        """Where the word ends that belongs to the run so far; `end` where none does, None while unknown."""
        text = self._text
        marker = _MARKER.search(text, max(begin, end - 60), end) is not None
        if not marker and not _ends_in_group(text, begin, end):
            return end
        space = _SPACE.match(text, end, end + _MOST_SPACE + 1)
        if space is not None and len(space[0]) > _MOST_SPACE:
            return end
        following = _WORD.match(text, space.end(), max(limit, space.end() + _GROUP) + 1) if space else None
        if following is None:
            return end if self._ended else None
        complete = self._ended or following.end() < len(text)
        # The beginning of a long word decides, so that the decision never waits for its end.
        if marker or _DIGIT.search(following[0][:_GROUP]):
            return following.end() if complete or following.end() > limit else None
        if len(following[0]) >= _GROUP:
            return end
        if not complete:
            return None
        return following.end() if _LETTERS.match(following[0]) else end


def _ends_in_group(text: str, begin: int, end: int) -> bool:
    """Whether the last word of what has been joined may be a group of a number."""
    word = text[max(begin, end - LONGEST) : end].rsplit(maxsplit=1)[-1]
    return _DIGIT.search(word) is not None or (_LETTERS.match(word) is not None and len(word) < end - begin)
