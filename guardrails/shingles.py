"""Which stretches of one text stand in another: by the hashes of all its runs of so many letters and digits.

Only letters and digits count, folded (`guardrails.folding`), so spaces, marks, capitals and disguises make no
difference. All in arrays: a megabyte takes tens of milliseconds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from guardrails.folding import Codes, Folded, Places, codes_of, fold, word_kinds

LENGTH = 24
"""Letters and digits of one run: about five words of English."""

Hashes = npt.NDArray[np.uint64]

_BASE = np.uint64(0x9E3779B97F4A7C15)  # odd, so that no character is lost to the overflow
_TABLE_BITS = 20


@dataclass(frozen=True, slots=True)
class Letters:
    """The letters and digits of a text, and where in it each stood."""

    codes: Codes
    places: Places

    def __len__(self) -> int:
        return len(self.codes)


def letters(text: str) -> Letters:
    view: Folded = fold(text, lower=True)
    codes = codes_of(view.text)
    kept = word_kinds()[codes] > 0
    return Letters(codes[kept], view.places[:-1][kept])


def hashes(codes: Codes) -> Hashes:
    """One for each run of LENGTH characters, in order; none where there are fewer."""
    count = len(codes) - LENGTH + 1
    if count < 1:
        return np.zeros(0, dtype=np.uint64)
    wide = codes.astype(np.uint64)
    mixed = np.zeros(count, dtype=np.uint64)
    for at in range(LENGTH):
        mixed *= _BASE
        mixed += wide[at : at + count]
    return mixed ^ (mixed >> np.uint64(29))


class Shingles:
    """A set of hashes that many others are looked up in."""

    def __init__(self, members: Hashes) -> None:
        self._members = np.unique(members)
        self._table = np.zeros(1 << _TABLE_BITS, dtype=np.bool_)
        self._table[self._members >> np.uint64(64 - _TABLE_BITS)] = True

    def __len__(self) -> int:
        return len(self._members)

    def without(self, others: Hashes) -> Shingles:
        return Shingles(np.setdiff1d(self._members, others)) if len(others) else self

    def holds(self, asked: Hashes) -> npt.NDArray[np.bool_]:
        """For each whether it is in the set."""
        maybe: npt.NDArray[np.bool_] = self._table[asked >> np.uint64(64 - _TABLE_BITS)]
        where = np.flatnonzero(maybe)
        if len(where):
            found = np.searchsorted(self._members, asked[where])
            found[found == len(self._members)] = 0
            maybe[where] = self._members[found] == asked[where]
        return maybe


def stretches(held: npt.NDArray[np.bool_], gap: int = LENGTH) -> list[tuple[int, int, int]]:
    """Where runs that are held cover the text, as (first character, end, characters covered).

    Stretches with at most `gap` characters between them are one.
    """
    starts = np.flatnonzero(held)
    if not len(starts):
        return []
    breaks = np.flatnonzero(np.diff(starts) > LENGTH + gap)
    firsts = np.concatenate(([0], breaks + 1))
    lasts = np.concatenate((breaks, [len(starts) - 1]))
    covered = np.concatenate(([0], np.cumsum(np.minimum(np.diff(starts), LENGTH))))
    return [
        (int(starts[first]), int(starts[last]) + LENGTH, int(covered[last] - covered[first]) + LENGTH)
        for first, last in zip(firsts.tolist(), lasts.tolist(), strict=True)
    ]


def rot13(codes: Codes) -> Codes:
    """Each Latin letter in lower case as the one that is 13 further, all else as it is."""
    latin = (codes >= 97) & (codes <= 122)
    return np.where(latin, (codes - 97 + 13) % 26 + 97, codes).astype(np.uint32)
