"""A text that comes in pieces, as a list of words or a pattern reads it: folded or not, and where each character stood.

Folding is per character, so the pieces' readings one behind the other are the whole text's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import numpy as np

from guardrails.folding import Places, codes_of, fold, text_of

PLAIN = re.compile(r"[\t\n\r -~]*")
"""What every reading takes as it is, but for capitals and runs of white space."""

_SPACE = " \t\n\r"
_RUN_OF_SPACE = re.compile(r"[ \t\n\r]{2}")


@dataclass(slots=True)
class Reading:
    """`text` is the part that is still needed; it begins with character `start` of the whole reading.

    `joined`: of a run of white space, only the first character is read.
    """

    folded: bool
    lower: bool = False
    lookalikes: bool = False
    joined: bool = False
    text: str = ""
    start: int = 0
    told: int = 0  # characters of the original that have come
    _shift: int = 0  # what `start + i` lacks to the place of character i, while `_places` is None
    _places: Places | None = None

    @property
    def end(self) -> int:
        return self.start + len(self.text)

    def also(self, *, folded: bool, lookalikes: bool) -> Reading:
        """Another reading of the same text, of which only PLAIN characters have come so far."""
        places = None if self._places is None else self._places.copy()
        return replace(self, folded=folded, lookalikes=lookalikes, _places=places)

    def feed(self, piece: str) -> None:
        at = self.told
        self.told += len(piece)
        places: Places | None = None
        if not self.folded:
            new = piece if piece.isascii() else text_of(codes_of(piece))
        elif PLAIN.fullmatch(piece):
            new = piece.lower() if self.lower else piece
        else:
            made = fold(piece, lower=self.lower, lookalikes=self.lookalikes)
            new, places = made.text, made.places[:-1] + at
        if self.joined and new and (_RUN_OF_SPACE.search(new) or (new[0] in _SPACE and self._ends_in_space())):
            new, places = self._without_runs(new, places, at)
        if self._places is None and (places is not None or at != self._shift + self.end):
            if self.text or places is not None:
                self._places = np.arange(self.start, self.end, dtype=np.int64) + self._shift
            else:
                self._shift = at - self.end
        if self._places is not None:
            if places is None:
                places = np.arange(at, at + len(new), dtype=np.int64)
            self._places = np.concatenate((self._places, places))
        self.text += new

    def forget(self, until: int) -> None:
        """The characters before `until` are not needed any more, but for the last one, which is an edge for others."""
        count = until - 1 - self.start
        if count > 0:
            self.text = self.text[count:]
            self.start += count
            if self._places is not None:
                self._places = self._places[count:]

    def place(self, index: int) -> int:
        """Where in the original a character of the reading stood; what has come, for the one that follows the last."""
        if index >= self.end:
            return self.told
        return self._shift + index if self._places is None else int(self._places[index - self.start])

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Where these characters stood, with what was left out up to the next one."""
        return self.place(start), max(self.place(end), self.place(end - 1) + 1)

    def _ends_in_space(self) -> bool:
        return self.text.endswith(tuple(_SPACE))

    def _without_runs(self, new: str, places: Places | None, at: int) -> tuple[str, Places]:
        codes = codes_of(new)
        space = (codes == 32) | (codes == 9) | (codes == 10) | (codes == 13)
        kept = ~(space & np.concatenate(([self._ends_in_space()], space[:-1])))
        if places is None:
            places = np.arange(at, at + len(new), dtype=np.int64)
        return text_of(codes[kept]), places[kept]
