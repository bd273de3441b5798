"""Texts made comparable: what looks alike becomes alike, and every character still knows where it came from.

Folding is per character, so that positions stay known, and by tables, so that a megabyte takes tens of milliseconds:
compatibility decomposition (NFKD, Unicode Standard Annex 15) without accents, letters of other scripts that look like
Latin ones (a part of confusables.txt, Unicode Technical Standard 39), no invisible characters, and lower case where
asked. A pattern must be folded like the text it is looked for in.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Codes = npt.NDArray[np.uint32]
Places = npt.NDArray[np.int64]

_CODES = 0x110000
_LONGEST = 4  # characters that one may become: a ligature of eighteen is left alone, or a text would grow as much
_REPLACEMENT = 0xFFFD
_KEPT_CONTROLS = "\t\n\r"
_PLAIN = re.compile(r"[\t\n\r -~]*")  # which folding leaves as it is, but for capitals

# Letters that are drawn like a Latin one in common typefaces: UTS 39, confusables.txt, single letters only.
_LOOKALIKES = {
    "a": "аɑα⍺", "b": "Ьƅ", "c": "сϲⅽ", "d": "ԁɗ", "e": "еєҽ℮", "f": "ƒ", "g": "ɡցƍ", "h": "һհ",
    "i": "іıɩιɪ˛ӏ", "j": "јϳ", "k": "κк", "l": "ⅼ", "m": "ⅿм", "n": "ոռη", "o": "оοσօ", "p": "рρ", "q": "ԛգզ",
    "r": "гᴦ", "s": "ѕƽ", "t": "τт", "u": "υսʋ", "v": "νѵᴠ", "w": "ԝѡաɯ", "x": "хχ×", "y": "уγʏү", "z": "ᴢ",
    "A": "АΑᎪ", "B": "ВΒᏴ", "C": "СϹᏟ", "D": "Ꭰ", "E": "ЕΕᎬ", "F": "Ϝ", "G": "ԌᏀ", "H": "НΗᎻ", "I": "ІΙӀ",
    "J": "ЈᎫ", "K": "КΚᏦ", "L": "ᏞⅬ", "M": "МΜᎷ", "N": "Ν", "O": "ОΟՕ", "P": "РΡᏢ", "Q": "Ԛ", "R": "ᎡᏒ",
    "S": "ЅՏᏚ", "T": "ТΤᎢ", "U": "ՍՄ", "V": "ѴᏙ", "W": "ԜᎳ", "X": "ХΧ", "Y": "ҮΥ", "Z": "ΖᏃ",
    "-": "‐‑‒–—―−﹘", "'": "‘’‚‛′ʼ´", '"': "“”„‟″", "/": "⁄∕⧸", ".": "․。｡", ":": "։׃∶ː",
}  # fmt: skip
# Scripts that put no space between words, so that a word may begin and end anywhere: Thai, Lao, Tibetan, Myanmar,
# Khmer, kana, Han. https://www.unicode.org/Public/UCD/latest/ucd/Blocks.txt
_UNSPACED = (
    (0x0E00, 0x0EFF), (0x0F00, 0x0FFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x2E80, 0x2FDF), (0x3005, 0x3007),
    (0x3040, 0x30FF), (0x31F0, 0x31FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x323AF),
)  # fmt: skip
# Drawn as nothing, though Unicode has them as letters or symbols: Hangul fillers, the empty Braille cell.
_INVISIBLE = "\u115f\u1160\u3164\uffa0\u2800\u034f"


@dataclass(frozen=True, slots=True)
class Folded:
    """`places[i]` is where the i-th character of `text` came from; one more entry ends it."""

    text: str
    places: Places

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Where in the original the characters `start` to `end` stood, with what was left out of it up to the next."""
        begin = int(self.places[start])
        if end <= start:
            return begin, begin
        return begin, max(int(self.places[end]), int(self.places[end - 1]) + 1)


