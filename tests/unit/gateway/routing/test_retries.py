"""Retries help with a hiccup and do not feed an outage."""

from __future__ import annotations

import datetime
from email.utils import format_datetime

import pytest

from gateway.routing.retries import RetryBudget, pause, seconds_of


def test_a_full_purse_moves_the_whole_traffic_of_a_sudden_failure() -> None:
    budget = RetryBudget(share=0.1, reserve=200)
    assert sum(budget.take() for _ in range(300)) == 200


def test_under_a_lasting_outage_a_tenth_of_the_calls_is_tried_again() -> None:
    budget = RetryBudget(share=0.1, reserve=200)
    tries = 0
    for _ in range(100_000):
        budget.call()
        tries += budget.take()
    assert tries == pytest.approx(10_200, abs=1)


def test_what_is_saved_up_is_bounded_by_the_reserve() -> None:
    budget = RetryBudget(share=0.1, reserve=10)
    for _ in range(10_000):
        budget.call()
    assert sum(budget.take() for _ in range(100)) == 10


@pytest.mark.parametrize(
    ("told", "seconds"),
    [("3", 3.0), ("0.25", 0.25), ("-1", 0.0), ("1e9", 1e9), ("nan", None), ("soon", None), ("", None), (None, None)],
)
def test_a_retry_after_of_seconds(told: str | None, seconds: float | None) -> None:
    assert seconds_of(told) == seconds


def test_a_retry_after_of_a_date() -> None:
    date = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=90)
    assert seconds_of(format_datetime(date, usegmt=True)) == pytest.approx(90, abs=2)


def test_the_pause_is_what_was_asked_or_jitter_that_grows() -> None:
    assert pause("2", 0, 0.25, 8.0) == 2.0
    assert pause("9", 0, 0.25, 8.0) is None
    for attempt, most in enumerate([0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 8.0]):
        drawn = [pause(None, attempt, 0.25, 8.0) or 0.0 for _ in range(200)]
        assert 0 <= min(drawn) <= max(drawn) <= most
        assert max(drawn) > most / 2
