"""Admission: a call's limits are asked once it is known who calls what, and settled however it ends.

All rules that are about a call are granted together or none of them is. Tokens and money are reserved by an estimate
and settled by what the answer really used: at the time of the reservation, so that a window is never fuller than it was
said to be.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, Protocol

from msgspec.structs import replace

from gateway.access.counters import Unknown
from gateway.access.estimates import Estimate, estimate
from gateway.access.meters import Ask
from gateway.access.permits import Permit
from gateway.access.refusals import refusal
from gateway.chat import ChatRequest
from gateway.errors import LimitsUnavailable
from gateway.values import Usage

if TYPE_CHECKING:
    from gateway.access.costs import Costs
    from gateway.access.counters import Counters
    from gateway.access.lengths import AnswerLengths
    from gateway.access.meters import Meters
    from gateway.access.rules import Rule
    from gateway.chat import Request
    from gateway.config.limits import Charging
    from gateway.exchange import Exchange
    from gateway.values import Caller, Target

# What nobody asked for reserves so small a part at most, or low limits would let one call through at a time; and no
# smaller, or as many calls at once could spend a budget many times over.
_PART: Final = 10


class TemplateTokens(Protocol):
    """Tokens that prompt templates may add to what a caller says."""

    def get(self, model: str, /) -> int | None:
        """Of a public model's own template; None where it has none."""
        ...

    def named(self, reference: str, which: str | None, tenant: str) -> int:
        """Of the one that a request names, with its version or label; 0 where there is none."""
        ...


class Limits:
    """The rules of one revision, over counts that outlive it."""

    def __init__(
        self,
        rules: Sequence[Rule],
        charging: Charging,
        meters: Meters,
        counters: Counters,
        costs: Costs,
        lengths: AnswerLengths,
        template_tokens: TemplateTokens,
        generations: Mapping[str, int] | None = None,
    ) -> None:
        """`template_tokens`: what the prompt of a public model may have beside the caller's own words; `generations`:
        how many answers a public model makes to choose from, where that is not one.
        """
        self.rules = tuple(rule for rule in rules if not rule.of_targets)
        self.target_rules = tuple(rule for rule in rules if rule.of_targets)
        self.charging = charging
        self.meters = meters
        self.counters = counters
        self.costs = costs
        self.lengths = lengths
        self._template_tokens = template_tokens
        self._generations = generations or {}

    def admit(self, request: Request, exchange: Exchange) -> Awaitable[Permit]:
        """Grant this call all that it may use, as `exchange.permit`. Raises GatewayError, and nothing is held then."""
        caller = exchange.caller
        assert caller is not None
        rules = (*self.rules, *caller.limits) if caller.limits else self.rules
        return self._ask(rules, request, exchange, None)

    def admit_to(self, target: Target, request: Request, exchange: Exchange) -> Awaitable[Permit]:
        """The same of the limits that are the target's. Raises LimitReached."""
        return self._ask(self.target_rules, request, exchange, target)

    async def _ask(self, rules: Sequence[Rule], request: Request, exchange: Exchange, target: Target | None) -> Permit:
        caller, model = exchange.caller, exchange.model or ""
        assert caller is not None
        permit = Permit(self, model, target)
        now = self.counters.clock()
        label = target.label if target is not None else None
        asks = permit.asks
        reckoned: Estimate | None = None
        for rule in rules:
            subject = rule.subject(caller, model, label)
            if subject is None:
                continue
            for ceiling in rule.ceilings:
                measure = ceiling.measure
                amount = 1
                if measure == "tokens" or measure == "budget":
                    if reckoned is None:
                        reckoned = permit.estimate = self._estimate(request, model, target, caller)
                    more = reckoned.more_prompt + reckoned.more_output
                    if measure == "tokens":
                        amount = reckoned.prompt + reckoned.output + min(more, ceiling.most // _PART)
                    else:
                        amount = await self.costs.dearest(model, Usage(reckoned.prompt, reckoned.output), target)
                        if more:
                            usage = Usage(reckoned.more_prompt, reckoned.more_output)
                            guessed = await self.costs.dearest(model, usage, target)
                            amount += min(guessed, ceiling.most // _PART)
                asks.append(Ask(self.meters.meter(rule, ceiling, subject, now), ceiling, amount))
        if not asks:
            return permit
        try:
            granted = await self.counters.take(asks)
        except Unknown:
            raise LimitsUnavailable(
                "What is left of this call's limits can't be known now. Try again in a moment.", retry_after="1"
            ) from None
        if target is None:
            exchange.permit = permit
        if not granted:
            permit.refused = max(asks, key=lambda ask: ask.wait)
            raise refusal(permit.refused)
        if target is None and self.counters.alone:
            exchange.degraded.append("limits")
        return permit

    def _estimate(self, request: Request, model: str, target: Target | None, caller: Caller | None = None) -> Estimate:
        reckoned = estimate(request, self.lengths.expected(model, self.charging.output_tokens))
        more = self._template_tokens.get(model)
        if (use := request.prompt) is not None and use.id is not None and caller is not None:
            which = str(use.version) if use.version is not None else None
            more = max(more or 0, self._template_tokens.named(use.id, which, caller.tenant))
        if more is not None:
            reckoned = replace(reckoned, more_prompt=more)
        generations = self._generations.get(model) if target is None else None
        if generations is not None and isinstance(request, ChatRequest) and "tools" not in request.fields:
            reckoned = reckoned.times(generations)  # see gateway.routing.best_of
        return reckoned


class TargetGate:
    """Asks one target's own limits before each try; see gateway.routing.candidates.Gate."""

    def __init__(self, limits: Limits, target: Target) -> None:
        self._limits = limits
        self._target = target

    async def enter(self, request: Request, exchange: Exchange) -> Permit:
        return await self._limits.admit_to(self._target, request, exchange)
