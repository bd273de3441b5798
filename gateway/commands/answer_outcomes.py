"""Questions to outcomes: each asked of a running gateway, and measured; and all of them in one report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean, median
from typing import Any

import numpy as np
from cachetools import LRUCache
from numpy.typing import NDArray

from gateway.commands.gateway_client import CallFailed, GatewayClient, Told
from retrieval.answer_evaluation import Annotation, AnswerQuestion, GivenAnswer, Source, likeness, means, measure
from retrieval.judging import BadVerdict, messages, verdicts

_KEPT = 20_000  # vectors


@dataclass(frozen=True, slots=True)
class Settings:
    """`embeddings` and `judge` are models of the gateway; without one, what it measures is left out."""

    model: str
    embeddings: str | None
    judge: str | None
    threshold: float
    user: str | None = None


@dataclass(slots=True)
class Outcome:
    """What became of one question. `failure`: there is no answer. `faults`: a measure could not be taken, and why.

    `whole`: the sources were the whole passages, not their beginnings. `cost` in USD.
    """

    question: AnswerQuestion
    told: Told | None = None
    failure: str | None = None
    faults: list[str] = field(default_factory=list)
    whole: bool = False
    cost: float | None = None
    measured: dict[str, float] = field(default_factory=dict)


class Embedded:
    """A model's vectors through the gateway; those of the texts that came last are kept, since passages come again."""

    def __init__(self, gateway: GatewayClient, model: str) -> None:
        self._gateway = gateway
        self._model = model
        self._kept: LRUCache[str, NDArray[np.float32]] = LRUCache(_KEPT)

    async def embed(self, texts: Sequence[str], sensitivity: str | None) -> list[NDArray[np.float32]]:
        """A vector for each text, in order; the texts have this label. Raises CallFailed."""
        found = {text: self._kept[text] for text in texts if text in self._kept}
        new = [text for text in dict.fromkeys(texts) if text not in found]
        for text, vector in zip(new, await self._gateway.embed(self._model, new, sensitivity), strict=True):
            found[text] = self._kept[text] = np.asarray(vector, dtype=np.float32)
        return [found[text] for text in texts]


async def ask(outcome: Outcome, gateway: GatewayClient, settings: Settings) -> None:
    """Get the answer, or the reason why there is none."""
    try:
        outcome.told = await gateway.ask(settings.model, outcome.question.text, settings.user)
    except CallFailed as failure:
        outcome.failure = str(failure)


async def weigh(
    outcome: Outcome, gateway: GatewayClient, embedded: Embedded | None, judge: str | None, threshold: float
) -> None:
    """Measure the answer, where there is one."""
    if outcome.told is None:
        return
    record: dict[str, Any] = {}
    if outcome.told.call_id or outcome.told.sources:
        try:
            record = await gateway.record(outcome.told.call_id)
        except CallFailed as failure:
            outcome.faults.append(f"the call's record could not be read: {failure}")
    outcome.cost = record.get("cost")
    answer, outcome.whole = _given(outcome.told, record)
    alike = judged = None
    # Passages go no further than their label lets them, and without the record nobody knows it.
    if answer.sources and record and (sentences := [sentence.text for sentence in answer.read().sentences]):
        label = record.get("sensitivity")
        if embedded is not None:
            try:
                alike = await likeness(answer, lambda texts: embedded.embed(texts, label))
            except CallFailed as failure:
                outcome.faults.append(f"the texts could not be compared: {failure}")
        if judge is not None:
            asked = messages(outcome.question.text, sentences, [source.text for source in answer.sources])
            try:
                judged = verdicts(await gateway.complete(judge, asked, label), len(sentences))
            except (CallFailed, BadVerdict) as failure:
                outcome.faults.append(f"{judge} gave no verdict: {failure}")
    outcome.measured = measure(outcome.question, answer, likeness=alike, threshold=threshold, verdicts=judged)


def _given(told: Told, record: dict[str, Any]) -> tuple[GivenAnswer, bool]:
    """The answer with its sources as whole passages, where the call's record has them, else as their beginnings."""
    whole = {passage.get("section_id"): passage.get("text") for passage in record.get("passages") or ()}
    texts = [whole.get(source.get("section_id")) for source in told.sources]
    sources = tuple(
        Source(
            str(source.get("document_id") or ""),
            text if isinstance(text, str) else str(source.get("quote") or ""),
            str(source.get("url") or ""),
        )
        for source, text in zip(told.sources, texts, strict=True)
    )
    annotations = tuple(
        Annotation(int(each.get("start_index") or 0), int(each.get("end_index") or 0), str(each.get("url") or ""))
        for each in told.citations
    )
    return GivenAnswer(told.text, sources, annotations, told.removed_marks), None not in texts


def report(outcomes: Sequence[Outcome], settings: Settings) -> dict[str, Any]:
    """All that there is to say, as `--json` prints it."""
    given = [(outcome, outcome.told) for outcome in outcomes if outcome.told is not None]
    told = [each for _, each in given]
    seconds = [each.seconds for each in told]
    costs = [outcome.cost for outcome in outcomes if outcome.cost is not None]
    with_sources = [outcome for outcome, each in given if each.sources]
    return {
        "model": settings.model,
        "embeddings": settings.embeddings,
        "threshold": settings.threshold,
        "judge": settings.judge,
        "questions": len(outcomes),
        "answered": len(told),
        "failed": len(outcomes) - len(told),
        "not_fully_measured": sum(bool(outcome.faults) for outcome in outcomes),
        "refused": sum(each.refused for each in told),
        "without_passages": sum(not each.sources and not each.refused for each in told),
        "empty": sum(not each.text.strip() and not each.refused for each in told),
        "degraded": sum(each.degraded for each in told),
        "with_sources": len(with_sources),
        "with_whole_passages": sum(outcome.whole for outcome in with_sources),
        "measures": {
            name: {"mean": round(mean.value, 4), "questions": mean.questions}
            for name, mean in means(outcome.measured for outcome in outcomes).items()
        },
        "seconds": {"p50": median(seconds), "p95": float(np.percentile(seconds, 95))} if seconds else None,
        "cost_usd": {"sum": sum(costs), "mean": fmean(costs), "answers": len(costs)} if costs else None,
        "answers": [
            {
                "line": outcome.question.line,
                "question": outcome.question.text,
                "answer": outcome.told.text if outcome.told else None,
                "call_id": outcome.told.call_id if outcome.told else None,
                "documents": [source.get("document_id") for source in outcome.told.sources] if outcome.told else [],
                "refused": outcome.told.refused if outcome.told else False,
                "seconds": outcome.told.seconds if outcome.told else None,
                "cost_usd": outcome.cost,
                "measures": outcome.measured,
                "failure": outcome.failure,
                "faults": outcome.faults,
            }
            for outcome in outcomes
        ],
    }
