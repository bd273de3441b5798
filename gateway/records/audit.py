"""What the call log proves: where each labelled call was sent, what each arm's choices earned."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import msgspec
from sqlalchemy import text

from gateway.records.calls import first_id
from gateway.records.database import Database


@dataclass(frozen=True, slots=True)
class Sent:
    """One try of one labelled call. `residency` is the provider's as it was configured then."""

    call_id: str
    started_at: int
    label: str
    target: str
    residency: str


def labelled(database: Database, since: int) -> Iterator[Sent]:
    """Every try of every call that carries a sensitivity label, from `since` (ns since the epoch) on.

    A call that no target was asked for, such as one that residency refused, has none. Raises StoreUnavailable.
    """
    within = "instr(detail, :label)" if database.embedded else "position(:label IN detail)"
    query = text(f"SELECT call_id, started_at, detail FROM calls WHERE started_at >= :since AND {within} > 0")
    with database.reading() as connection:
        rows = connection.execution_options(stream_results=True).execute(
            query, {"since": since, "label": b'"sensitivity"'}
        )
        for call_id, started_at, raw in rows:
            detail = msgspec.json.decode(raw)
            label = detail.get("sensitivity")
            if label is not None:
                for attempt in detail["attempts"]:
                    yield Sent(call_id, started_at, label, attempt[0], attempt[5] if len(attempt) > 5 else "unknown")


# Ids of calls begin with their time: what is asked for is found by them, and `calls` needs no index by model.
_REWARDED = text("""
    SELECT calls.detail, feedback.score FROM (
        SELECT min(id) AS id FROM feedback WHERE call_id >= :first AND score IS NOT NULL GROUP BY call_id
    ) AS firsts
    JOIN feedback ON feedback.id = firsts.id
    JOIN calls ON calls.call_id = feedback.call_id
    WHERE calls.model = :model AND calls.started_at >= :since
""")


def rewarded(database: Database, model: str, since: int) -> Iterator[tuple[str, float, float]]:
    """(arm, propensity, reward) of a model's calls from `since` on that were rated; the first score counts."""
    with database.reading() as connection:
        for raw, score in connection.execute(_REWARDED, {"model": model, "since": since, "first": first_id(since)}):
            arm = msgspec.json.decode(raw).get("arm")
            if arm is not None and arm["propensity"]:
                yield arm["name"], arm["propensity"], score
