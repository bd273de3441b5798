"""In which order a model's targets are tried."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Protocol

from gateway.chat import Request
from gateway.exchange import Exchange
from gateway.providers.protocol import Attended
from gateway.routing.candidates import Candidate, Ranking


class Strategy(Protocol):
    def rank(self, request: Request, exchange: Exchange) -> Ranking:
        """The candidates to try for one call, best first; never empty."""


class Priority:
    """The targets as written, then the fallbacks."""

    def __init__(self, targets: Sequence[Candidate], fallbacks: Sequence[Candidate]) -> None:
        self._ranked = (*targets, *fallbacks)

    def rank(self, request: Request, exchange: Exchange) -> Ranking:
        return self._ranked


class Weighted:
    """The first target drawn by weight; the others follow in a drawn order too, then the fallbacks.

    Keys `u ** (1 / w)` sorted downwards give a weighted order without replacement: Efraimidis and Spirakis,
    Weighted random sampling with a reservoir, 2006. A weight of 0 keeps a target out of the draw's front.
    """

    def __init__(self, targets: Sequence[Candidate], fallbacks: Sequence[Candidate]) -> None:
        self._targets = targets
        self._fallbacks = tuple(fallbacks)

    def rank(self, request: Request, exchange: Exchange) -> Ranking:
        drawn = sorted(self._targets, key=_drawn, reverse=True)
        return (*drawn, *self._fallbacks)


def _drawn(candidate: Candidate) -> float:
    weight = candidate.target.weight
    return random.random() ** (1 / weight) if weight else -1.0


class Least:
    """The targets in the order of some measure, smallest first; equal ones as written. Then the fallbacks.

    The measure may be None where nothing is known yet: such a target comes first, so that something gets known.
    """

    def __init__(
        self,
        targets: Sequence[Candidate],
        fallbacks: Sequence[Candidate],
        measure: Callable[[Candidate], float | None],
        *,
        unknown_first: bool,
    ) -> None:
        self._targets = targets
        self._fallbacks = tuple(fallbacks)
        unknown = -1.0 if unknown_first else float("inf")

        def key(candidate: Candidate) -> float:
            measured = measure(candidate)
            return unknown if measured is None else measured

        self._key = key

    def rank(self, request: Request, exchange: Exchange) -> Ranking:
        return (*sorted(self._targets, key=self._key), *self._fallbacks)


def latency(candidate: Candidate) -> float | None:
    """Seconds to the first content. A slow target gets a call now and then, or nobody would see it recover."""
    measured = candidate.observed.latency
    return None if measured is None or random.random() < 0.02 else measured


def busy(targets: Sequence[Candidate]) -> Callable[[Candidate], float]:
    """Calls that a target has from us, or from everybody where its server says so; by lot among the equally busy.

    What a server says is a second old, so that what we have sent since must count too.
    """
    servers: dict[str, Attended] = {}
    for candidate in targets:
        provider = candidate.line.provider
        if isinstance(provider, Attended):
            provider.watched = True
            servers[candidate.target.label] = provider

    def measure(candidate: Candidate) -> float:
        server = servers.get(candidate.target.label)
        told = (server.load or 0.0) if server is not None else 0.0
        return max(candidate.load, told) + random.random()

    return measure
