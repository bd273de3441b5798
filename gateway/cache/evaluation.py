"""How often a semantic cache would serve, and how often wrongly, on pairs of questions whose truth is known."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from gateway.cache.likeness import Difference, difference

THRESHOLDS = (0.75, 0.8, 0.85, 0.88, 0.9, 0.92, 0.93, 0.94, 0.95, 0.96, 0.98)


class BadPairs(ValueError):
    """The file of pairs can't be used; the message says in which line and why."""


class Pair(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`a` was asked first, `b` then; `same`: a's answer may serve b."""

    a: str
    b: str
    same: bool


@dataclass(frozen=True, slots=True)
class Compared:
    """A pair, the cosine of its vectors, and what its words tell apart."""

    pair: Pair
    likeness: float
    apart: Difference | None


@dataclass(frozen=True, slots=True)
class Share:
    """How many of `of` were served."""

    served: int
    of: int

    @property
    def rate(self) -> float | None:
        return self.served / self.of if self.of else None


def read_pairs(file: Path) -> list[Pair]:
    """JSON a line: `{"a": "…", "b": "…", "same": true}`. Raises BadPairs, OSError, UnicodeDecodeError."""
    decode = msgspec.json.Decoder(Pair).decode
    pairs = []
    for number, line in enumerate(file.read_text("utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            pairs.append(decode(line))
        except (msgspec.DecodeError, msgspec.ValidationError) as fault:
            form = json.dumps({"a": "…", "b": "…", "same": True}, ensure_ascii=False)
            raise BadPairs(f"{file.name}, line {number}: {fault}; a line is {form}") from None
    if not pairs:
        raise BadPairs(f"{file.name} has no pairs")
    return pairs


def compare(pairs: Sequence[Pair], cosines: Sequence[float]) -> list[Compared]:
    return [Compared(pair, cosine, difference(pair.b, pair.a)) for pair, cosine in zip(pairs, cosines, strict=True)]


def share(compared: Sequence[Compared], threshold: float, *, same: bool, refusals: bool) -> Share:
    """How many of the pairs that mean the same (or do not) are served at this threshold."""
    meant = [each for each in compared if each.pair.same is same]
    served = [each for each in meant if each.likeness >= threshold and not (refusals and each.apart)]
    return Share(len(served), len(meant))


def report(compared: Sequence[Compared], threshold: float, examples: int) -> dict[str, Any]:
    """Everything that the command tells; wrong hits and refusals are those at `threshold`."""
    near = [each for each in compared if each.likeness >= threshold]
    wrong = [each for each in near if not each.pair.same and each.apart is None]
    return {
        "pairs": len(compared),
        "same": sum(each.pair.same for each in compared),
        "threshold": threshold,
        **_rates(compared, threshold),
        "refused": {
            "same": dict(Counter(each.apart for each in near if each.pair.same and each.apart).most_common()),
            "different": dict(Counter(each.apart for each in near if not each.pair.same and each.apart).most_common()),
        },
        "curve": [{"threshold": each, **_rates(compared, each)} for each in sorted({*THRESHOLDS, threshold})],
        "wrong_hits": [
            {"a": each.pair.a, "b": each.pair.b, "likeness": round(each.likeness, 4)}
            for each in sorted(wrong, key=lambda each: -each.likeness)[:examples]
        ],
    }


def _rates(compared: Sequence[Compared], threshold: float) -> dict[str, Any]:
    told = {}
    for name, refusals in (("with_refusals", True), ("vectors_alone", False)):
        hits = share(compared, threshold, same=True, refusals=refusals)
        false = share(compared, threshold, same=False, refusals=refusals)
        told[name] = {
            "hits": hits.served,
            "hit_rate": _rounded(hits.rate),
            "false_hits": false.served,
            "false_hit_rate": _rounded(false.rate),
        }
    return told


def _rounded(rate: float | None) -> float | None:
    return None if rate is None else round(rate, 5)
