"""What a document's age does to its score."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from retrieval.questions import Freshness, seconds_of

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC).timestamp()


def test_age_halves_its_share_of_the_score() -> None:
    fresh = Freshness("updated_at", half_life=100.0, weight=0.4)
    aged = [fresh.factor({"updated_at": NOON - age}, NOON) for age in (0, 100, 200, 1e9)]
    assert aged == pytest.approx([1.0, 0.8, 0.7, 0.6])
    assert fresh.factor({"updated_at": NOON + 50}, NOON) == 1.0, "a time to come is now"
    assert fresh.factor({}, NOON) == pytest.approx(0.6), "without a time it counts as old"


@pytest.mark.parametrize(
    ("told", "seconds"),
    [
        (NOON, NOON), ("2026-01-01T12:00:00Z", NOON), ("2026-01-01T13:00:00+01:00", NOON), ("2026-01-01", NOON - 43_200),
        (True, None), ("soon", None), (None, None), ([], None),
    ],
)  # fmt: skip
def test_a_time_is_seconds_or_a_date(told: Any, seconds: float | None) -> None:
    assert seconds_of(told) == seconds
