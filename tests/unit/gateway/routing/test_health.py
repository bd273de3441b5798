"""A faulty target is out soon, and back by itself."""

from __future__ import annotations

import pytest

from gateway.routing.health import Circuit, Patience


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def circuit(clock: Clock) -> Circuit:
    return Circuit(Patience(failures=5, within=2.0, pause=1.0, longest=8.0), clock)


def fail(circuit: Circuit, times: int) -> None:
    for _ in range(times):
        circuit.failed("upstream_error")


def test_five_failures_in_a_row_open_it(circuit: Circuit) -> None:
    fail(circuit, 4)
    assert circuit.admits()
    fail(circuit, 1)
    assert (circuit.admits(), circuit.state, circuit.reason) == (False, "open", "upstream_error")


def test_nothing_but_failures_for_two_seconds_open_it(circuit: Circuit, clock: Clock) -> None:
    fail(circuit, 1)
    clock.now += 2.0
    assert circuit.admits()
    fail(circuit, 1)
    assert not circuit.admits()


def test_one_success_forgets_the_failures(circuit: Circuit) -> None:
    for _ in range(20):
        fail(circuit, 4)
        circuit.succeeded()
    assert circuit.admits()


def test_after_its_pause_one_call_probes_and_the_others_stay_away(circuit: Circuit, clock: Clock) -> None:
    fail(circuit, 5)
    clock.now += 1.0
    assert circuit.state == "half_open"
    assert [circuit.admits() for _ in range(3)] == [True, False, False]
    circuit.succeeded()
    assert (circuit.admits(), circuit.state, circuit.reason) == (True, "closed", None)


def test_each_failed_probe_doubles_the_pause_up_to_the_longest(circuit: Circuit, clock: Clock) -> None:
    fail(circuit, 5)
    pauses = []
    for _ in range(5):
        pauses.append(circuit.reopens_in)
        clock.now += circuit.reopens_in
        assert circuit.admits()
        circuit.failed("upstream_error")
    assert pauses == [1.0, 2.0, 4.0, 8.0, 8.0]


def test_failures_of_calls_that_were_under_way_do_not_prolong_the_pause(circuit: Circuit) -> None:
    fail(circuit, 50)
    assert circuit.reopens_in == 1.0


def test_a_probe_that_nobody_answers_for_is_not_waited_for_long(circuit: Circuit, clock: Clock) -> None:
    fail(circuit, 5)
    clock.now += 1.0
    assert circuit.admits()
    clock.now += 1.0
    assert circuit.admits()


@pytest.mark.parametrize(("asked", "pause"), [(0.5, 0.5), (30.0, 30.0), (1e9, 60.0)])
def test_a_target_that_says_when_to_come_back_is_left_alone_until_then(
    circuit: Circuit, asked: float, pause: float
) -> None:
    circuit.failed("rate_limit_exceeded", asked)
    assert (circuit.reopens_in, circuit.admits()) == (pause, False)
