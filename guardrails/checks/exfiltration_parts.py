"""Where a text may be cut so that no link, picture, tag or address, and no use of one, is cut in two.

Before a word, up to the first one with a sign of any of them; from there before an empty line, unless an address may go
on behind it. Every part but the first begins with white space, so no word is cut. Where a part begins and ends depends
on the text alone.
"""

from __future__ import annotations

import functools
import re

import re2

from guardrails.folding import encodable
from guardrails.rendering import hidden_class

Part = tuple[int, str]
"""Where it begins in the whole text, and the text of it."""

_SPACE = " \t\r\n"  # at which prose may be parted
_LONGEST_SIGN = 7
_EMPTY_LINE = re.compile(r"\n[ \t\r>]*\n[ \t\r\n>]*")
# What a browser, or our pattern, would look for beyond an empty line: an address that has begun, with white space in it.
_OPEN = re2.compile(r"(?i)(?:=|url\(|@import)\s*[\"']?\s*[^ \f\"'<>]*\z|\][(:]\s*\z")
_CLOSED = re.compile(r"[ \f\"'<>]")
_OPEN_WITHIN = 2_000  # characters before an empty line that are looked at; what has no end within them is open


class Parts:
    """The parts of a text that comes in pieces. `begin` is where the one begins that has not ended."""

    def __init__(self) -> None:
        self.begin = 0
        self._pieces: list[str] = []  # that have come since something could be cut
        self._tail = ""  # of what has come, enough to see a sign or an empty line that is cut in two
        self._text = ""  # from `begin` on
        self._looked = 0  # in `_text`, no sign, or no end of the part, begins before
        self._signed = False  # a part with a sign has begun
        self._ending = False  # there is an empty line, and what follows it decides

    def feed(self, text: str) -> list[Part]:
        """Those that have ended now. Prose without a sign is no part."""
        self._pieces.append(text)
        probe = self._tail + text
        if self._signed:
            worth = self._ending or ("\n" in text and _EMPTY_LINE.search(probe) is not None)
            line = probe.rstrip(" \t\r>")
            self._tail = "\n" if line.endswith("\n") else ""
        else:
            worth = any(space in text for space in _SPACE) or _sign().search(probe) is not None
            self._tail = probe[-_LONGEST_SIGN:]
        return self._ended(last=False) if worth else []

    def finish(self) -> list[Part]:
        """The last one, once no more text will come."""
        return self._ended(last=True)

    def _ended(self, *, last: bool) -> list[Part]:
        text = self._text + "".join(self._pieces)
        self._pieces = []
        told: list[Part] = []
        begin = 0
        while True:
            if not self._signed:
                sign = _sign().search(text, self._looked)
                if sign is None:
                    begin = len(text) if last else _before_word(text, len(text), begin)
                    self._looked = max(begin, len(text) - _LONGEST_SIGN)
                    break
                cut = _before_word(text, sign.start() + 1, begin)
                if text[sign.start()] == "=" and not text[cut : sign.start()].strip(_SPACE):
                    cut = _before_word(text, cut, begin)  # the name of an attribute stands before it
                begin, self._signed, self._looked = cut, True, sign.end()
            end = self._end(text, begin, last=last)
            if end is None:
                break
            told.append((self.begin + begin, text[begin:end]))
            begin, self._signed, self._looked = end, False, end
            if last and end == len(text):
                break
        self._text = text[begin:]
        self.begin += begin
        self._looked -= begin
        if self._signed:
            self._tail = "\n" if self._text.rstrip(" \t\r>").endswith("\n") else ""
        else:
            self._tail = self._text[-_LONGEST_SIGN:]
        return told

    def _end(self, text: str, begin: int, *, last: bool) -> int | None:
        """Where the part ends that begins there: before an empty line, unless an address may go on behind it."""
        self._ending = False
        for line in _EMPTY_LINE.finditer(text, self._looked):
            if line.end() == len(text):
                self._ending = not last
                break
            before = text[max(begin, line.start() - _OPEN_WITHIN) : line.start()]
            if text[line.end()] != "=" and not _is_open(before):
                return line.start()
            self._looked = line.end()
        if last:
            return len(text)
        self._looked = max(self._looked, len(text.rstrip(" \t\r\n>")))
        return None


def _is_open(before: str) -> bool:
    """Whether an address that has begun in what stands before an empty line may go on behind it."""
    if _OPEN.search(encodable(before)) is not None:
        return True
    return len(before) == _OPEN_WITHIN and _CLOSED.search(before) is None


def _before_word(text: str, at: int, least: int) -> int:
    """Where the white space begins that stands before the last word of `text[:at]`."""
    word = max(text.rfind(space, least, len(text[least:at].rstrip(_SPACE)) + least) for space in _SPACE)
    return least if word < 0 else least + len(text[least:word].rstrip(_SPACE))


def prepare() -> None:
    """Make what takes time to make: before a call, not within it."""
    _sign()


@functools.cache
def _sign() -> re.Pattern[str]:
    """What begins a part that is judged: a word without it holds no link, picture, tag or address.

    A character that shows nothing may stand between those of a sign.
    """
    return re.compile(rf"\]\(|\]:|!\[|[<=&\\]|//|url\(|www\.|@import|[{hidden_class()}]", re.IGNORECASE)
