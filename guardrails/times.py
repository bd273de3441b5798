"""How long each rule's check takes for one text, however many pieces the text comes in; told once, at its end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol


class Timed(Protocol):
    """A rule. `took` hears the nanoseconds; None where nobody wants to know."""

    @property
    def took(self) -> Callable[[int], None] | None: ...


class Times:
    """`spent` are nanoseconds, in the order of the rules."""

    __slots__ = ("_told", "spent")

    def __init__(self, rules: Sequence[Timed]) -> None:
        self._told = [rule.took for rule in rules]
        self.spent = [0] * len(rules)

    def tell(self) -> None:
        """A second time does nothing."""
        told, self._told = self._told, []
        for took, spent in zip(told, self.spent, strict=False):
            if took is not None:
                took(spent)
