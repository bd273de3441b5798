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
"""Characters after which a run is given out before it ends, so that what is held back stays bounded."""

_SPACE = re.compile(r"\s+")
_WORD = re.compile(r"\S+")
_DIGIT = re.compile(r"\d")
_MARKER = re.compile(r"-----(?:BEGIN|END)[A-Z0-9 ]{0,40}\Z")
_MOST_SPACE = 2  # white space that may stand inside a number written in groups


@dataclass(frozen=True, slots=True)
class Run:
    """`start` counts characters of the whole text. One that is not `whole` goes on behind its last character."""

    start: int
    text: str
    whole: bool


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
        end, reached = self._extent(text, begin)
        if reached - begin > LONGEST:
            self._at = begin + LONGEST
            return Run(self._offset + begin, text[begin : begin + LONGEST], False)
        if end is None:
            return None
        self._at = end
        return Run(self._offset + begin, text[begin:end], True)

    def give_back(self, count: int) -> None:
        """The last `count` characters of a run that was not whole belong to the next one too."""
        self._at -= count

    def _extent(self, text: str, begin: int) -> tuple[int | None, int]:
        """Where the run that begins at `begin` ends, None while unknown; and how far it surely reaches."""
        end = begin
        while True:
            word = _WORD.match(text, end)
            if word is None:
                return None, end
            if word.end() == len(text) and not self._ended:
                return None, word.end()
            end = word.end()
            if end == len(text) or end - begin > LONGEST:
                return end, end
            marker = _MARKER.search(text, max(begin, end - 60), end) is not None
            if not marker and not _DIGIT.search(word[0]):
                return end, end
            space = _SPACE.match(text, end)
            if space is None or len(space[0]) > _MOST_SPACE:
                return end, end
            following = _WORD.match(text, space.end())
            if following is None:
                return (end if self._ended else None), end
            # The beginning of a long word decides, so that the decision never waits for its end.
            if not marker and not _DIGIT.search(following[0][:LONGEST]):
                certain = self._ended or following.end() < len(text) or len(following[0]) >= LONGEST
                return (end if certain else None), end
            end = space.end()
