"""How well a check tells what it should from what it should not, on texts whose truth is known.

Two ways to count. By text: a text that holds what the check looks for should get a finding, any other none. By span:
each thing that is there should be found where it is, and nothing else. Precision is the share of what was found that is
right, recall the share of what is there that was found, F1 their harmonic mean, and the false-positive rate (FPR) the
share of clean texts that got a finding.
"""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from guardrails.policy import Check, Policy, Rule
from guardrails.text_checks import Context, TextCheck
from guardrails.verdicts import Finding

Judge = Callable[[str], Awaitable[Sequence[Finding]]]
"""What a check finds in one text."""

THRESHOLDS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
_FIXED_FPR = 0.01  # at which recall is told, too
_SAME = 0.5  # of two spans' union, the share that both must have to be one
_SHOWN = 160  # characters of a text in a report


class BadSamples(ValueError):
    """The file of samples can't be used; the message says in which line and why."""


@dataclass(frozen=True, slots=True)
class Span:
    """Characters `start` to `end` are a thing to be found; of any kind where `kind` is empty."""

    start: int
    end: int
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Sample:
    """`label`: whether something is to be found. `kind` groups samples; `line` is where this one stands in its file."""

    text: str
    label: bool
    kind: str
    line: int
    spans: tuple[Span, ...] | None = None


@dataclass(frozen=True, slots=True)
class Judged:
    sample: Sample
    found: tuple[Finding, ...]
    seconds: float

    @property
    def score(self) -> float:
        return max((finding.score for finding in self.found), default=0.0)

    @property
    def seconds_per_kilobyte(self) -> float:
        """A text below a kilobyte counts as one."""
        return self.seconds / max(1.0, len(self.sample.text.encode("utf-8", "replace")) / 1000)


@dataclass(frozen=True, slots=True)
class Counts:
    """Of texts, or of spans: found and there, found and not there, there and not found, neither."""

    true_positives: int
    false_positives: int
    false_negatives: int
    true_negatives: int

    @property
    def precision(self) -> float | None:
        """None where nothing was found."""
        return _share(self.true_positives, self.true_positives + self.false_positives)

    @property
    def recall(self) -> float | None:
        """None where nothing was to be found."""
        return _share(self.true_positives, self.true_positives + self.false_negatives)

    @property
    def f1(self) -> float | None:
        whole = 2 * self.true_positives + self.false_positives + self.false_negatives
        return _share(2 * self.true_positives, whole)

    @property
    def false_positive_rate(self) -> float | None:
        """None where no text was clean."""
        return _share(self.false_positives, self.false_positives + self.true_negatives)


def read_samples(file: Path) -> list[Sample]:
    """A JSON object a line: `text`, and `label` (true: something is to be found) or `spans` (`start`, `end`, `kind`).

    Either all samples have spans or none. Raises BadSamples, OSError.
    """
    samples = []
    for line, told in enumerate(file.read_text("utf-8").split("\n"), 1):
        if told.strip():
            samples.append(_sample(told, line, file))
    if not samples:
        raise BadSamples(f"{file}: there is no sample in it")
    if len({sample.spans is None for sample in samples}) > 1:
        raise BadSamples(f"{file}: some samples have `spans` and some have not; clean texts have an empty list")
    return samples


def _sample(told: str, line: int, file: Path) -> Sample:
    shape = '{"text": "…", "label": true} or {"text": "…", "spans": [{"start": 0, "end": 5, "kind": "…"}]}'
    try:
        given = json.loads(told)
        text, label, kind, spans = given["text"], given.get("label"), given.get("kind", ""), given.get("spans")
        if not isinstance(text, str) or not isinstance(kind, str):
            raise TypeError
        if spans is None:
            if not isinstance(label, bool):
                raise TypeError
            return Sample(text, label, kind, line)
        expected = tuple(Span(one["start"], one["end"], one.get("kind", "")) for one in spans)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise BadSamples(f"{file}:{line}: should be like {shape}") from None
    for span in expected:
        if not all(type(at) is int for at in (span.start, span.end)) or not 0 <= span.start < span.end <= len(text):
            raise BadSamples(f"{file}:{line}: the span {span.start} to {span.end} is not within the text")
    return Sample(text, bool(expected), kind, line, expected)


def judge_of(check: Check | TextCheck, context: Context) -> Judge:
    """How one text is judged by a check of either kind."""
    if hasattr(check, "judge"):

        async def whole(text: str) -> Sequence[Finding]:
            return (await check.judge([text], context))[0]

        return whole
    policy = Policy([Rule(check, "flag")])

    async def runs(text: str) -> Sequence[Finding]:
        return policy.screen(text).verdicts[0].findings

    return runs


async def evaluate(
    judge: Judge, samples: Sequence[Sample], progress: Callable[[int], None] = lambda done: None
) -> list[Judged]:
    """Every sample judged by itself, in order. `progress` is told how many have been."""
    judged = []
    for number, sample in enumerate(samples, 1):
        started = time.perf_counter()
        found = tuple(await judge(sample.text))
        judged.append(Judged(sample, found, time.perf_counter() - started))
        progress(number)
    return judged


def counts(judged: Iterable[Judged], threshold: float) -> Counts:
    """By text: one counts as found from this score on."""
    told = [[0, 0], [0, 0]]
    for one in judged:
        told[one.sample.label][bool(one.found) and one.score >= threshold] += 1
    return Counts(told[1][1], told[0][1], told[1][0], told[0][0])


