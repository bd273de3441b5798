"""Whether an answer says what an accepted answer says: SQuAD's exact match and token F1, and containment.

Normalisation and both measures are those of SQuAD's `evaluate-v2.0.py` (`normalize_answer`, `compute_exact`,
`compute_f1`, `get_raw_scores`; https://rajpurkar.github.io/SQuAD-explorer/). They are made for English, and for answers of a few words;
containment is what open-domain question answering counts for whole sentences (`has_answer` of Chen, Fisch, Weston,
Bordes: Reading Wikipedia to Answer Open-Domain Questions, 2017).
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

_ARTICLE = re.compile(r"\b(a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


@dataclass(frozen=True, slots=True)
class Match:
    """Each from 0 to 1, by the accepted answer that fits best for that measure."""

    exact: float
    f1: float
    contained: float


def match(answer: str, accepted: Sequence[str]) -> Match:
    """How well an answer without marks fits one of the accepted ones, of which there is one at least.

    As in SQuAD, an accepted answer that normalisation leaves nothing of does not count; where none is left, only an
    answer of which nothing is left either is right.
    """
    told = normalised(answer)
    wanted = [text for text in map(normalised, accepted) if text] or [""]
    return Match(
        exact=float(told in wanted),
        f1=max(_f1(told.split(), text.split()) for text in wanted),
        contained=float(any(f" {text} " in f" {told} " if text else not told for text in wanted)),
    )


def normalised(text: str) -> str:
    """Lower case, without ASCII punctuation and English articles, its words one blank apart."""
    return " ".join(_ARTICLE.sub(" ", text.lower().translate(_NO_PUNCTUATION)).split())


def _f1(told: Sequence[str], wanted: Sequence[str]) -> float:
    if not told or not wanted:
        return float(told == wanted)
    common = (Counter(told) & Counter(wanted)).total()
    if not common:
        return 0.0
    precision, recall = common / len(told), common / len(wanted)
    return 2 * precision * recall / (precision + recall)
