"""What a text says to a machine and not to a reader: invisible characters, encodings, letters in disguise.

Each disguise is taken off and the text beneath handed back, to be judged like any other. What is handed back is
together never longer than a few times the text, and every pattern is RE2's or a table's: the cost is linear.
"""

from __future__ import annotations

import base64
import binascii
import codecs
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any
from urllib.parse import unquote_to_bytes

import re2

_OPTIONS = re2.Options()
_OPTIONS.log_errors = False


def _re(pattern: str) -> Any:
    return re2.compile(pattern, _OPTIONS)


@dataclass(frozen=True, slots=True)
class Disguise:
    """Characters `start` to `end` stand for `text`. `kind` is `hidden_text`, `encoded` or `obfuscated`.

    `telling`: to hide a text this way is no accident, whatever it says.
    """

    kind: str
    start: int
    end: int
    text: str
    telling: bool = False


_INVISIBLE = _re("[\u200b-\u200f\u2060-\u2064\ufe00-\ufe0f\ufeff\u202a-\u202e\u2066-\u2069\U000e0000-\U000e01ef]")
# A flag such as Scotland's is a black flag and a few tags: https://unicode.org/reports/tr51/#flag-emoji-tag-sequences
_TAGS = _re("(\U0001f3f4?)([\U000e0020-\U000e007e]{4,})")
_LONGEST_FLAG = 6
_SELECTORS = _re("[\ufe00-\ufe0f\U000e0100-\U000e01ef]{4,}")
_BITS = _re("[\u200b-\u200f\u2060-\u2064\ufeff]{16,}")
_REVERSING = _re("[\u202d\u202e]([^\u202c\n]{6,400})")

_BASE64 = _re(r"[A-Za-z0-9+/_-]{16,}={0,2}(?:\s?[\r\n]\s?[A-Za-z0-9+/_-]{16,}={0,2})*")
_HEX = _re(r"(?:(?:0x|\\x)?[0-9A-Fa-f]{2}[\s,:;]?){12,}")
_PERCENT = _re(r"(?:%[0-9A-Fa-f]{2}[A-Za-z0-9_.~+-]*){8,}")
_ESCAPES = _re(r"(?:\\u[0-9A-Fa-f]{4}\s?){6,}")
_BINARY = _re(r"(?:[01]{8}\s?){8,}")
_NUMBERS = _re(r"(?:\b(?:3[2-9]|[4-9]\d|1[01]\d|12[0-6])\b[\s,;]{1,2}){12,}")

# Words of attacks as ROT13 and read backwards: only a text that has some is turned around.
_ROT13 = _re(r"(?i)\b(?:vtaber|qvfertneq|sbetrg|vafgehpgvbaf?|cerivbhf|cebzcgf?|flfgrz|cnffjbeq|erirny|fnl|cevag)\b")
_REVERSED = _re(
    r"(?i)\b(?:erongi|dragersid|tegrof|snoitcurtsni|noitcurtsni|suoiverp|tpmorp|metsys|drowssap|laever|tnirp)\b"
)
_FEWEST_WORDS = 2

_LEET_WORD = _re(r"[A-Za-z@$!|0-9]{0,20}[A-Za-z][013457@$!|]{1,3}[A-Za-z][A-Za-z@$!|0-9]{0,20}")
_LEET = str.maketrans("013457@$!|", "oieastasil")
_FEWEST_LEET = 2
_SPACED = _re(r"(?:\b\w[ ._*|~-]{1,3}){6,}\w\b")
_SEPARATORS = _re(r"[ ._*|~-]")
_WIDER = _re(r"[ ]{2,3}|[ ][._*|~-][ ]")

_LONGEST_PAYLOAD = 20_000  # characters of one encoded piece that are decoded
_MOST_PAYLOADS = 200
_FEWEST_LETTERS = 8


def disguises(text: str) -> list[Disguise]:
    """What stands beneath `text`, positions counted in it. Letters that merely look alike are `folding`'s matter."""
    text = text.encode("utf-8", "replace").decode() if not text.isascii() else text
    found: list[Disguise] = []
    if not text.isascii() and _INVISIBLE.search(text):
        found += _hidden(text)
    found += _encoded(text)
    found += _turned(text)
    return found


def _hidden(text: str) -> Iterator[Disguise]:
    for match in islice(_TAGS.finditer(text), _MOST_PAYLOADS):
        tags = match.group(2)
        if match.group(1) and len(tags) <= _LONGEST_FLAG:
            continue
        said = "".join(chr(ord(tag) - 0xE0000) for tag in tags)
        yield Disguise("hidden_text", match.start(2), match.end(2), said, telling=_letters(said) >= _FEWEST_LETTERS)
    for match in islice(_SELECTORS.finditer(text), _MOST_PAYLOADS):
        values = (ord(c) - 0xFE00 if c <= "\ufe0f" else ord(c) - 0xE0100 + 16 for c in match.group())
        said = bytes(values).decode("utf-8", "replace")
        yield Disguise("hidden_text", match.start(), match.end(), said, telling=_readable(said))
    for match in islice(_BITS.finditer(text), _MOST_PAYLOADS):
        bits = match.group()
        if len(set(bits)) > 1:
            yield Disguise("hidden_text", match.start(), match.end(), _from_bits(bits), telling=True)
    for match in islice(_REVERSING.finditer(text), _MOST_PAYLOADS):
        yield Disguise("hidden_text", match.start(), match.end(), match.group(1)[::-1])


