"""Whose turn it is: by weight, within a bound, and nobody never."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.routing.fairness import WEIGHTS, FairOrder
from gateway.values import Priority

Call = tuple[Priority, str, int]

PRIORITIES = st.sampled_from(sorted(WEIGHTS))
TENANTS = st.sampled_from("abcd")
SHARES = st.dictionaries(TENANTS, st.floats(0.25, 8.0), max_size=4)


def filled(order: FairOrder[Call], calls: dict[tuple[Priority, str], int]) -> None:
    for (priority, tenant), count in calls.items():
        for number in range(count):
            order.add(order.flow(priority, tenant), (priority, tenant, number))


def taken(order: FairOrder[Call]) -> Iterator[Call]:
    while order.waiting:
        yield order.take()


@given(SHARES, st.dictionaries(st.tuples(PRIORITIES, TENANTS), st.integers(1, 30), min_size=1))
def test_everybody_has_a_turn_and_a_tenants_calls_keep_their_order(
    shares: dict[str, float], calls: dict[tuple[Priority, str], int]
) -> None:
    order: FairOrder[Call] = FairOrder(shares)
    filled(order, calls)
    by_flow: dict[tuple[str, str], list[int]] = defaultdict(list)
    for priority, tenant, number in taken(order):
        by_flow[priority, tenant].append(number)
    assert by_flow == {flow: list(range(count)) for flow, count in calls.items()}
    assert all(count == 0 for count in order.by_class().values())


@given(SHARES, st.sets(TENANTS, min_size=2), st.integers(1, 200))
def test_tenants_that_wait_get_their_shares_to_within_a_call(
    shares: dict[str, float], tenants: set[str], turns: int
) -> None:
    """The bound of start-time fair queueing: what two of them got, by their weights, differs by a call of each."""
    order: FairOrder[Call] = FairOrder(shares)
    filled(order, {("normal", tenant): 200 for tenant in tenants})
    got = Counter(tenant for _, (_, tenant, _) in zip(range(turns), taken(order), strict=False))
    each = {tenant: (got[tenant] / weight, 1 / weight) for tenant in tenants for weight in (shares.get(tenant, 1.0),)}
    for had, one in each.values():
        for other_had, other_one in each.values():
            assert abs(had - other_had) <= one + other_one + 1e-6


@given(st.sets(PRIORITIES, min_size=2), st.integers(1, 300))
def test_a_class_is_never_starved_by_those_above_it(classes: set[Priority], turns: int) -> None:
    order: FairOrder[Call] = FairOrder({})
    filled(order, {(priority, "a"): 300 for priority in classes})
    got = Counter(priority for _, (priority, _, _) in zip(range(turns), taken(order), strict=False))
    whole = sum(WEIGHTS[priority] for priority in classes)
    for priority in classes:
        assert got[priority] >= int(turns * WEIGHTS[priority] / whole) - 1


EVENTS = st.sampled_from(["add", "add", "add", "take", "begin", "end", "leave", "evict", "reweigh"])


@settings(max_examples=200)
@given(SHARES, st.lists(st.tuples(EVENTS, PRIORITIES, TENANTS, st.integers(0, 50)), max_size=120))
def test_whatever_comes_and_goes_nothing_is_left_over(
    shares: dict[str, float], events: list[tuple[str, Priority, str, int]]
) -> None:
    order: FairOrder[Call] = FairOrder(shares)
    waiting: list[Call] = []
    running: list[Call] = []
    for count, (what, priority, tenant, which) in enumerate(events):
        if what == "add":
            waiting.append((priority, tenant, count))
            order.add(order.flow(priority, tenant), waiting[-1])
        elif what == "take" and waiting:
            running.append(order.take())
            waiting.remove(running[-1])
        elif what == "begin" and not waiting:
            running.append((priority, tenant, count))
            order.begin(order.flow(priority, tenant))
        elif what == "end" and running:
            call = running.pop(which % len(running))
            order.end(order.flow(call[0], call[1]), float(which))
        elif what == "leave" and waiting:
            call = waiting.pop(which % len(waiting))
            order.leave(order.flow(call[0], call[1]), call)
        elif what == "evict" and waiting:
            out = order.newest_of_most(order.flow(priority, tenant))
            if out is not None:
                waiting.remove(out[1])
                order.leave(*out)
        elif what == "reweigh":
            order.reweigh({"a": 1.0 + which})
        assert order.waiting == len(waiting) == sum(order.by_class().values())
    assert sorted(taken(order)) == sorted(waiting)
    assert order.waiting == 0


def test_who_comes_back_from_idleness_has_saved_up_nothing() -> None:
    order: FairOrder[Call] = FairOrder({})
    filled(order, {("normal", "a"): 50})
    for _ in range(40):
        order.take()
    filled(order, {("normal", "b"): 10})
    assert Counter(tenant for _, tenant, _ in (order.take() for _ in range(10)))["b"] in (5, 6)


def test_who_used_what_was_free_pays_nothing_for_it() -> None:
    order: FairOrder[Call] = FairOrder({})
    for _ in range(1000):
        order.begin(order.flow("normal", "a"))
    filled(order, {("normal", "a"): 10, ("normal", "b"): 10})
    assert Counter(tenant for _, tenant, _ in (order.take() for _ in range(10)))["a"] in (4, 5)


def test_a_tenant_of_long_calls_gets_the_same_time_as_one_of_short_ones() -> None:
    order: FairOrder[Call] = FairOrder({})
    used: Counter[str] = Counter()
    for tenant, seconds in (("a", 4.0), ("b", 1.0)) * 20:
        order.begin(order.flow("normal", tenant))
        order.end(order.flow("normal", tenant), seconds)
    filled(order, {("normal", "a"): 400, ("normal", "b"): 400})
    for _ in range(300):
        _, tenant, _ = order.take()
        seconds = 4.0 if tenant == "a" else 1.0
        order.end(order.flow("normal", tenant), seconds)
        used[tenant] += int(seconds)
    assert used["a"] / used["b"] == pytest.approx(1.0, abs=0.15)


def test_where_there_is_no_room_the_newest_of_the_most_crowded_goes() -> None:
    order: FairOrder[Call] = FairOrder({"b": 10.0})
    filled(order, {("normal", "a"): 5, ("normal", "b"): 20, ("low", "c"): 1})
    out = order.newest_of_most(order.flow("normal", "d"))
    assert out is not None
    assert out[1] == ("normal", "a", 4)
    assert order.newest_of_most(order.flow("normal", "a")) is None


def test_the_expected_wait_is_the_tenants_own() -> None:
    """Behind a crowd of another tenant's calls it is not the crowd that a call waits for."""
    order: FairOrder[Call] = FairOrder({})
    assert order.expected(order.flow("normal", "a"), 4) is None
    order.begin(order.flow("normal", "a"))
    order.end(order.flow("normal", "a"), 2.0)
    filled(order, {("normal", "a"): 99})
    assert order.expected(order.flow("normal", "a"), 4) == pytest.approx(50.0)
    assert order.expected(order.flow("normal", "b"), 4) == pytest.approx(
        1.0
    )  # half of the server, and nobody before it


def test_tenants_that_are_gone_are_forgotten() -> None:
    order: FairOrder[Call] = FairOrder({})
    for number in range(5_000):
        flow = order.flow("normal", f"t{number}")
        order.begin(flow)
        order.end(flow, 1.0)
    assert len(order.flow("normal", "last").of.flows) <= 1_001
