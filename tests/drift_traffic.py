"""Made-up traffic of one model with a known shift, or none, as the lake's tables; the same for the same seed."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds

from gateway.lake.filling import table_of
from gateway.lake.query import Queries
from gateway.lake.reading import schema_of

NOW = datetime.datetime(2026, 11, 21, 12, tzinfo=datetime.UTC).timestamp()
WINDOW, REFERENCE = 86_400.0, 7 * 86_400.0

_TOPICS, _DIMENSIONS = 6, 48
_PLANS = ("free", "team", "enterprise")


@dataclass(frozen=True, slots=True)
class Shift:
    """What is other in the window: shares and factors; as it stands, nothing."""

    new_topic: float = 0.0  # share of questions about something new
    length: float = 1.0  # factor on the length of questions
    score: float = 0.0  # taken from the best passage's score
    nothing_found: float = 0.03
    cites: float = 0.9
    plan: tuple[float, float, float] = (0.6, 0.3, 0.1)
    age: float = 0.0  # days added to a feature that is a number
    answer: float = 1.0  # factor on the length of answers
    refusals: float = 0.04
    german: float = 0.1
    liking: float = 0.8  # share of good feedback, whatever was asked


SHIFTS: dict[str, dict[str, Shift]] = {
    "input": {
        "questions about something new (30 %)": Shift(new_topic=0.3),
        "questions twice as long": Shift(length=2.0),
        "a third in another language": Shift(german=0.35),
    },
    "retrieval": {
        "scores lower by 0.15": Shift(score=0.15),
        "nothing found for a quarter": Shift(nothing_found=0.25),
        "half of the answers cite nothing": Shift(cites=0.5),
    },
    "feature": {
        "another mix of plans": Shift(plan=(0.2, 0.3, 0.5)),
        "a number that is larger by a third": Shift(age=40.0),
    },
    "output": {
        "answers half as long": Shift(answer=0.5),
        "a quarter are refusals": Shift(refusals=0.25),
    },
    "concept": {"the same questions, liked less": Shift(liking=0.5)},
}


def traffic(seed: int, shift: Shift, *, calls: int = 2_800, window: int = 400) -> Queries:
    """A reference of `calls` calls over seven days without shift, and a day's `window` with it."""
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(7).normal(size=(_TOPICS + 1, _DIMENSIONS))
    made: dict[str, list[dict[str, Any]]] = {"calls": [], "vectors": [], "feedback": []}
    for number in range(calls + window):
        recent = number >= calls
        at = NOW - (random.uniform(0, WINDOW) if recent else WINDOW + random.uniform(0, REFERENCE))
        _add(made, f"call_{seed:06x}{number:08x}", int(at * 1e6), shift if recent else Shift(), random, centres)
    tables = {name: _dataset(name, rows) for name, rows in made.items()}
    tables["contents"] = ds.dataset(schema_of("contents").empty_table())
    return Queries(lambda: tables, threads=1)


def _add(
    made: dict[str, list[dict[str, Any]]],
    call_id: str,
    at: int,
    shift: Shift,
    random: np.random.Generator,
    centres: np.ndarray[Any, Any],
) -> None:
    new = random.random() < shift.new_topic
    topic = _TOPICS if new else int(random.integers(_TOPICS))
    german = random.random() < shift.german
    found = random.random() >= shift.nothing_found
    refused = random.random() < shift.refusals
    score = float(np.clip(random.beta(8, 3) - shift.score, 0, 1)) if found else None
    language = "de" if german else "en"
    chars = int(random.lognormal(4.2, 0.5) * shift.length)
    about = {"call_id": call_id, "tenant": "a", "user": None, "started_at": at, "model": "handbook"}
    made["calls"].append({
        **about, "request_id": call_id, "outcome": "ok", "status": 200, "finish_reason": "stop",
        "prompt_tokens": 400 + chars // 4, "completion_tokens": int(random.lognormal(5, 0.6) * shift.answer),
        "question_chars": chars, "question_language": language, "answer_language": language, "refused": refused,
        "passage_count": 6 if found else 0, "top_score": score,
        "cited": int(random.random() < shift.cites) * int(random.integers(1, 4)) if found else None,
        "features": [
            {"name": "plan", "value": str(random.choice(_PLANS, p=shift.plan)), "number": None},
            {"name": "account_age", "value": "", "number": float(random.gamma(4, 30) + shift.age)},
        ],
    })  # fmt: skip
    if random.random() < 0.4:
        vector = centres[topic] + random.normal(scale=0.8, size=_DIMENSIONS)
        made["vectors"].append({**about, "embedder": "test", "vector": vector / np.linalg.norm(vector)})
    if random.random() < 0.4:
        made["feedback"].append({
            "feedback_id": len(made["feedback"]) + 1, "call_id": call_id, "tenant": "a", "given_at": at + 30_000_000,
            "score": float(random.random() < shift.liking), "commented": False, "corrected": False,
        })  # fmt: skip


def _dataset(name: str, rows: list[dict[str, Any]]) -> ds.Dataset:
    table = table_of(name, rows)
    time = table.column("started_at" if name != "feedback" else "given_at")
    return ds.dataset(pa.table({"date": time.cast(pa.date32()), **{n: table.column(n) for n in table.column_names}}))
