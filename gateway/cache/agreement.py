"""Whether two answers say the same: what a semantic cache in shadow mode measures."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

_WORDS = re.compile(r"\w+")
_FIGURES = re.compile(r"\d+(?:[.,]\d+)*")
_MARKS = re.compile(r"\[\d{1,2}\]")  # of sources


def overlap(one: str, other: str) -> float:
    """F1 of their words, 0 to 1; two empty answers agree."""
    words, others = _bag(one), _bag(other)
    if not words and not others:
        return 1.0
    return 2 * (words & others).total() / (words.total() + others.total())


def cosine(one: Sequence[float], other: Sequence[float]) -> float:
    product = sum(a * b for a, b in zip(one, other, strict=True))
    return product / max(math.hypot(*one) * math.hypot(*other), 1e-12)


def agree(one: str, other: str, likeness: float, least: float) -> bool:
    """From a likeness of their vectors of `least` on, or four words in five the same; and never with other figures.

    An answer of one sentence differs from a wrong one by a number: by its vector that is next to nothing.
    """
    if set(_FIGURES.findall(_MARKS.sub("", one))) != set(_FIGURES.findall(_MARKS.sub("", other))):
        return False
    return likeness >= least or overlap(one, other) >= 0.8


def _bag(text: str) -> Counter[str]:
    return Counter(_WORDS.findall(_MARKS.sub("", text).casefold()))
