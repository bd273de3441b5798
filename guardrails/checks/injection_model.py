"""How like an injection a stretch of text reads: a linear model over hashed n-grams of words and characters.

The weights are `guardrails/data/injection.npz`, made by `guardrails/training/injection.py`. Only numpy is needed, and
the time is linear in the text: every n-gram is hashed once, and a window's score is a difference of running sums.
"""

from __future__ import annotations

import hashlib
import re
from collections import deque
from dataclasses import dataclass
from importlib.resources import files
from io import BytesIO
from itertools import islice
from zlib import crc32

import numpy as np
import numpy.typing as npt

from guardrails.folding import codes_of

BITS = 18  # of a feature's hash: 262,144 weights
WINDOWS = ((40, 20), (160, 80))
"""Tokens of a window and of the step to the next one: an instruction within a passage, and a whole prompt."""

_TOKEN = re.compile(r"[^\W\d_]+|\d+|[^\w\s]|\n+")
_LONGEST_TOKEN = 24  # characters of a token that count
_MOST_REPEATED = 2  # of the same token in a row that count: "a a a a a" dilutes nothing
_MIX = np.uint64(0x9E3779B97F4A7C15)
_SHIFT = np.uint64(64 - BITS)

Hashes = npt.NDArray[np.uint64]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Tokens:
    """The tokens of a folded text that count."""

    text: str
    hashes: Hashes
    order: npt.NDArray[np.int64]  # which of all tokens of the text each one is
    codes: npt.NDArray[np.uint32]
    at: npt.NDArray[np.int64]  # the token that a character of `codes` belongs to

    def __len__(self) -> int:
        return len(self.hashes)

    def span(self, first: int, last: int) -> tuple[int, int]:
        """The characters of the text from one token to another, both included."""
        begin, end = int(self.order[first]), int(self.order[last])
        found = islice(_TOKEN.finditer(self.text), begin, end + 1)
        start = next(found)
        return start.start(), deque(found, maxlen=1).pop().end() if end > begin else start.end()


def tokens(text: str) -> Tokens:
    """Words, numbers and marks of a text that has been folded to lower case."""
    told: list[str] = _TOKEN.findall(text)
    known = {token: _short(token) for token in set(told)}
    values = {token: crc32(short.encode("utf-8", "replace")) for token, short in known.items()}
    hashes = np.fromiter(map(values.__getitem__, told), dtype=np.uint64, count=len(told))
    kept = np.ones(len(told), dtype=np.bool_)
    kept[_MOST_REPEATED:] = (hashes[2:] != hashes[1:-1]) | (hashes[1:-1] != hashes[:-2])
    order = np.flatnonzero(kept)
    shorts = [known[token] for token in (told if len(order) == len(told) else map(told.__getitem__, order.tolist()))]
    joined = " ".join(shorts)
    lengths = np.fromiter(map(len, shorts), dtype=np.int64, count=len(shorts)) + 1
    at = np.repeat(np.arange(len(shorts), dtype=np.int64), lengths)[: len(joined)]
    return Tokens(text, hashes[order], order, codes_of(joined), at)


def _short(token: str) -> str:
    """A token as it counts: all numbers are alike, and so are all ends of a line."""
    if token[0].isdigit():
        return "0"
    return "\n" if token[0] == "\n" else token[:_LONGEST_TOKEN]


