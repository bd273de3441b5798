"""Whose turn it is: classes of priority, and within a class tenants, each by its weight.

Start-time fair queueing (Goyal, Vin and Cheng, SIGCOMM 1996), once among the classes and once among the tenants of the
class whose turn it is. Everybody who waits has a tag, in a virtual time: the lowest is next, and is put forward by what
its call costs, divided by its weight. Whoever comes back from idleness begins at the present, so that nobody saves up
turns and nobody pays for having used what was free. A call costs what its tenant's calls have lately cost, in calls of
average length: a tenant of long calls gets as much of the server's time as one of short ones.

The classes are weighted, not strict: under strict priority a busy class starves those below it for as long as it is
busy. Whatever the others do, each class gets at least its weight's part of the server while it waits for it.

Adding and taking cost O(log n) for n tenants that wait, leaving O(1).
"""

from __future__ import annotations

import heapq
import itertools
from collections import OrderedDict
from collections.abc import Hashable, Mapping
from typing import Generic, TypeVar

from gateway.values import Priority

WEIGHTS: dict[Priority, float] = {"high": 16.0, "normal": 4.0, "low": 1.0}
"""Of the classes: of 21 calls that begin while all three wait, 16, 4 and 1."""

_NEW = 0.05  # how much the newest call says of how long calls take lately, once there were some
_SHORTEST, _LONGEST = 0.1, 10.0  # what a call may cost, in average ones
_IDLE_TENANTS = 1_000  # kept for what they had of the present; beyond, they are forgotten

W = TypeVar("W", bound=Hashable)


class Lately:
    """The mean of what calls took, the last ones' above all."""

    __slots__ = ("_seen", "seconds")

    def __init__(self) -> None:
        self._seen = 0
        self.seconds: float | None = None

    def took(self, seconds: float) -> None:
        self._seen += 1
        before = seconds if self.seconds is None else self.seconds
        self.seconds = before + max(_NEW, 1 / self._seen) * (seconds - before)


class _Sharer:
    """One of those that a level has turns for."""

    __slots__ = ("listed", "tag", "waiting", "weight")

    def __init__(self, weight: float) -> None:
        self.weight = weight
        self.tag = 0.0
        self.waiting = 0
        self.listed = False  # in the level's heap


S = TypeVar("S", bound=_Sharer)


class _Level(Generic[S]):
    """Turns among sharers."""

    __slots__ = ("_heap", "_ties", "now", "weight")

    def __init__(self) -> None:
        self.now = 0.0
        self.weight = 0.0  # of those that wait
        self._heap: list[tuple[float, int, S]] = []
        self._ties = itertools.count()

    def joins(self, sharer: S) -> None:
        """One more waits there."""
        sharer.waiting += 1
        if sharer.waiting == 1:
            self.weight += sharer.weight
            sharer.tag = max(sharer.tag, self.now)
            if not sharer.listed:
                self._list(sharer)

    def leaves(self, sharer: S) -> None:
        """One less waits there."""
        sharer.waiting -= 1
        if not sharer.waiting:
            self.weight -= sharer.weight
            if self.weight < 1e-9:  # what sums of fractions leave over
                self.weight = 0.0

    def first(self) -> S:
        """Whose turn it is. There is somebody who waits."""
        while True:
            tag, _, sharer = self._heap[0]
            if sharer.waiting and sharer.tag <= tag:
                return sharer
            heapq.heappop(self._heap)
            sharer.listed = False
            if sharer.waiting:  # it had left, and has come back later
                self._list(sharer)

    def serve(self, sharer: S, cost: float) -> None:
        """A turn for `sharer`: it waits where it is the first, or found nobody waiting."""
        self.now = sharer.tag = max(sharer.tag, self.now)
        sharer.tag += cost / sharer.weight
        if sharer.listed and self._heap[0][2] is sharer:
            heapq.heappop(self._heap)
            sharer.listed = False
            if sharer.waiting:
                self._list(sharer)

    def share(self, sharer: S) -> float:
        """Of the turns, while those who wait now do, and `sharer` with them."""
        return sharer.weight / (self.weight if sharer.waiting else self.weight + sharer.weight)

    def _list(self, sharer: S) -> None:
        sharer.listed = True
        heapq.heappush(self._heap, (sharer.tag, next(self._ties), sharer))


class Flow(_Sharer, Generic[W]):
    """One tenant's calls of one class, in the order in which they came."""

    __slots__ = ("calls", "lately", "of", "running", "tenant")

    def __init__(self, tenant: str, weight: float, of: _Class[W]) -> None:
        super().__init__(weight)
        self.tenant = tenant
        self.of = of
        self.calls: OrderedDict[W, None] = OrderedDict()
        self.running = 0
        self.lately = Lately()