def span_counts(judged: Iterable[Judged], threshold: float) -> dict[str, Counts]:
    """By span: under each kind what was expected of it, under "" all together.

    A finding is right where it and an expected span of its kind are half or more the same characters. One beside a
    right one, on the same characters, is the same thing found twice and counts no more. Clean texts are counted in "".
    """
    per_kind: dict[str, list[int]] = {}
    clean = 0
    for one in judged:
        found = [finding for finding in one.found if finding.score >= threshold]
        expected = one.sample.spans or ()
        clean += not expected and not found
        hit = [any(_same(span, finding) for finding in found) for span in expected]
        for span, right in zip(expected, hit, strict=True):
            per_kind.setdefault(span.kind, [0, 0, 0])[0 if right else 2] += 1
        for finding in found:
            if not any(right and _overlap(span, finding) for span, right in zip(expected, hit, strict=True)):
                per_kind.setdefault(finding.kind, [0, 0, 0])[1] += 1
    sums = [sum(values[at] for values in per_kind.values()) for at in range(3)]
    whole = Counts(sums[0], sums[1], sums[2], clean)
    by_kind = {
        kind: Counts(right, wrong, missed, 0) for kind, (right, wrong, missed) in sorted(per_kind.items()) if kind
    }
    return {"": whole, **by_kind}


def recall_at(judged: Sequence[Judged], rate: float = _FIXED_FPR) -> tuple[float, float] | None:
    """The lowest score at which at most that share of the clean texts is found, and the recall there.

    None where there are no clean texts, or none to be found.
    """
    clean = np.array([one.score for one in judged if not one.sample.label])
    wanted = np.array([one.score for one in judged if one.sample.label])
    if not len(clean) or not len(wanted):
        return None
    for threshold in np.unique(np.concatenate((clean, wanted, [1.0]))):
        if (clean >= threshold).mean() <= rate and threshold > 0:
            return float(threshold), float((wanted >= threshold).mean())
    return 1.0, 0.0


def report(judged: Sequence[Judged], threshold: float, examples: int = 5) -> dict[str, Any]:
    """All of it as JSON has it: rates 0 to 1, or null where nothing could be counted; times in milliseconds."""
    by_span = judged[0].sample.spans is not None
    told: dict[str, Any] = {
        "samples": len(judged),
        "counted": "spans" if by_span else "texts",
        "threshold": threshold,
    }
    if by_span:
        spans = span_counts(judged, threshold)
        told |= _rates(spans[""])
        told["kinds"] = {kind: _rates(one) for kind, one in spans.items() if kind}
        told["curve"] = [{"threshold": at, **_rates(span_counts(judged, at)[""])} for at in _curve(threshold)]
    else:
        told |= _rates(counts(judged, threshold))
        kinds = sorted({one.sample.kind for one in judged if one.sample.kind})
        told["kinds"] = {
            kind: {
                "samples": len(mine := [one for one in judged if one.sample.kind == kind]),
                "found": sum(bool(one.found) and one.score >= threshold for one in mine) / len(mine),
                "expected": sum(one.sample.label for one in mine) / len(mine),
            }
            for kind in kinds
        }
        told["curve"] = [{"threshold": at, **_rates(counts(judged, at))} for at in _curve(threshold)]
        if (fixed := recall_at(judged)) is not None:
            told["at_fpr_1_percent"] = {"threshold": fixed[0], "recall": fixed[1]}
    times = [one.seconds_per_kilobyte * 1000 for one in judged]
    told["ms_per_kb"] = {"p50": float(np.percentile(times, 50)), "p99": float(np.percentile(times, 99))}
    told["false_alarm_examples"] = _confused(judged, threshold, examples, wanted=False)
    told["missed_examples"] = _confused(judged, threshold, examples, wanted=True)
    return told


def _confused(judged: Sequence[Judged], threshold: float, most: int, *, wanted: bool) -> list[dict[str, Any]]:
    """The clearest mistakes first: clean texts with the highest scores, or missed ones with the lowest."""
    wrong = [
        one
        for one in judged
        if one.sample.label is wanted and (bool(one.found) and one.score >= threshold) is not wanted
    ]
    wrong.sort(key=lambda one: (one.score if wanted else -one.score, one.sample.line))
    return [
        {
            "line": one.sample.line,
            "score": round(one.score, 3),
            "kind": one.sample.kind,
            "text": _short(one.sample.text),
        }
        for one in wrong[:most]
    ]


def _rates(told: Counts) -> dict[str, Any]:
    return {
        "precision": told.precision,
        "recall": told.recall,
        "f1": told.f1,
        "fpr": told.false_positive_rate,
        "true_positives": told.true_positives,
        "false_positives": told.false_positives,
        "false_negatives": told.false_negatives,
        "true_negatives": told.true_negatives,
    }


def _curve(threshold: float) -> list[float]:
    return sorted({*THRESHOLDS, threshold})


def _same(span: Span, finding: Finding) -> bool:
    if span.kind and span.kind != finding.kind:
        return False
    shared = min(span.end, finding.end) - max(span.start, finding.start)
    return shared >= _SAME * (max(span.end, finding.end) - min(span.start, finding.start))


def _overlap(span: Span, finding: Finding) -> bool:
    return min(span.end, finding.end) > max(span.start, finding.start)


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _short(text: str) -> str:
    words = " ".join(text.split())
    return words if len(words) <= _SHOWN else words[: _SHOWN - 1] + "…"
