"""What was spent before: the record store knows it, so that neither a restart nor a Redis that forgets makes it undone."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, Protocol

from gateway.access.counters import Unknown
from gateway.access.rules import NANO

if TYPE_CHECKING:
    from gateway.access.meters import Meter, Meters
    from gateway.access.windows import Purse

log = logging.getLogger(__name__)

_PATIENCE = 1.0  # seconds that a call waits for the record store
_AGAIN = 1.0  # seconds until it is asked again after it could not tell
_EVERY = 20.0  # seconds between two looks at all purses in use


class SpendLog(Protocol):
    """Where each call's charge is kept with the call itself, exactly once."""

    def spent(self, subject: str, period: str) -> float:
        """USD, of all that is recorded so far; 0 where nothing is. Blocking. Raises what the database raises."""


class Spending:
    """Purses filled from the record store.

    Records come there a moment after their calls, so a purse is looked at again and again while it is in use: whoever
    knows of more spending is right. When the store can't tell at first sight, a purse is refused, or granted by
    `share` of what it may hold, as `on_failure` says.
    """

    def __init__(self, store: SpendLog | None, on_failure: Literal["local", "refuse"], share: float) -> None:
        """Without a store, what was spent is what this process has seen."""
        self._store = store
        self._refuse = on_failure == "refuse"
        self._share = share
        # Before the first look: bring into the store what a killed process had not; whether that is all in.
        self.catch_up: Callable[[], bool] | None = None
        self._reading: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._failed_at: dict[tuple[str, str], float] = {}

    async def share_of(self, meter: Meter, now: float) -> float:
        """Have the meter's purse know what was spent: 1. When that can't be had, the share to grant; or Unknown."""
        purse = meter.purse(now)
        key = (meter.spelled, f"{meter.ceiling.period}:{purse.period}")
        if now - self._failed_at.get(key, -_AGAIN) >= _AGAIN:
            task = self._reading.get(key)
            if task is None:
                task = self._reading[key] = asyncio.ensure_future(self._read(key, purse))
                task.add_done_callback(lambda done: self._over(key, done))
            try:
                await asyncio.wait_for(asyncio.shield(task), _PATIENCE)
                self._failed_at.pop(key, None)
            except Exception as failure:
                if len(self._failed_at) > 1_000:
                    self._failed_at.clear()
                self._failed_at[key] = now
                log.error("what a budget has spent can't be read: %s", type(failure).__name__)
        if purse.known:
            return 1.0
        if self._refuse:
            raise Unknown
        return self._share

    async def run(self, meters: Meters, clock: Callable[[], float], told: Callable[[Meter, Purse], None]) -> None:
        """Look at the purses in use again and again, until cancelled. `told` hears of each that was read."""
        while True:
            await asyncio.sleep(_EVERY)
            for meter in meters:
                if meter.ceiling.measure == "budget" and (purse := meter.state).ends > clock():
                    try:
                        await self._read((meter.spelled, f"{meter.ceiling.period}:{purse.period}"), purse)
                    except Exception:
                        break  # the store is away: in a while
                    told(meter, purse)

    def _over(self, key: tuple[str, str], done: asyncio.Task[None]) -> None:
        self._reading.pop(key, None)
        if not done.cancelled():
            done.exception()  # whoever still waits for it is told; perhaps nobody does

    async def _read(self, key: tuple[str, str], purse: Purse) -> None:
        if self._store is not None:
            purse.learn(round(await asyncio.to_thread(self._spent, self._store, *key) * NANO))
        else:
            purse.learn(0)

    def _spent(self, store: SpendLog, subject: str, period: str) -> float:
        if self.catch_up is not None and self.catch_up():
            self.catch_up = None
        return store.spent(subject, period)
