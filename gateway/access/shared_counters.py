"""Counts in Redis, that several gateway processes share and that are exact over all of them.

A call is granted in one round trip; calls that wait at the same time go in one. What they have used is told in groups,
with the next grant or a moment later, and nothing of it is lost or told twice while Redis is away. Then each process
goes by its own counts, which it has kept all along: a share of each limit. What it held in Redis when it was killed is
free when its lease has run out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from gateway.access.conversation import LEASE, Answer, Conversation
from gateway.access.counters import Unknown, count, grant, seen, settle, state_of
from gateway.access.meters import Ask
from gateway.access.windows import width

if TYPE_CHECKING:
    from gateway.access.clock import SteadyClock
    from gateway.access.meters import Meter
    from gateway.access.spending import Spending
    from gateway.access.windows import Purse
    from gateway.state import RedisState


class SharedCounters:
    """See gateway.access.counters.Counters. Belongs to one event loop, in which `run` goes on."""

    def __init__(
        self,
        state: RedisState,
        clock: SteadyClock,
        spending: Spending,
        on_failure: Literal["local", "refuse"],
        share: float,
        lease: float = LEASE,
    ) -> None:
        """`share` of each limit is what this process grants while Redis is away, if `on_failure` is local."""
        self.clock = clock
        self._spending = spending
        self._refuse = on_failure == "refuse"
        self._share = share
        self._redis = Conversation(state, clock, lease, self._count, self._undo)

    @property
    def alone(self) -> bool:
        return not self._redis.healthy

    # -- what calls ask -----------------------------------------------------------------------------------
    async def take(self, asks: Sequence[Ask]) -> bool:
        # Each time it may lack another budget, and once more before the last of them is asked with what it was told.
        for _ in range(3 + sum(ask.ceiling.measure == "budget" for ask in asks)):
            answer = await self._asked(asks)
            if answer is None:
                return await self._take_alone(asks)
            if answer[0] != 2:
                return self._told(asks, answer)
            # Redis does not know yet, or no more, what was spent of this budget.
            meter = asks[answer[1] - 1].meter
            purse = meter.purse(self.clock())
            if await self._spending.share_of(meter, self.clock()) < 1.0:
                return await self._take_alone(asks)
            self.learned(meter, purse)
        return await self._take_alone(asks)

    async def look(self, meter: Meter) -> tuple[int, int]:
        looked = Ask(meter, replace(meter.ceiling, most=-1), 0)
        answer = await self._asked([looked])
        if answer is None or answer[0] != 0:
            return seen(meter, self.clock())
        return answer[1], answer[2]

    def note(self, ask: Ask, real: int) -> None:
        count(ask, self.clock(), real)
        self._tell_used(ask, real)

    def settle(self, ask: Ask, real: int) -> None:
        settle(ask, real)
        measure = ask.ceiling.measure
        if measure == "tokens":
            if not ask.entry:
                self._tell_used(ask, real)
            elif real != ask.amount:
                self._redis.tell(("adjust", self._name(ask.meter), ask.entry, real - ask.amount))
        elif measure == "concurrency":
            # Whoever comes next, at another process, may need just this place.
            self._redis.let_go(self._name(ask.meter), ask.amount, soon=2 * ask.used >= ask.ceiling.most)
        else:
            self._redis.let_go(self._name(ask.meter, ask.by), ask.amount)
            self._tell_used(ask, real)

    def learned(self, meter: Meter, purse: Purse) -> None:
        lasts = round((purse.ends - self.clock() + 86_400) * 1000)
        self._redis.tell(("know", self._name(meter, purse), purse.spent, max(lasts, 86_400_000)))

    async def run(self) -> None:
        """Talk to Redis, until cancelled; then say farewell."""
        await self._redis.run()

    # -- granted by Redis ---------------------------------------------------------------------------------
    async def _asked(self, asks: Sequence[Ask]) -> Answer | None:
        """What Redis says; None when it is away."""
        return await self._redis.ask(asks, self._checks(asks)) if self._redis.healthy else None

    def _told(self, asks: Sequence[Ask], answer: Answer) -> bool:
        granted = bool(answer[0])
        for order, ask in enumerate(asks):
            used, more = answer[2 * order + 1], answer[2 * order + 2]
            ask.used = used
            if not granted:
                ask.wait = more / 1000 if more >= 0 else float("inf")
                continue
            ask.wait = 0.0
            if ask.ceiling.measure == "budget":
                ask.by.base = more
                ask.by.spent = max(ask.by.spent, more)
            elif ask.ceiling.span:
                ask.entry = more
        return granted

    def _count(self, asks: Sequence[Ask]) -> None:
        """Keep the count of what Redis has granted: it is what this process goes by when Redis is away."""
        now = self.clock()
        for ask in asks:
            state = state_of(ask.meter, now)
            if ask.ceiling.span:
                state.wait(now, 0, 0)
            ask.by = state.take(now, ask.amount)
            if not ask.ceiling.span:
                self._redis.hold(
                    self._name(ask.meter, ask.by), ask.amount
                )  # by: the purse of a budget, None of a level

    def _undo(self, asks: Sequence[Ask], answer: Answer | None) -> None:
        """The call that this was granted to is gone."""
        if answer is not None and answer[0] == 1:
            self._told(asks, answer)
            for ask in asks:
                if ask.ceiling.measure != "requests":
                    self.settle(ask, 0)

    # -- granted alone ------------------------------------------------------------------------------------
    async def _take_alone(self, asks: Sequence[Ask]) -> bool:
        if self._refuse:
            raise Unknown
        now = self.clock()
        for ask in asks:
            ask.entry = 0
            if ask.ceiling.measure == "budget" and not ask.meter.purse(now).known:
                await self._spending.share_of(ask.meter, now)
        granted = grant(asks, now, self._share)
        if granted:
            for ask in asks:
                if ask.ceiling.measure == "requests":
                    self._tell_used(ask, 1)
                elif not ask.ceiling.span:
                    self._redis.hold(self._name(ask.meter, ask.by), ask.amount)
        return granted

    # -- what Redis is told -------------------------------------------------------------------------------
    def _name(self, meter: Meter, purse: Purse | None = None) -> str:
        """Where it is counted in Redis. Users' names are not to be read there."""
        if purse is None:
            if not meter.key:
                meter.key = _digest(meter, "")
            return meter.key
        if not purse.key:
            purse.key = _digest(meter, purse.period)
        return purse.key

    def _tell_used(self, ask: Ask, real: int) -> None:
        if not real:
            return
        if ask.ceiling.measure == "budget":
            self._redis.tell(("spend", self._name(ask.meter, ask.by), real, round(self.clock() * 1000)))
        else:
            span = round(ask.ceiling.span * 1000)
            self._redis.tell(("note", self._name(ask.meter), real, span, round(width(ask.ceiling.span) * 1000)))

    def _checks(self, asks: Sequence[Ask]) -> list[tuple[Any, ...]]:
        checks: list[tuple[Any, ...]] = []
        for ask in asks:
            ceiling, meter = ask.ceiling, ask.meter
            if ceiling.span:
                span = round(ceiling.span * 1000)
                checks.append(
                    ("window", self._name(meter), ceiling.most, ask.amount, span, round(width(ceiling.span) * 1000))
                )
            elif ceiling.measure == "budget":
                purse = meter.purse(self.clock())
                ends = round(purse.ends * 1000)
                checks.append(("purse", self._name(meter, purse), ceiling.most, ask.amount, ends))
            else:
                checks.append(("level", self._name(meter), ceiling.most, ask.amount, 0))
        return checks


def _digest(meter: Meter, period: str) -> str:
    named = "\0".join((meter.ceiling.family, period, *meter.subject))
    return f"{meter.ceiling.measure}:{hashlib.blake2b(named.encode(), digest_size=12).hexdigest()}"