def features(told: Tokens) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The hashed features of a text and the token at which each begins."""
    words = told.hashes * _MIX
    count = len(words)
    place = np.arange(count, dtype=np.int64)
    found: list[Hashes] = [words]
    where = [place]
    for salt, gaps in enumerate(((1,), (2,), (3,), (1, 2)), 2):
        if count > gaps[-1]:
            mixed = words[: count - gaps[-1]] * np.uint64(2 * salt + 1)
            for step, gap in enumerate(gaps, 1):
                follows = words[gap : count - gaps[-1] + gap]
                mixed = (mixed ^ (follows >> np.uint64(7 * step))) * _MIX + follows
            found.append(mixed)
            where.append(place[: len(mixed)])
    letters = told.codes.astype(np.uint64) + np.uint64(1)
    for length in (4, 5):
        if len(letters) >= length:
            mixed = np.full(len(letters) - length + 1, length, dtype=np.uint64)
            for offset in range(length):
                mixed = (mixed + letters[offset : len(letters) - length + 1 + offset]) * _MIX
                mixed ^= mixed >> np.uint64(29)
            found.append(mixed * _MIX)
            where.append(told.at[: len(mixed)])
    return (np.concatenate(found) * _MIX >> _SHIFT).astype(np.int64), np.concatenate(where)


@dataclass(frozen=True, slots=True)
class Windows:
    """Stretches of one width over a text: their log-odds, and the tokens that they begin and end with."""

    tokens: Tokens
    logits: Floats
    first: npt.NDArray[np.int64]
    last: npt.NDArray[np.int64]

    @property
    def highest(self) -> float:
        return float(self.logits.max())

    def span(self, window: int) -> tuple[int, int]:
        """The characters of the folded text that a window covers."""
        return self.tokens.span(int(self.first[window]), int(self.last[window]))


class WordingModel:
    """`weights` are small whole numbers, `scale` what one of them is worth."""

    def __init__(self, weights: npt.NDArray[np.int8], scale: float, bias: float) -> None:
        self.weights = weights
        self.scale = scale
        self.bias = bias
        self._worth = weights.astype(np.float32) * np.float32(scale)

    def windows(self, text: str) -> tuple[Windows, ...]:
        """For each width of `WINDOWS` its windows over a folded text; () where the text has no token."""
        told = tokens(text)
        count = len(told)
        if not count:
            return ()
        hashed, at = features(told)
        sums = _running(np.bincount(at, weights=self._worth[hashed], minlength=count))
        counts = _running(np.bincount(at, minlength=count))
        return tuple(self._scored(told, sums, counts, width, step) for width, step in WINDOWS)

    def _scored(
        self, told: Tokens, sums: npt.NDArray[np.float64], counts: npt.NDArray[np.float64], width: int, step: int
    ) -> Windows:
        count = len(told)
        first = np.arange(0, max(1, count - width + step), step, dtype=np.int64)
        last = np.minimum(first + width, count)
        score = (sums[last] - sums[first]) / np.sqrt(np.maximum(1, counts[last] - counts[first])) + self.bias
        return Windows(told, score.astype(np.float32), first, last - 1)


@dataclass(frozen=True, slots=True)
class Trained:
    """What training left: the model, how its word is weighed against the signals', and what a meaning adds."""

    wording: WordingModel
    verdict: Floats  # for: a constant, both windows' log-odds, each family of signals
    meaning: Floats  # for each number of a MiniLM vector, and a constant
    typical: Floats  # vectors of attacks that stand for many, of unit length
    verdict_with_meaning: Floats  # as `verdict`, and for the two that `meanings_of` says
    version: str


def load() -> Trained:
    data = files("guardrails").joinpath("data/injection.npz").read_bytes()
    with np.load(BytesIO(data), allow_pickle=False) as stored:
        return Trained(
            WordingModel(stored["weights"], float(stored["scale"]), float(stored["bias"])),
            stored["verdict"],
            stored["meaning"],
            stored["typical"].astype(np.float32),
            stored["verdict_with_meaning"],
            hashlib.sha256(data).hexdigest()[:8],
        )


def meanings_of(vectors: Floats, leaning: Floats, typical: Floats) -> Floats:
    """For each vector the log-odds of its being an attack's, and its cosine to the nearest typical attack, in tens."""
    vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    nearest = (vectors @ typical.T).max(axis=1) * 10
    return np.column_stack((vectors @ leaning[:-1] + leaning[-1], nearest)).astype(np.float32)


def _running(values: npt.NDArray[np.floating] | npt.NDArray[np.integer]) -> npt.NDArray[np.float64]:
    return np.concatenate(([0.0], np.cumsum(values, dtype=np.float64)))
