"""Whether an answer gives away our own instructions: a long part of them, as they are or in a thin disguise.

Spaced out, with other capitals, marks or letters that look alike; backwards; in ROT13, base64 or hexadecimal. What
also stands in the passages or in the caller's words is no secret. A translation or a retelling is not found.
"""

from __future__ import annotations

import base64
import bisect
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, islice

import numpy as np
import re2

from guardrails.folding import Codes, encodable, tables
from guardrails.shingles import LENGTH, Hashes, Letters, Shingles, hashes, letters, rot13, stretches
from guardrails.text_checks import Context, Cost
from guardrails.verdicts import Action, Finding

_RULES = 1  # counts up when the same text may be judged otherwise
_BASE64 = re2.compile(r"[A-Za-z0-9+/_-]{20,}={0,2}(?:\s{1,8}[A-Za-z0-9+/_-]{20,}={0,2})*(?:\s{1,8}[A-Za-z0-9+/_-]{2,19}={0,2})?")  # fmt: skip
_HEX = re2.compile(r"(?:(?:\\x|0x|%)?[0-9A-Fa-f]{2}[\s:,-]{0,2}){24,}")
_HEX_MARKS = re.compile(r"\\x|0x|[^0-9A-Fa-f]")
_DISGUISES: dict[str, Callable[[Codes], Codes]] = {
    "verbatim": lambda codes: codes,
    "reversed": lambda codes: codes[::-1],
    "rot13": rot13,
}
_MOST = 1_000  # encoded pieces that are looked at


class LeakedInstructions:
    name = "leaked_instructions"
    default_action: Action = "block"
    cost: Cost = "cheap"

    def __init__(self, min_characters: int = 100) -> None:
        """`min_characters`: how many letters and digits in a row (small changes forgiven) are a long part.

        Of shorter instructions, four fifths are; what has fewer than 24 is not looked for. Raises ValueError for a
        number below 24, which other texts hold by chance.
        """
        if min_characters < LENGTH:
            raise ValueError(f"`min_characters` must be {LENGTH} at least: fewer stand in other texts by chance")
        self._least = min_characters
        self.version = f"{_RULES} {min_characters}"
        tables(True, True)  # made now, not within a call

    async def judge(self, texts: Sequence[str], context: Context) -> list[tuple[Finding, ...]]:
        """Kinds: `verbatim`, `reversed`, `rot13`, `encoded`. The score is the share of the instructions."""
        ours = letters(context.instructions)
        if len(ours) < LENGTH:
            return [() for _ in texts]
        public = [letters(text) for text in (*context.passages, context.question)]
        wanted = _Wanted(ours, public, self._least)
        return [wanted.find(text) for text in texts]


@dataclass(frozen=True, slots=True)
class _Piece:
    """An encoded piece of a text, and what it says."""

    start: int
    end: int
    says: str


class _Wanted:
    """The instructions in all the ways they are looked for, without what is public."""

    def __init__(self, ours: Letters, public: Sequence[Letters], least: int) -> None:
        self._length = len(ours)
        self._need = max(LENGTH, min(least, len(ours) * 4 // 5))
        self._secret = {
            kind: Shingles(hashes(disguise(ours.codes))).without(
                np.concatenate([hashes(disguise(each.codes)) for each in public])
            )
            for kind, disguise in _DISGUISES.items()
        }

    def find(self, text: str) -> tuple[Finding, ...]:
        given = letters(text)
        asked = hashes(given.codes)
        found: list[Finding] = []
        for kind, secret in self._secret.items():
            for first, end, covered in self._long(asked, secret):
                start, stop = int(given.places[first]), int(given.places[end - 1]) + 1
                found.append(Finding(kind, start, stop, self._share(covered)))
        for pieces in _encoded(encodable(text)):
            found += self._in_pieces(pieces)
        return tuple(sorted(found, key=lambda finding: (finding.start, -finding.end, finding.kind)))

    def _in_pieces(self, pieces: Sequence[_Piece]) -> Iterator[Finding]:
        """What the pieces say together: they may be parts of one."""
        told = letters("".join(piece.says for piece in pieces))
        ends = list(accumulate(len(piece.says) for piece in pieces))
        for first, end, covered in self._long(hashes(told.codes), self._secret["verbatim"]):
            begins = pieces[bisect.bisect_right(ends, int(told.places[first]))]
            stops = pieces[bisect.bisect_right(ends, int(told.places[end - 1]))]
            yield Finding("encoded", begins.start, stops.end, self._share(covered))

    def _long(self, asked: Hashes, secret: Shingles) -> list[tuple[int, int, int]]:
        return [each for each in stretches(secret.holds(asked)) if each[2] >= self._need]

    def _share(self, covered: int) -> float:
        return min(1.0, covered / self._length)


def _encoded(text: str) -> tuple[list[_Piece], list[_Piece]]:
    """What may be encoded, in hexadecimal and in base64; what could be the first is not taken for the second."""
    hexes = [_Piece(match.start(), match.end(), _of_hex(match[0])) for match in islice(_HEX.finditer(text), _MOST)]
    others = []
    for match in islice(_BASE64.finditer(text), _MOST):
        before = bisect.bisect_left(hexes, match.end(), key=lambda piece: piece.start) - 1
        if before < 0 or hexes[before].end <= match.start():
            others.append(_Piece(match.start(), match.end(), _of_base64(match[0])))
    return hexes, others


def _of_hex(piece: str) -> str:
    digits = _HEX_MARKS.sub("", piece)
    return bytes.fromhex(digits[: len(digits) // 2 * 2]).decode("utf-8", "ignore")


def _of_base64(piece: str) -> str:
    plain = "".join(piece.split()).replace("-", "+").replace("_", "/").rstrip("=")
    plain = plain[: len(plain) - (len(plain) % 4 == 1)]
    return base64.b64decode(plain + "=" * (-len(plain) % 4)).decode("utf-8", "ignore")
