"""Limits and budgets: the counts that outlive every revision, and one revision's rules over them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.access.admission import Limits, TargetGate
from gateway.access.clock import SteadyClock
from gateway.access.costs import Costs
from gateway.access.counters import Counters, LocalCounters
from gateway.access.lengths import AnswerLengths
from gateway.access.meters import Meters
from gateway.access.rules import rule_of
from gateway.access.spending import Spending
from gateway.config.routing import BestOf
from gateway.records.spend import SpendStore
from gateway.values import Target

if TYPE_CHECKING:
    from gateway.assembly.prompts import TemplateTokens
    from gateway.config.models import Configuration
    from gateway.pricing import PriceBook
    from gateway.records.database import Database
    from gateway.routing.candidates import Gate
    from gateway.state import RedisState


@dataclass(frozen=True, slots=True)
class Counting:
    """One process's counts, and what keeps them true beside the calls."""

    meters: Meters
    counters: Counters
    spending: Spending
    lengths: AnswerLengths

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.spending.run(self.meters, self.counters.clock, self.counters.learned))
            tasks.create_task(self.counters.run())


def open_counting(configuration: Configuration, database: Database, state: RedisState | None) -> Counting:
    """Nothing is started, read or sent yet."""
    settings = configuration.state
    meters = Meters()
    spending = Spending(SpendStore(database), settings.on_failure, settings.local_share)
    clock = SteadyClock()
    counters: Counters
    if state is None:
        counters = LocalCounters(clock, spending)
    else:
        from gateway.access.shared_counters import SharedCounters

        counters = SharedCounters(state, clock, spending, settings.on_failure, settings.local_share)
    return Counting(meters, counters, spending, AnswerLengths())


def limits_of(
    configuration: Configuration, counting: Counting, prices: PriceBook, template_tokens: TemplateTokens
) -> Limits:
    """The rules of a configuration. `template_tokens` is what a prompt may have beside the caller's words."""
    charging = configuration.charging
    return Limits(
        [rule_of(written) for written in configuration.limits],
        charging,
        counting.meters,
        counting.counters,
        Costs(prices, _Serving(configuration), refuse_unknown=charging.unknown_price == "refuse"),
        counting.lengths,
        template_tokens,
        {name: model.strategy.n for name, model in configuration.models.items() if isinstance(model.strategy, BestOf)},
    )


def gate_of(limits: Limits | None) -> Callable[[Target], Gate | None]:
    """What asks a target's own limits; nothing where it has none."""
    if limits is None or not limits.target_rules:
        return lambda target: None
    rules = limits.target_rules
    return lambda target: TargetGate(limits, target) if any(rule.may_be_about(target) for rule in rules) else None


class _Serving:
    """The targets that may serve a public model, or a plain `provider/model`."""

    def __init__(self, configuration: Configuration) -> None:
        self._providers = configuration.providers
        self._models = {
            name: tuple(
                Target(entry.provider, entry.model)
                for entry in (*model.targets, *model.fallbacks)
                if not configuration.providers[entry.provider].switched_off
            )
            for name, model in configuration.models.items()
        }

    def __call__(self, model: str) -> Sequence[Target]:
        targets = self._models.get(model)
        if targets is None:
            provider, _, upstream = model.partition("/")
            return (Target(provider, upstream),) if provider in self._providers else ()
        return targets
