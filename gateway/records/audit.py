"""What the call log proves: where each labelled call was sent, what each arm's choices earned."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from gateway.records.sqlite import connect


@dataclass(frozen=True, slots=True)
class Sent:
    """One try of one labelled call. `residency` is the provider's as it was configured then."""

    call_id: str
    started_at: int
    label: str
    target: str
    residency: str


def labelled(path: Path, since: int) -> Iterator[Sent]:
    """Every try of every call that carries a sensitivity label, from `since` (ns since the epoch) on.

    A call that no target was asked for, such as one that residency refused, has none. Raises sqlite3.Error.
    """
    connection = connect(path)
    try:
        rows = connection.execute(
            "SELECT call_id, started_at, detail FROM calls WHERE started_at >= ? AND instr(detail, '\"sensitivity\"') > 0",
            (since,),
        )
        for call_id, started_at, raw in rows:
            detail = msgspec.json.decode(raw)
            label = detail.get("sensitivity")
            if label is not None:
                for attempt in detail["attempts"]:
                    yield Sent(call_id, started_at, label, attempt[0], attempt[5] if len(attempt) > 5 else "unknown")
    finally:
        connection.close()


def rewarded(path: Path, model: str, since: int) -> Iterator[tuple[str, float, float]]:
    """(arm, propensity, reward) of a model's calls from `since` on that were rated; the first score counts."""
    connection = connect(path)
    try:
        rows = connection.execute(
            "SELECT detail, (SELECT score FROM feedback WHERE feedback.call_id = calls.call_id "
            "AND score IS NOT NULL ORDER BY id LIMIT 1) AS score "
            "FROM calls WHERE model = ? AND started_at >= ? AND score IS NOT NULL",
            (model, since),
        )
        for raw, score in rows:
            arm = msgspec.json.decode(raw).get("arm")
            if arm is not None and arm["propensity"]:
                yield arm["name"], arm["propensity"], score
    finally:
        connection.close()
