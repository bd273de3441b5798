"""Who keeps the counts: all of a call's asks are granted together, or none of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from gateway.access.meters import Ask, Meter
    from gateway.access.spending import Spending
    from gateway.access.windows import Purse


class Unknown(Exception):
    """The counts can't be had now, and the configuration says to refuse what is limited then."""


class Counters(Protocol):
    """Times are of `clock`: seconds since the epoch that never step."""

    @property
    def clock(self) -> Callable[[], float]: ...

    async def take(self, asks: Sequence[Ask]) -> bool:
        """Whether all of `asks` fit; they are counted then, and `used` and `by` say what came of it.

        Otherwise nothing is counted, and those that did not fit have a `wait` above 0. Raises Unknown.
        """

    async def look(self, meter: Meter) -> tuple[int, int]:
        """What is used of it now, with what is only reserved; and what is reserved."""

    def note(self, ask: Ask, real: int) -> None:
        """Count `real`, whether it fits or not: it was used beside a call, and nothing was reserved for it."""

    def settle(self, ask: Ask, real: int) -> None:
        """Put what was really used in the place of what was taken; what is only held is given back. Once an ask."""

    def learned(self, meter: Meter, purse: Purse) -> None:
        """The record store was read: the purse knows what it says."""

    async def run(self) -> None:
        """What there is to do beside the calls, until cancelled."""

    @property
    def alone(self) -> bool:
        """Whether this process goes by its own counts only because the shared ones are away."""


def grant(asks: Sequence[Ask], now: float, share: float = 1.0) -> bool:
    """Count all of `asks` where each fits into `share` of its ceiling; none otherwise."""
    fits = True
    for ask in asks:
        state = state_of(ask.meter, now)
        most = ask.ceiling.most
        ask.wait = state.wait(now, ask.amount, most if share == 1.0 else state.share(most, share))
        if ask.wait:
            fits = False
    for ask in asks:
        state = ask.meter.state
        if fits:
            ask.by = state.take(now, ask.amount)
        ask.used = state.used
    return fits


def count(ask: Ask, now: float, real: int) -> None:
    """Count `real` as used at this moment."""
    state = state_of(ask.meter, now)
    ask.by = state.take(now, 0)
    ask.amount = 0
    settle(ask, real)


def settle(ask: Ask, real: int) -> None:
    # A budget's period may have ended since: what its purse was taken for is settled there.
    state = ask.by if ask.ceiling.measure == "budget" else ask.meter.state
    state.settle(ask.by, ask.amount, real)


def seen(meter: Meter, now: float) -> tuple[int, int]:
    """What is used of it now, with what is only reserved; and what is reserved, of money and calls."""
    state = state_of(meter, now)
    state.wait(now, 0, 0)
    measure = meter.ceiling.measure
    return state.used, state.held if measure == "budget" else state.used if measure == "concurrency" else 0


def state_of(meter: Meter, now: float) -> Any:
    return meter.purse(now) if meter.ceiling.measure == "budget" else meter.state


class LocalCounters:
    """In this process's memory: where there is one process, they are exact."""

    alone = False
    settle = staticmethod(settle)

    def __init__(self, clock: Callable[[], float], spending: Spending) -> None:
        self.clock = clock
        self._spending = spending

    async def take(self, asks: Sequence[Ask]) -> bool:
        now = self.clock()
        share = 1.0
        for ask in asks:
            if ask.ceiling.measure == "budget" and not ask.meter.purse(now).known:
                share = min(share, await self._spending.share_of(ask.meter, now))
        return grant(asks, now, share)

    async def look(self, meter: Meter) -> tuple[int, int]:
        return seen(meter, self.clock())

    def note(self, ask: Ask, real: int) -> None:
        count(ask, self.clock(), real)

    def learned(self, meter: Meter, purse: Purse) -> None:
        """It is the purse that is asked."""

    async def run(self) -> None:
        """Nothing."""
