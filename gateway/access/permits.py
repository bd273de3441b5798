"""What a call was granted, until it is settled: charged what it really used, however it ended."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from gateway.access.costs import nano
from gateway.access.meters import Ask
from gateway.access.rules import NANO
from gateway.values import Usage

if TYPE_CHECKING:
    from gateway.access.admission import Limits
    from gateway.access.estimates import Estimate
    from gateway.access.rules import Told
    from gateway.exchange import Exchange
    from gateway.values import Target

_SAYS_NO_USAGE: Final = frozenset({"ok", "blocked"})
_UNLESS_SAID: Final = {"shadow": "nobody", "quality": "nobody"}  # what the caller has nothing of


class Permit:
    """See gateway.exchange.Permit."""

    __slots__ = ("_limits", "_model", "_target", "asks", "estimate", "refused")

    def __init__(self, limits: Limits, model: str, target: Target | None = None) -> None:
        """`target` is whose limits these are, where they are not the caller's."""
        self._limits = limits
        self._model = model
        self._target = target
        self.asks: list[Ask] = []
        self.estimate: Estimate | None = None
        self.refused: Ask | None = None

    @property
    def refusal(self) -> tuple[str, str] | None:
        refused = self.refused
        if refused is None:
            return None
        return refused.ceiling.name.replace(" ", "_"), ",".join(refused.meter.rule.per)

    def settle(self, exchange: Exchange) -> None:
        if self.refused is not None:
            return
        counters = self._limits.counters
        if self.estimate is not None:
            if self.estimate.more_output > 0:
                self._learn(exchange)
            usage, share = self._used(exchange)
        for ask in self.asks:
            measure = ask.ceiling.measure
            if measure == "requests":
                continue
            if measure == "tokens":
                tokens = usage.prompt_tokens + usage.completion_tokens if usage is not None else 0
                counters.settle(ask, round(tokens * share))
            elif measure == "budget":
                cost = self._cost(exchange, usage, share)
                counters.settle(ask, cost)
                _charge(exchange, ask, cost)
            elif measure == "concurrency":
                counters.settle(ask, 0)

    def _learn(self, exchange: Exchange) -> None:
        """How long an answer was that nobody had bounded."""
        usage = exchange.usage
        if usage is not None and self._target is None and exchange.outcome == "ok" and exchange.cost_share == 1.0:
            self._limits.lengths.saw(self._model, usage.completion_tokens)

    def settle_unused(self) -> None:
        """What was granted came to nothing."""
        for ask in self.asks:
            if ask.ceiling.measure != "requests":
                self._limits.counters.settle(ask, 0)

    def headers(self) -> list[tuple[bytes, bytes]]:
        """Of the caller's rule that leaves least of each measure."""
        tightest: dict[bytes, tuple[int, Told, Ask]] = {}  # by a header's name
        for ask in self.asks:
            if (told := ask.ceiling.told) is not None:
                left = ask.left
                other = tightest.get(told.remaining)
                if other is None or left < other[0]:
                    tightest[told.remaining] = (left, told, ask)
        if not tightest:
            return []
        headers: list[tuple[bytes, bytes]] = []
        now = self._limits.counters.clock()
        for left, told, ask in tightest.values():
            headers += told.limit, (told.remaining, b"%d" % left), (told.reset, in_go(ask.meter.state.clears(now)))
        return headers

    def beside(self, purpose: str) -> OwnCall | None:
        limits = self._limits
        if limits.charging.own_calls.get(purpose, _UNLESS_SAID.get(purpose, "caller")) == "nobody":  # type: ignore[call-overload]  # any purpose may be asked for
            return None
        asks = [ask for ask in self.asks if ask.ceiling.measure in ("tokens", "budget")]
        return OwnCall(limits, asks) if asks and self.refused is None else None

    def _used(self, exchange: Exchange) -> tuple[Usage | None, float]:
        """Of what usage this call is charged what share.

        Of one target: its part where several tries made one answer, what was reserved where it lost.
        """
        usage = exchange.usage or self._unsaid(exchange)
        target, reckoned = self._target, self.estimate
        if target is None:
            return usage, exchange.cost_share
        assert reckoned is not None
        if exchange.target is None or exchange.target.label != target.label or usage is None:
            return reckoned.usage, 1.0
        served = [one.target.label for one in exchange.attempts if one.outcome == "ok"].count(target.label)
        return usage, 1 / max(1, served)

    def _cost(self, exchange: Exchange, usage: Usage | None, share: float) -> int:
        """What that costs, in billionths of a USD."""
        costs = self._limits.costs
        if self._target is not None and usage is not None:
            return round(costs.of(self._target, usage) * share)
        if exchange.cost is not None:
            return nano(exchange.cost)
        if usage is None:
            return 0
        if exchange.target is not None:
            return costs.of(exchange.target, usage)
        return round(costs.guessed(self._model, usage) * share)

    def _unsaid(self, exchange: Exchange) -> Usage | None:
        """What a call used whose provider says nothing of it, or which the caller has cut off before it could."""
        reckoned = self.estimate
        if reckoned is None:
            return None
        called = any(name == "call" for name, _, _ in exchange.stages)
        if exchange.outcome == "cancelled":
            # Where answers are kept, the call is a task's of its own, which hears of this only later.
            if not called and exchange.cache != "miss":
                return None
            whole = self._limits.charging.cut_off == "reserved"
            return reckoned.usage if whole else Usage(reckoned.prompt, 0, estimated=True)
        if called and exchange.outcome in _SAYS_NO_USAGE and exchange.target is not None:
            return reckoned.usage
        return None


class OwnCall:
    """A call of the gateway's own, charged to what the caller's call was granted from; never refused."""

    __slots__ = ("_asks", "_limits")
    refusal: tuple[str, str] | None = None

    def __init__(self, limits: Limits, asks: Sequence[Ask]) -> None:
        self._limits = limits
        self._asks = [Ask(ask.meter, ask.ceiling, 0) for ask in asks]

    def settle(self, exchange: Exchange) -> None:
        usage = exchange.usage
        if usage is None:
            return
        cost = nano(exchange.cost or 0.0)
        if exchange.cost is None and exchange.target is not None:
            cost = self._limits.costs.of(exchange.target, usage)
        for ask in self._asks:
            if ask.ceiling.measure == "tokens":
                self._limits.counters.note(ask, usage.prompt_tokens + usage.completion_tokens)
            else:
                self._limits.counters.note(ask, cost)
                _charge(exchange, ask, cost)

    def headers(self) -> list[tuple[bytes, bytes]]:
        return []

    def beside(self, purpose: str) -> OwnCall:
        return OwnCall(self._limits, self._asks)


def _charge(exchange: Exchange, ask: Ask, cost: int) -> None:
    charge = (ask.meter.spelled, f"{ask.ceiling.period}:{ask.by.period}")
    if charge not in exchange.charges:
        exchange.charges = (*exchange.charges, charge)
    exchange.charged = cost / NANO


_IN_GO: Final = [b"%ds" % seconds for seconds in range(60)] + [b"1m0s"]


def in_go(seconds: float) -> bytes:
    """A duration in whole seconds as OpenAI writes it, which is Go's way: 59s, 6m0s, 24h0m0s."""
    whole = math.ceil(seconds)
    if whole <= 60:
        return _IN_GO[whole]
    if whole < 3600:
        return b"%dm%ds" % divmod(whole, 60)
    return b"%dh%dm%ds" % (whole // 3600, whole // 60 % 60, whole % 60)
