"""How good a search is, on questions whose answers are known: ranking, the text that was found, and time.

Ranking measures are ir-measures' (recall, reciprocal rank, nDCG, each at k, over documents). Token measures follow
https://research.trychroma.com/evaluating-chunking: of the words that answer, how many were found (recall); of the words
that were found, how many answer (precision); and both in one (intersection over union).
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median

import ir_measures
import numpy as np
from ir_measures import RR, R, nDCG

from retrieval.passages import Passage

Find = Callable[[str], Awaitable[Sequence[Passage]]]

_WORD = re.compile(r"\w+")
_SHUFFLES = 10_000
MEASURES = ("recall", "mrr", "ndcg", "span_recall", "token_precision", "token_iou")


class BadQuestions(ValueError):
    """The file of questions can't be used; the message says in which line and why."""


@dataclass(frozen=True, slots=True)
class Question:
    """`documents` are the ids of those that answer, `spans` the words that do."""

    text: str
    documents: tuple[str, ...] = ()
    spans: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Values for each question by measure's name, and seconds for each search. A measure that has no ground is absent."""

    name: str
    values: dict[str, list[float]]
    seconds: list[float]

    def mean(self, measure: str) -> float | None:
        values = self.values.get(measure)
        return fmean(values) if values else None

    @property
    def p50(self) -> float:
        return median(self.seconds)

    @property
    def p95(self) -> float:
        return float(np.percentile(self.seconds, 95))


def read_questions(file: Path) -> list[Question]:
    """A JSON object a line: `question`, and `documents` (ids) or `spans` (texts), or both. Raises BadQuestions."""
    questions = []
    for number, line in enumerate(file.read_text("utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            given = json.loads(line)
            documents, spans = given.get("documents", []), given.get("spans", [])
            made = Question(given["question"], tuple(documents), tuple(spans))
        except (ValueError, KeyError, TypeError, AttributeError):
            raise BadQuestions(
                f'{file}:{number}: should be like {{"question": "…", "documents": ["…"], "spans": ["…"]}}'
            ) from None
        texts = [made.text, *made.documents, *made.spans]
        if isinstance(documents, str) or isinstance(spans, str) or not all(isinstance(text, str) for text in texts):
            raise BadQuestions(f"{file}:{number}: `documents` and `spans` are lists of texts")
        if not made.documents and not made.spans:
            raise BadQuestions(f"{file}:{number}: names neither `documents` nor `spans`")
        questions.append(made)
    if not questions:
        raise BadQuestions(f"{file}: holds no question")
    return questions


async def evaluate(
    name: str, find: Find, questions: Sequence[Question], k: int, on_progress: Callable[[int], None]
) -> Evaluation:
    """Ask every question, one after another, and measure what is found in the first `k` passages."""
    seconds: list[float] = []
    values: dict[str, list[float]] = {measure: [] for measure in MEASURES}
    qrels, runs = [], []
    for number, question in enumerate(questions):
        on_progress(number)
        started = time.perf_counter()
        passages = (await find(question.text))[:k]
        seconds.append(time.perf_counter() - started)
        key = str(number)
        qrels += [ir_measures.Qrel(key, document, 1) for document in question.documents]
        ranked = dict.fromkeys(passage.document_id for passage in passages)
        runs += [ir_measures.ScoredDoc(key, document, -float(place)) for place, document in enumerate(ranked)]
        if question.spans:
            recall, precision, iou = tokens(question.spans, [passage.text for passage in passages])
            values["span_recall"].append(recall)
            values["token_precision"].append(precision)
            values["token_iou"].append(iou)
    named = {R @ k: "recall", RR @ k: "mrr", nDCG @ k: "ndcg"}
    if qrels:
        judged = {qrel.query_id for qrel in qrels}
        runs = [run for run in runs if run.query_id in judged]
        by_question: dict[str, dict[str, float]] = {measure: {} for measure in named.values()}
        if runs:
            for metric in ir_measures.iter_calc(list(named), qrels, runs):
                by_question[named[metric.measure]][metric.query_id] = metric.value
        for measure, found in by_question.items():  # where nothing was found, nothing is told
            values[measure] = [found.get(key, 0.0) for key in sorted(judged, key=int)]
    on_progress(len(questions))
    return Evaluation(name, {measure: found for measure, found in values.items() if found}, seconds)


def tokens(spans: Sequence[str], texts: Sequence[str]) -> tuple[float, float, float]:
    """(recall, precision, intersection over union) of the spans' words in what was found."""
    folded = [" ".join(_WORD.findall(text.lower())) for text in texts]
    wanted = found = 0
    for span in spans:
        words = _WORD.findall(span.lower())
        wanted += len(words)
        if words and any(f" {' '.join(words)} " in f" {text} " for text in folded):
            found += len(words)
    told = sum(len(text.split()) for text in folded)
    union = told + wanted - found
    return (found / wanted if wanted else 0.0, found / told if told else 0.0, found / union if union else 0.0)


def significance(one: Sequence[float], other: Sequence[float]) -> float:
    """The p-value of the difference of two means over the same questions: a paired randomisation test, two-sided.

    Smucker, Allan, Carterette: A Comparison of Statistical Significance Tests for IR Evaluation (CIKM 2007).
    """
    differences = np.asarray(one, dtype=np.float64) - np.asarray(other, dtype=np.float64)
    if not differences.any():
        return 1.0
    observed = abs(differences.mean())
    signs = np.random.default_rng(0).choice((-1.0, 1.0), size=(_SHUFFLES, len(differences)))
    shuffled = np.abs((signs * differences).mean(axis=1))
    return float(((shuffled >= observed - 1e-12).sum() + 1) / (_SHUFFLES + 1))
