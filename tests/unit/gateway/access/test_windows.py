"""Counts in memory: never more than the limit in any span of time, and nothing left held."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.access.windows import Level, Purse, Window

# Calls as they come: so many seconds after the one before, so much asked for.
CALLS = st.lists(st.tuples(st.floats(0, 70), st.integers(1, 7)), max_size=80)
BURSTS = st.lists(st.tuples(st.sampled_from((0.0, 0.01, 0.05, 0.5, 29.9, 59.95)), st.integers(1, 3)), max_size=120)


def granted(calls: list[tuple[float, int]], most: int, span: float) -> list[tuple[float, int]]:
    window, now, given_out = Window(span), 1_700_000_000.0, []
    for later, amount in calls:
        now += later
        if window.wait(now, amount, most) == 0:
            window.take(now, amount)
            given_out.append((now, amount))
    return given_out


@given(calls=CALLS | BURSTS, most=st.integers(1, 12))
def test_no_sixty_seconds_hold_more_than_the_limit(calls: list[tuple[float, int]], most: int) -> None:
    given_out = granted(calls, most, 60.0)
    for begin, _ in given_out:
        assert sum(amount for at, amount in given_out if begin <= at < begin + 60.0) <= most


@given(calls=CALLS | BURSTS, most=st.integers(1, 12), amount=st.integers(1, 12))
def test_what_is_told_to_come_back_fits_when_it_does_and_not_a_second_sooner(
    calls: list[tuple[float, int]], most: int, amount: int
) -> None:
    window, now = Window(60.0), 1_700_000_000.0
    for later, asked in calls:
        now += later
        if window.wait(now, asked, most) == 0:
            window.take(now, asked)
    wait = window.wait(now, amount, most)
    if amount > most:
        assert wait == math.inf
    elif wait > 0:
        assert wait <= 60.0
        if wait > 1.0:
            assert window.wait(now + wait - 1.0, amount, most) > 0
        assert window.wait(now + wait + 1e-6, amount, most) == 0


@given(
    calls=st.lists(st.tuples(st.floats(0, 20), st.integers(0, 50), st.integers(0, 60)), max_size=60),
    most=st.integers(1, 200),
)
def test_a_settled_reservation_counts_what_was_used_at_the_time_that_it_was_made(
    calls: list[tuple[float, int, int]], most: int
) -> None:
    window, now, used = Window(60.0), 1_700_000_000.0, []
    for later, reserved, real in calls:
        now += later
        if window.wait(now, reserved, most) == 0:
            window.settle(window.take(now, reserved), reserved, real)
            used.append((now, real))
    window.wait(now, 0, most)
    exact = sum(real for at, real in used if at + 60.0 > now)
    late = sum(real for at, real in used if at + 60.0 + 0.1 > now)  # a piece may count a tenth of a second longer
    assert exact <= window.used <= late


def test_a_reservation_settled_after_its_time_changes_nothing() -> None:
    window = Window(60.0)
    piece = window.take(100.0, 10)
    assert window.wait(161.0, 1, 10) == 0
    window.settle(piece, 10, 500)
    assert window.used == 0
    assert window.idle(161.0)


def test_a_window_stays_small_whatever_goes_through_it() -> None:
    window = Window(60.0)
    for tick in range(200_000):
        now = tick / 1000
        window.wait(now, 1, math.inf)
        window.take(now, 1)
    assert len(window._pieces) <= 601


@pytest.mark.parametrize(("taken", "most", "wait"), [(0, 2, 0), (1, 2, 0), (2, 2, 1.0), (0, 0, math.inf)])
def test_a_level_is_full_until_something_is_given_back(taken: int, most: int, wait: float) -> None:
    level = Level()
    for _ in range(taken):
        level.take(0.0, 1)
    assert level.wait(0.0, 1, most) == wait
    for _ in range(taken):
        level.settle(None, 1, 0)
    assert level.idle(0.0)


@given(calls=st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50), st.booleans()), max_size=80))
def test_a_purse_is_overspent_by_no_more_than_was_reserved_in_flight(calls: list[tuple[int, int, bool]]) -> None:
    purse, most, flying = Purse("2026-11", 1e12), 100, []
    for reserved, real, ends in calls:
        if purse.wait(0.0, reserved, most) == 0:
            flying.append((purse.take(0.0, reserved), reserved, min(real, reserved)))
        if ends and flying:
            by, reserved, used = flying.pop(0)
            purse.settle(by, reserved, used)
        last = max((reserved for _, reserved, _ in flying), default=0)
        assert purse.used < most + max(last, 50)
        assert purse.held == sum(reserved for _, reserved, _ in flying)
    for by, reserved, used in flying:
        purse.settle(by, reserved, used)
    assert purse.held == 0


def test_all_of_a_budget_can_be_spent_by_calls_one_after_another_however_much_they_reserve() -> None:
    purse, served = Purse("2026-11", 1e12), 0
    while purse.wait(0.0, 9_000, 1_000) == 0:
        purse.settle(purse.take(0.0, 9_000), 9_000, 10)
        served += 1
    assert (served, purse.spent, purse.held) == (100, 1_000, 0)


def test_who_is_stopped_by_calls_that_run_may_soon_come_again() -> None:
    purse = Purse("2026-11", 5_000.0)
    purse.take(1_000.0, 100)
    assert purse.wait(1_000.0, 1, 100) == 1.0
    purse.settle(purse, 100, 100)
    assert purse.wait(1_000.0, 1, 100) == 4_000.0


def test_a_lagging_record_store_takes_nothing_back() -> None:
    purse = Purse("2026-11", 5_000.0)
    purse.learn(70)
    purse.settle(purse.take(0.0, 10), 10, 10)
    purse.learn(75)
    assert purse.spent == 80
