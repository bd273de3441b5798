"""What is compared, out of the lake: a model's calls in the last window and in the reference before it."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gateway.drift.comparisons import (
    Comparison,
    compare_categories,
    compare_in_strata,
    compare_numbers,
    compare_shares,
    compare_vectors,
)
from gateway.drift.findings import Finding, Kind
from gateway.lake.query import Queries

_MOST = 5_000  # calls of each model and window that are looked at, by chance of their ids
_FEWEST_OF = 30  # values of each side, below which nothing is compared

_MOST_MODELS = 50  # callers may name `provider/whatever`; the models of the configuration come first

# A window's calls of callers: not the gateway's own, nor what a front end asks for beside the conversation.
_WITHIN = """
    started_at >= $from AND started_at < $until AND date >= CAST($from AS DATE) AND purpose IS NULL
    AND task IS NULL AND model IS NOT NULL
"""
_MODELS = f"""
    SELECT model FROM calls WHERE {_WITHIN} GROUP BY model
    HAVING count(*) FILTER (started_at < $begin) >= $fewest AND count(*) FILTER (started_at >= $begin) >= $fewest
    ORDER BY contains(model, '/'), count(*) DESC, model LIMIT $most
"""
_CALLS = f"""
    SELECT model, call_id, started_at >= $begin AS recent, outcome, prompt_tokens, completion_tokens, question_chars,
           question_language, answer_language, refused, finish_reason, passage_count, top_score, cited, features
    FROM calls WHERE {_WITHIN} AND list_contains($models, model)
    QUALIFY row_number() OVER (PARTITION BY model, recent ORDER BY hash(call_id)) <= $most
"""
_VECTORS = """
    SELECT model, call_id, started_at >= $begin AS recent, vector, embedder FROM vectors
    WHERE started_at >= $from AND started_at < $until AND list_contains($models, model)
    QUALIFY row_number() OVER (PARTITION BY model, recent ORDER BY hash(call_id)) <= 1000
"""
_FEEDBACK = """
    SELECT c.model, c.call_id, f.given_at >= $begin AS recent, f.score, c.question_language, c.prompt_tokens, c.top_score
    FROM feedback f JOIN calls c USING (call_id)
    WHERE f.score IS NOT NULL AND f.given_at >= $from AND f.given_at < $until AND list_contains($models, c.model)
    QUALIFY row_number() OVER (PARTITION BY c.model, recent ORDER BY hash(c.call_id)) <= $most
