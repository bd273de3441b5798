"""A text as a browser reads it: character references decoded, what shows nothing left out, positions kept."""

from __future__ import annotations

import functools
import html
import re

import numpy as np

from guardrails.folding import Folded, codes_of, invisible, text_of

# https://html.spec.whatwg.org/multipage/named-characters.html: some names go without their semicolon.
_REFERENCE = re.compile(r"(&(?:#[0-9]{1,8}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});?)")
_MIGHT_HIDE = re.compile(r"[^\t\n\r -~]")


def rendered(text: str) -> Folded:
    if "&" not in text and not _MIGHT_HIDE.search(text):
        return Folded(text, np.arange(len(text) + 1, dtype=np.int64))
    pieces = _REFERENCE.split(text) if "&" in text else [text]
    shown = [_decoded(piece) if order % 2 else piece for order, piece in enumerate(pieces)]
    lengths = np.fromiter(map(len, pieces), dtype=np.int64, count=len(pieces))
    counts = np.fromiter(map(len, shown), dtype=np.int64, count=len(pieces))
    begins = np.cumsum(lengths) - lengths
    # The characters that a reference stands for all came from where it begins; all others from one place each.
    within = np.arange(counts.sum(), dtype=np.int64) - np.repeat(np.cumsum(counts) - counts, counts)
    plain = np.fromiter((a == b for a, b in zip(pieces, shown, strict=True)), dtype=np.bool_, count=len(pieces))
    places = np.repeat(begins, counts) + within * np.repeat(plain, counts)
    codes = codes_of("".join(shown))
    kept = ~_hidden()[codes]
    return Folded(text_of(codes[kept]), np.append(places[kept], len(text)))


@functools.cache
def _hidden() -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """For each code point whether it shows nothing; every such one is in the planes 0, 1 and 14."""
    hidden = np.zeros(0x110000, dtype=np.bool_)
    for code in (*range(0x20000), *range(0xE0000, 0xE1000)):
        hidden[code] = invisible(chr(code))
    return hidden


def hidden_class() -> str:
    """The characters that show nothing, as the ranges of a regular expression's class."""
    codes = np.flatnonzero(np.diff(_hidden(), prepend=False, append=False))
    return "".join(f"\\U{first:08x}-\\U{end - 1:08x}" for first, end in codes.reshape(-1, 2).tolist())


@functools.lru_cache(4096)
def _decoded(reference: str) -> str:
    return html.unescape(reference)