def fold(text: str, *, lower: bool = False, lookalikes: bool = True) -> Folded:
    """`lookalikes` false leaves letters of other scripts as they are: a word of theirs keeps its capitals' kinship."""
    if _PLAIN.fullmatch(text):
        return Folded(text.lower() if lower else text, np.arange(len(text) + 1, dtype=np.int64))
    codes = codes_of(text)
    table = tables(lower, lookalikes)
    change = table.change[codes]
    counts = table.count[change]
    sources = np.repeat(np.arange(len(codes), dtype=np.int64), counts)
    before = np.cumsum(counts, dtype=np.int64) - counts
    within = np.arange(len(sources), dtype=np.int64) - np.repeat(before, counts)
    folded = codes[sources]
    changed = np.flatnonzero(change[sources])
    folded[changed] = table.parts[table.first[change[sources[changed]]] + within[changed]]
    return Folded(text_of(folded), np.append(sources, len(text)))


def codes_of(text: str) -> Codes:
    """A text's code points; half surrogates, which no encoding has, as U+FFFD."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4").astype(np.uint32)
    return np.where((codes >= 0xD800) & (codes < 0xE000), np.uint32(_REPLACEMENT), codes)


def encodable(text: str) -> str:
    """The same, with a question mark for each half surrogate: what libraries in other languages can take."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def text_of(codes: Codes) -> str:
    return codes.astype("<u4").tobytes().decode("utf-32-le")


def invisible(character: str) -> bool:
    """Whether a character shows nothing: format characters (zero width, direction, tags), variation selectors."""
    return (
        unicodedata.category(character) == "Cf"
        or (unicodedata.category(character) == "Cc" and character not in _KEPT_CONTROLS)
        or character in _INVISIBLE
        or "\ufe00" <= character <= "\ufe0f"
        or "\U000e0000" <= character <= "\U000e0fff"
    )


@dataclass(frozen=True, slots=True)
class Table:
    """For each code point its change, 0 where there is none; of each change how many characters come out, and where
    in `parts` they begin."""

    change: npt.NDArray[np.uint16]
    count: npt.NDArray[np.uint8]
    first: Places
    parts: Codes


@functools.cache
def tables(lower: bool, lookalikes: bool) -> Table:
    """Making it takes a quarter of a second: a check asks for its own before it is asked to judge."""
    change = np.zeros(_CODES, dtype=np.uint16)
    counts, firsts, parts = [1], [0], [0]
    for order, (code, made) in enumerate(_changes(lower, lookalikes), 1):
        change[code] = order
        counts.append(len(made))
        firsts.append(len(parts))
        parts += map(ord, made)
    return Table(
        change,
        np.array(counts, dtype=np.uint8),
        np.array(firsts, dtype=np.int64),
        np.array(parts, dtype=np.uint32),
    )


@functools.cache
def word_kinds() -> np.ndarray[tuple[int], np.dtype[np.int8]]:
    """For each code point: 1 in a word, 2 in a script without spaces, 0 anything else."""
    kinds = np.zeros(0x110000, dtype=np.int8)
    for code in range(0x20000):
        kinds[code] = chr(code) == "_" or unicodedata.category(chr(code))[0] in "LNM"
    for first, last in _UNSPACED:
        kinds[first : last + 1] = 2
    return kinds


def _changes(lower: bool, lookalikes: bool) -> Iterator[tuple[int, str]]:
    """The code points that folding changes: of planes 0, 1 and 14, and the ideographs for compatibility."""
    plain = {letter: plain for plain, letters in _LOOKALIKES.items() for letter in letters} if lookalikes else {}
    for code in (*range(0xD800), *range(0xE000, 0x20000), *range(0x2F800, 0x2FA20), *range(0xE0000, 0xE1000)):
        character = chr(code)
        parts = "".join(
            plain.get(part, part)
            for part in unicodedata.normalize("NFKD", plain.get(character, character))
            if not (invisible(part) or "\u0300" <= part <= "\u036f")
        )
        if lower:
            parts = "".join(plain.get(part, part) for part in unicodedata.normalize("NFKD", parts.casefold()))
        if parts != character and len(parts) <= _LONGEST:
            yield code, parts
