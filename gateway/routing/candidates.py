"""What a call may go to: a target, with its provider's connections, its health and what was seen of it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from gateway.chat import Request
from gateway.errors import CredentialRefused, GatewayError, UpstreamLimited
from gateway.exchange import Exchange
from gateway.providers.protocol import Provider
from gateway.routing.health import Circuit
from gateway.routing.observed import Observed
from gateway.routing.queueing import ServerQueue
from gateway.routing.retries import seconds_of
from gateway.values import Residency, Target

_KEY_PAUSE: Final = 60.0  # seconds that an API key is left alone after it was refused


class Lane:
    """A provider under one of its API keys."""

    __slots__ = ("_rests_until", "provider")

    def __init__(self, provider: Provider) -> None:
        self.provider = provider
        self._rests_until = 0.0

    @property
    def rests(self) -> bool:
        return self._rests_until > time.monotonic()

    def failed(self, error: GatewayError) -> bool:
        """Whether `error` concerns this key alone, so that another one of the same provider may do."""
        if isinstance(error, UpstreamLimited):
            self._rests_until = time.monotonic() + min(seconds_of(error.retry_after) or 1.0, _KEY_PAUSE)
            return True
        if isinstance(error, CredentialRefused):
            self._rests_until = time.monotonic() + _KEY_PAUSE
            return True
        return False


@dataclass(frozen=True, slots=True)
class Line:
    """A provider with the patience that its configuration gives it. Times in seconds.

    `lanes`: one for each API key, used in turn; a key that is limited or refused rests.
    """

    lanes: tuple[Lane, ...]
    total: float
    retries: int
    backoff: float
    max_backoff: float
    residency: Residency
    turn: list[int] = field(default_factory=lambda: [0])

    @property
    def provider(self) -> Provider:
        """Any of them, for what does not depend on the key."""
        return self.lanes[0].provider

    def lane(self) -> Lane:
        """The lane for the next try: the keys take turns, those that rest are passed over while another is awake."""
        lanes = self.lanes
        if len(lanes) == 1:
            return lanes[0]
        turn = self.turn
        for _ in lanes:
            turn[0] = (turn[0] + 1) % len(lanes)
            if not lanes[turn[0]].rests:
                break
        return lanes[turn[0]]

    @property
    def awake(self) -> bool:
        """Whether there is a key that does not rest."""
        return any(not lane.rests for lane in self.lanes)

    async def aclose(self) -> None:
        for lane in self.lanes:
            await lane.provider.aclose()


@dataclass(frozen=True, slots=True)
class Traits:
    """What an operator has said that a target can take. None: not said, so anything is sent."""

    context_length: int | None = None
    images: bool | None = None
    tools: bool | None = None


class Held(Protocol):
    """What one try holds of a target's limits."""

    def settle(self, exchange: Exchange) -> None: ...

    def settle_unused(self) -> None:
        """The try came to nothing."""


class Gate(Protocol):
    """Asks a target's own limits before each try."""

    async def enter(self, request: Request, exchange: Exchange) -> Held:
        """Raises LimitReached where the target is at one."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One target of a public model, with all that choosing and calling it needs."""

    target: Target
    line: Line
    circuit: Circuit
    observed: Observed
    traits: Traits = Traits()
    gate: Gate | None = None
    queue: ServerQueue | None = None

    @property
    def load(self) -> int:
        """Calls that it has from us, with those that wait for its server here."""
        return self.observed.in_flight + (self.queue.waiting if self.queue is not None else 0)

    def ended(self, exchange: Exchange) -> None:
        """A call that this target had begun to answer is over; an answer that broke off counts against it."""
        self.observed.in_flight -= 1
        if exchange.outcome == "error" and (exchange.error_code or "").startswith("upstream"):
            self.circuit.failed(exchange.error_code or "")


Ranking = Sequence[Candidate]
"""Candidates in the order in which a call tries them."""
