"""E5: the wall clock's steps do not move the time that limits go by."""

from __future__ import annotations

import pytest

from gateway.access.clock import SteadyClock


@pytest.mark.parametrize("step", [3600.0, -3600.0])
def test_a_step_of_the_wall_clock_is_not_seen(step: float) -> None:
    wall, running = [1_700_000_000.0], [50.0]
    clock = SteadyClock(lambda: running[0], lambda: wall[0])
    running[0] += 10
    wall[0] += 10 + step
    assert clock() == 1_700_000_010.0


def test_it_begins_with_the_wall_clock_and_goes_on() -> None:
    import time

    clock = SteadyClock()
    before = clock()
    assert abs(before - time.time()) < 60
    assert clock() >= before