class _Class(_Sharer, Generic[W]):
    __slots__ = ("flows", "level")

    def __init__(self, weight: float) -> None:
        super().__init__(weight)
        self.flows: dict[str, Flow[W]] = {}
        self.level: _Level[Flow[W]] = _Level()


class FairOrder(Generic[W]):
    """Calls that wait, and who is next. Knows no clock."""

    def __init__(self, shares: Mapping[str, float]) -> None:
        self._shares = dict(shares)
        self._level: _Level[_Class[W]] = _Level()
        self._classes: dict[Priority, _Class[W]] = {name: _Class(weight) for name, weight in WEIGHTS.items()}
        self.waiting = 0
        self.lately = Lately()

    def flow(self, priority: Priority, tenant: str) -> Flow[W]:
        flows = self._classes[priority].flows
        found = flows.get(tenant)
        if found is None:
            if len(flows) >= _IDLE_TENANTS:
                self._forget(flows)
            found = flows[tenant] = Flow(tenant, self._shares.get(tenant, 1.0), self._classes[priority])
        return found

    def add(self, flow: Flow[W], call: W) -> None:
        """`call` waits, behind its tenant's others."""
        flow.calls[call] = None
        flow.of.level.joins(flow)
        self._level.joins(flow.of)
        self.waiting += 1

    def leave(self, flow: Flow[W], call: W) -> None:
        """`call` waits no more, and had no turn."""
        del flow.calls[call]
        self._left(flow)

    def take(self) -> W:
        """The next one, which has its turn. There is one that waits."""
        flow = self._level.first().level.first()
        call, _ = flow.calls.popitem(last=False)
        self._left(flow)
        self.begin(flow)
        return call

    def begin(self, flow: Flow[W]) -> None:
        """A call of `flow` begins; where nobody waits, it need not have waited."""
        cost = 1.0
        if flow.lately.seconds is not None and self.lately.seconds:
            cost = min(max(flow.lately.seconds / self.lately.seconds, _SHORTEST), _LONGEST)
        flow.running += 1
        flow.of.level.serve(flow, cost)
        self._level.serve(flow.of, cost)

    def end(self, flow: Flow[W], seconds: float | None) -> None:
        """A call of `flow` has ended, after so long; None where it never was at the server."""
        flow.running -= 1
        if seconds is not None:
            flow.lately.took(seconds)
            self.lately.took(seconds)

    def expected(self, flow: Flow[W], at_a_time: int) -> float | None:
        """Seconds that one more call of `flow` would wait, where so many run at a time and all are taken; None where
        no call has ended yet.

        It waits for its tenant's calls before it at its tenant's share of the server, and never for more than all.
        """
        typical = self.lately.seconds
        if typical is None:
            return None
        own = typical if flow.lately.seconds is None else flow.lately.seconds
        share = self._level.share(flow.of) * flow.of.level.share(flow)
        return min((self.waiting + 1) * typical, (flow.waiting + 1) * own / share) / at_a_time

    def newest_of_most(self, newcomer: Flow[W]) -> tuple[Flow[W], W] | None:
        """Who has to go where there is room for no one more: the newest call of whoever has most calls waiting for its
        share. None where that is the newcomer itself."""

        def crowd(sharer: _Sharer) -> float:
            return (sharer.waiting + (sharer in (newcomer, newcomer.of))) / sharer.weight

        group = max(self._classes.values(), key=crowd)
        flow = max((flow for flow in group.flows.values() if flow.waiting or flow is newcomer), key=crowd)
        return None if flow is newcomer or not flow.calls else (flow, next(reversed(flow.calls)))

    def by_class(self) -> dict[Priority, int]:
        return {name: group.waiting for name, group in self._classes.items()}

    def reweigh(self, shares: Mapping[str, float]) -> None:
        """Other shares, from the next turn on."""
        self._shares = dict(shares)
        for group in self._classes.values():
            for flow in group.flows.values():
                weight = shares.get(flow.tenant, 1.0)
                if flow.waiting:
                    group.level.weight += weight - flow.weight
                flow.weight = weight

    def _left(self, flow: Flow[W]) -> None:
        flow.of.level.leaves(flow)
        self._level.leaves(flow.of)
        self.waiting -= 1

    @staticmethod
    def _forget(flows: dict[str, Flow[W]]) -> None:
        for tenant in [name for name, flow in flows.items() if not (flow.waiting or flow.running or flow.listed)]:
            del flows[tenant]