"""


@dataclass(frozen=True, slots=True)
class Windows:
    """The reference is from `start` to `begin`, the window from there to `until`; all in seconds since the epoch."""

    start: float
    begin: float
    until: float

    @property
    def parameters(self) -> dict[str, Any]:
        names = {"from": self.start, "begin": self.begin, "until": self.until}
        return {name: datetime.datetime.fromtimestamp(at, datetime.UTC) for name, at in names.items()}


_Rows = list[dict[str, Any]]
_Both = tuple[_Rows, _Rows]


@dataclass(slots=True)
class _Model:
    """Rows of the reference and of the window."""

    calls: _Both = field(default_factory=lambda: ([], []))
    vectors: _Both = field(default_factory=lambda: ([], []))
    feedback: _Both = field(default_factory=lambda: ([], []))


def compare(queries: Queries, windows: Windows, thresholds: Mapping[str, float], min_calls: int) -> list[Finding]:
    """Everything that can be compared, not yet judged; nothing of models with fewer than `min_calls` on a side."""
    models: dict[str, _Model] = {}
    asked = {**windows.parameters, "fewest": min_calls, "most": _MOST_MODELS}
    parameters = {**windows.parameters, "models": queries.run(_MODELS, asked).column("model").to_pylist()}
    if not parameters["models"]:
        return []
    for name, sql in (("calls", _CALLS), ("vectors", _VECTORS), ("feedback", _FEEDBACK)):
        more = {"most": _MOST} if "$most" in sql else {}
        for batch in queries.run(sql, {**parameters, **more}).to_batches(1_000):
            for row in batch.to_pylist():
                getattr(models.setdefault(row["model"], _Model()), name)[row["recent"]].append(row)
    findings: list[Finding] = []
    for name, model in sorted(models.items()):
        if min(len(side) for side in model.calls) >= min_calls:
            findings += _findings(name, model, thresholds)
    return findings


def _findings(name: str, model: _Model, thresholds: Mapping[str, float]) -> Iterator[Finding]:
    def told(kind: Kind, what: str, found: Comparison | None, of: str = name) -> Iterator[Finding]:
        if found is not None:
            yield Finding(kind, of, what, found, thresholds["features" if kind == "feature" else kind])

    calls = model.calls
    yield from told("input", "meaning of questions", _vectors(model.vectors))
    lengths = _numbers(calls, "question_chars")
    yield from told("input", "length of questions", lengths or _numbers(calls, "prompt_tokens"))
    yield from told("input", "language of questions", _categories(calls, "question_language"))
    yield from told("retrieval", "best score", _numbers(calls, "top_score"))
    yield from told("retrieval", "nothing found", _shares(calls, "passage_count", lambda count: count == 0))
    shown = tuple([row for row in side if row["passage_count"]] for side in calls)
    yield from told("retrieval", "answers that cite", _shares((shown[0], shown[1]), "cited", lambda count: count > 0))
    for feature, found in _features(calls):
        yield from told("feature", feature, found, f"{name}/{feature}")
    well = tuple([row for row in side if row["outcome"] == "ok"] for side in calls)
    answered = (well[0], well[1])
    yield from told("output", "length of answers", _numbers(answered, "completion_tokens"))
    yield from told("output", "refusals", _shares(answered, "refused", bool))
    yield from told("output", "language of answers", _categories(answered, "answer_language"))
    yield from told("output", "how answers end", _categories(answered, "finish_reason"))
    yield from told("output", "feedback", _numbers(model.feedback, "score"))
    yield from told("concept", "feedback on like questions", _concept(model))


def _values(both: _Both, name: str) -> tuple[list[Any], list[Any]] | None:
    """What there is; None where that is too little on a side."""
    first, second = ([row[name] for row in side if row[name] is not None] for side in both)
    return (first, second) if min(len(first), len(second)) >= _FEWEST_OF else None


def _numbers(both: _Both, name: str) -> Comparison | None:
    found = _values(both, name)
    return compare_numbers(*found) if found is not None else None


def _categories(both: _Both, name: str) -> Comparison | None:
    found = _values(both, name)
    return compare_categories(*found) if found is not None else None


def _shares(both: _Both, name: str, holds: Any) -> Comparison | None:
    found = _values(both, name)
    return compare_shares(*([bool(holds(value)) for value in side] for side in found)) if found is not None else None


def _vectors(both: _Both) -> Comparison | None:
    """Of one embedder: what another one made can't be compared."""
    embedder = both[1][-1]["embedder"] if both[1] else None
    sides = [[row["vector"] for row in side if row["embedder"] == embedder] for side in both]
    if min(len(side) for side in sides) < _FEWEST_OF:
        return None
    return compare_vectors(np.asarray(sides[0], float), np.asarray(sides[1], float))


def _features(both: _Both) -> Iterator[tuple[str, Comparison]]:
    names = sorted({feature["name"] for side in both for row in side for feature in row["features"] or ()})
    sides = [[{one["name"]: one for one in row["features"] or ()} for row in side] for side in both]
    for name in names:
        found = [[row[name] for row in side if name in row] for side in sides]
        if min(len(side) for side in found) < _FEWEST_OF:
            continue
        if all(one["number"] is not None for side in found for one in side):
            yield name, compare_numbers(*([one["number"] for one in side] for side in found))
        else:
            yield name, compare_categories(*([one["value"] for one in side] for side in found))


def _concept(model: _Model) -> Comparison | None:
    """Feedback among questions of one language, of about one length, and about as well found."""
    rows = [*model.feedback[0], *model.feedback[1]]
    if min(len(side) for side in model.feedback) < _FEWEST_OF:
        return None
    cuts = {name: _terciles(rows, name) for name in ("prompt_tokens", "top_score")}

    def stratum(row: Mapping[str, Any]) -> tuple[Any, ...]:
        thirds = [None if row[name] is None else int(np.searchsorted(cut, row[name])) for name, cut in cuts.items()]
        return (row["question_language"], *thirds)

    before, after = ([(stratum(row), row["score"]) for row in side] for side in model.feedback)
    return compare_in_strata(before, after)


def _terciles(rows: Sequence[Mapping[str, Any]], name: str) -> list[float]:
    values = [row[name] for row in rows if row[name] is not None]
    return [float(cut) for cut in np.quantile(values, [1 / 3, 2 / 3])] if values else []
