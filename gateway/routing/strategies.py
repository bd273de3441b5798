"""In which order a model's targets are tried."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Protocol

from gateway.values import Target


class Strategy(Protocol):
    def rank(self) -> Sequence[Target]:
        """The targets to try for one call, best first; never empty."""


class Priority:
    """The targets as written, then the fallbacks."""

    def __init__(self, targets: Sequence[Target], fallbacks: Sequence[Target]) -> None:
        self._ranked = (*targets, *fallbacks)

    def rank(self) -> Sequence[Target]:
        return self._ranked


class Weighted:
    """The first target drawn by weight; the others follow in a drawn order too, then the fallbacks.

    Keys `u ** (1 / w)` sorted downwards give a weighted order without replacement: Efraimidis and Spirakis,
    Weighted random sampling with a reservoir, 2006. A weight of 0 keeps a target out of the draw's front.
    """

    def __init__(self, targets: Sequence[Target], fallbacks: Sequence[Target]) -> None:
        self._targets = targets
        self._fallbacks = tuple(fallbacks)

    def rank(self) -> Sequence[Target]:
        drawn = sorted(
            self._targets,
            key=lambda target: random.random() ** (1 / target.weight) if target.weight else -1.0,
            reverse=True,
        )
        return (*drawn, *self._fallbacks)
