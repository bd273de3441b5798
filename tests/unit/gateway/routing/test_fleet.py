"""What outlives a reload, and what a refused reload must not change."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter

from gateway.config.providers import Provider
from gateway.routing.candidates import Line, Traits
from gateway.routing.fleet import Fleet
from gateway.routing.health import Patience
from gateway.values import Target

TARGET = Target("gpu", "tiny")


def line() -> Line:
    return Line((), 10.0, 0, 0.0, 0.0, "external")


def settings(price: float) -> Any:
    """A provider's configuration, told from another one's by its price."""
    prices = {"*": {"input": price, "output": price}}
    return TypeAdapter(Provider).validate_python({"kind": "vllm", "prices": prices})


def compiled(fleet: Fleet, price: float, made: Line, patience: Patience, arms: tuple[str, ...]) -> Any:
    """What a revision's compilation does to the fleet."""
    got = fleet.line("gpu", settings(price), lambda: made)
    fleet.keep(["gpu"])
    fleet.prices.configure({"gpu": settings(price)})
    fleet.shared("chat").arms = arms
    return fleet.candidate(TARGET, got, patience, Traits())


def test_a_change_is_in_force_and_retires_what_it_replaces() -> None:
    fleet, first, second = Fleet(), line(), line()
    compiled(fleet, 1.0, first, Patience(), ("a", "b"))
    with fleet.change():
        candidate = compiled(fleet, 2.0, second, Patience(), ("a", "c"))
    assert candidate.line is second
    assert [one is first for one in fleet.retired()] == [True]
    assert fleet.shared("chat").arms == ("a", "c")


def test_a_change_that_fails_leaves_all_as_it_was() -> None:
    fleet, first = Fleet(), line()
    before = compiled(fleet, 1.0, first, Patience(), ("a", "b"))
    price = fleet.prices.price(TARGET)
    with pytest.raises(ValueError, match="a later fault"), fleet.change():
        compiled(fleet, 2.0, line(), Patience(failures=9), ("a", "c"))
        fleet.line("other", settings(3.0), line)
        fleet.shared("new").arms = ("x", "y")
        raise ValueError("a later fault")
    assert fleet.retired() == []
    assert fleet.prices.price(TARGET) == price
    assert fleet.shared("chat").arms == ("a", "b")
    assert set(fleet.routing) == {"chat"}
    again = compiled(fleet, 1.0, line(), Patience(), ("a", "b"))
    assert again.line is first
    assert again.circuit is before.circuit
    assert fleet.retired() == []


def test_names_that_callers_make_up_do_not_make_it_grow() -> None:
    fleet, made = Fleet(), line()
    fleet.prices.configure({"gpu": settings(1.0)})
    for number in range(6_000):
        target = Target("gpu", f"made-up-{number}")
        fleet.candidate(target, made, Patience(), Traits(), named=False)
        assert fleet.prices.known(target) is not None
    assert len(fleet.circuits()) == 2_000
    assert len(fleet.prices._known) == 5_000
    fleet.candidate(TARGET, made, Patience(), Traits())
    assert "gpu/tiny" in fleet.circuits()