def _from_bits(bits: str) -> str:
    """Two kinds of invisible characters as the zeros and ones of bytes; "" where that gives no text."""
    zero, *others = sorted(set(bits))
    if len(others) != 1:
        return ""
    digits = bits.translate({ord(zero): "0", ord(others[0]): "1"})
    said = _eights(digits)
    return said if _readable(said) else _eights(digits.translate({48: "1", 49: "0"}))


def _eights(digits: str) -> str:
    return bytes(int(digits[at : at + 8], 2) for at in range(0, len(digits) - 7, 8)).decode("utf-8", "replace")


def _encoded(text: str) -> Iterator[Disguise]:
    for pattern, decode, mark in _DECODERS:
        if mark not in text:
            continue
        for match in islice(pattern.finditer(text), _MOST_PAYLOADS):
            said = _decoded(decode, match.group()[:_LONGEST_PAYLOAD])
            if said is not None:
                yield Disguise("encoded", match.start(), match.end(), said)


def _decoded(decode: Callable[[str], bytes], piece: str) -> str | None:
    try:
        said = decode(piece).decode("utf-8")
    except (ValueError, binascii.Error):
        return None
    return said if _readable(said) else None


def _base64(piece: str) -> bytes:
    packed = "".join(piece.split()).replace("-", "+").replace("_", "/").rstrip("=")
    packed = packed[: len(packed) - (len(packed) % 4 == 1)]
    return base64.b64decode(packed + "=" * (-len(packed) % 4), validate=True)


def _hex(piece: str) -> bytes:
    digits = piece.replace("0x", "").replace("\\x", "")
    return bytes.fromhex("".join(character for character in digits if character in "0123456789abcdefABCDEF"))


def _binary(piece: str) -> bytes:
    return bytes(int(byte, 2) for byte in _packed(piece, 8))


def _packed(piece: str, size: int) -> list[str]:
    digits = "".join(piece.split())
    return [digits[at : at + size] for at in range(0, len(digits), size)]


def _numbers(piece: str) -> bytes:
    return bytes(int(number) for number in piece.replace(",", " ").replace(";", " ").split())


def _escapes(piece: str) -> bytes:
    return "".join(piece.split()).encode().decode("unicode_escape").encode()


def _percent(piece: str) -> bytes:
    return unquote_to_bytes(piece.replace("+", " "))


_DECODERS: tuple[tuple[Any, Callable[[str], bytes], str], ...] = (
    (_BASE64, _base64, ""),
    (_HEX, _hex, ""),
    (_PERCENT, _percent, "%"),
    (_ESCAPES, _escapes, "\\u"),
    (_BINARY, _binary, "01"),
    (_NUMBERS, _numbers, " "),
)


def _turned(text: str) -> Iterator[Disguise]:
    if len(_words(_ROT13, text)) >= _FEWEST_WORDS:
        yield Disguise("encoded", 0, len(text), codecs.encode(text, "rot13"))
    if len(_words(_REVERSED, text)) >= _FEWEST_WORDS:
        yield Disguise("encoded", 0, len(text), text[::-1])
    if len(list(islice(_LEET_WORD.finditer(text), _FEWEST_LEET))) == _FEWEST_LEET:
        yield Disguise("obfuscated", 0, len(text), text.translate(_LEET))
    for match in islice(_SPACED.finditer(text), _MOST_PAYLOADS):
        yield Disguise("obfuscated", match.start(), match.end(), _unspaced(match.group()[:_LONGEST_PAYLOAD]))


def _words(pattern: Any, text: str) -> set[str]:
    found: set[str] = set()
    for match in pattern.finditer(text):
        found.add(match.group().lower())
        if len(found) >= _FEWEST_WORDS:
            break
    return found


def _unspaced(piece: str) -> str:
    """Letters set apart, put together: at wider gaps, where there are any, words part."""
    return " ".join(_SEPARATORS.sub("", word) for word in _WIDER.split(piece))


def _letters(text: str) -> int:
    return sum(map(str.isalpha, text))


def _readable(text: str) -> bool:
    """Whether this is what somebody wrote, and not what decoding makes of any bytes."""
    shown = sum(character.isprintable() or character.isspace() for character in text)
    return _letters(text) >= _FEWEST_LETTERS and shown >= 0.97 * len(text)
