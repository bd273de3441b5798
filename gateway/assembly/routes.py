"""A public model's targets and strategy, as the dispatcher that calls them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from gateway.assembly.providers import line, patience
from gateway.config import routing as settings
from gateway.config.providers import HttpProvider, Provider
from gateway.routing.arms import Arms, ByShare, BySwitch, Chooser
from gateway.routing.beside import ModelHelper
from gateway.routing.candidates import Candidate, Gate, Traits
from gateway.routing.dispatch import Calls, Dispatcher, Filter
from gateway.routing.queues import Room, room_of
from gateway.routing.strategies import Least, Priority, Strategy, Weighted, busy, latency
from gateway.values import Target, Usage

if TYPE_CHECKING:
    from gateway.config.models import AskedModel, Configuration, Model, TargetEntry
    from gateway.knowledge_service import KnowledgeService
    from gateway.pricing import PriceBook
    from gateway.routing.fleet import Fleet

T = TypeVar("T")


class Routes:
    """The lines of one configuration, and dispatchers over them."""

    def __init__(
        self,
        configuration: Configuration,
        fleet: Fleet,
        knowledge: KnowledgeService | None,
        gate: Callable[[Target], Gate | None] = lambda target: None,
    ) -> None:
        """`gate` finds what asks a target's own limits."""
        self._gate = gate
        self._providers = configuration.providers
        self._fleet = fleet
        self.lines = {
            name: fleet.line(name, _connected(provider), partial(line, name, provider, knowledge, fleet.model_server))
            for name, provider in configuration.providers.items()
            if not provider.switched_off
        }
        fleet.queues.prepare(
            {
                name: provider.queue
                for name, provider in configuration.providers.items()
                if isinstance(provider, HttpProvider) and provider.queue is not None
            }
        )
        fleet.keep(self.lines)
        fleet.prices.configure(configuration.providers)
        self._residency = _residency(configuration)

    def endpoints(self, model: Model) -> frozenset[str]:
        """What every one of the targets can serve, so that a fallback never meets a request it can't take."""
        served = [self.lines[entry.provider].provider.endpoints for entry in self._on(model.targets + model.fallbacks)]
        return frozenset.intersection(*served)

    def calls(self, name: str, model: Model) -> Calls:
        """What calls a model's targets, by its strategy."""
        targets = [self.candidate(entry) for entry in self._on(model.targets)]
        fallbacks = [self.candidate(entry) for entry in self._on(model.fallbacks)]
        asked = model.strategy
        if isinstance(asked, settings.Shadow):
            from gateway.routing.shadow import Shadowed

            primary = self.over(name, model, Priority(targets[:1], fallbacks), [*targets[:1], *fallbacks])
            shadows: dict[str, Calls] = {
                entry.arm_name: self.over(f"{name}#shadow", model, Priority([candidate], []), [candidate])
                for entry, candidate in zip(self._on(model.targets)[1:], targets[1:], strict=True)
            }
            return Shadowed(
                primary, shadows, share=asked.share, concurrency=asked.concurrency, per_day=asked.calls_per_day
            )
        if isinstance(asked, settings.BestOf):
            return self._best_of(name, model, asked, targets, fallbacks)
        return self.over(name, model, _strategy(asked, targets, fallbacks, self._fleet.prices), [*targets, *fallbacks])

    def _best_of(
        self, name: str, model: Model, asked: settings.BestOf, targets: list[Candidate], fallbacks: list[Candidate]
    ) -> Calls:
        from gateway.routing.best_of import BestOf, Choose, consensus, judged, majority

        generators = []
        for number in range(asked.n):
            turned = [*targets[number % len(targets) :], *targets[: number % len(targets)], *fallbacks]
            generators.append(self.over(name, model, Priority(turned, []), turned))
        choose: Choose = majority
        for helper, chooser in ((asked.judge, judged), (asked.embedder, consensus)):
            if helper is not None:
                provider, _, upstream = helper.partition("/")
                choose = chooser(self.plain(provider, upstream), helper)
        return BestOf(generators, choose)

    def arm(self, name: str, model: Model, entry: TargetEntry) -> Calls:
        """What calls one arm's target; the other arms' stand in for it where it fails before it answers."""
        others = [other for other in self._on(model.targets) if other is not entry]
        candidates = [self.candidate(one) for one in (entry, *others, *self._on(model.fallbacks))]
        return self.over(name, model, Priority(candidates, []), candidates)

    def arms(self, name: str, model: Model, branches: dict[str, T]) -> Arms[T]:
        """The choice among `branches`, one for each target of the model whose provider is switched on."""
        entries = self._on(model.targets)
        names = tuple(branches)
        shared = self._fleet.shared(name)
        shared.arms, shared.decide, shared.fade, shared.prepare, shared.rewards = names, None, None, None, None
        asked = model.strategy
        chooser: Chooser
        if isinstance(asked, settings.BlueGreen):
            chooser = BySwitch(asked.active or names[0], names)
        elif isinstance(asked, settings.Bandit):
            from gateway.routing.bandit import ByReward, fade
            from gateway.routing.rewards import Rewards

            chooser = ByReward(names, asked, shared.state)
            shared.fade = partial(fade, half_life=asked.half_life)
            shared.prepare = chooser.prepare
            shared.rewards = Rewards(asked.reward)
        else:
            assert isinstance(asked, (settings.Canary, settings.Ab))
            if isinstance(asked, settings.Canary) and asked.plan is not None and len(names) == 2:
                from gateway.routing.rollout import decider

                shared.decide = decider(asked.plan, name, (names[0], names[1]))
            whole = sum(entry.weight for entry in entries) or 1.0
            chooser = ByShare(name, {entry.arm_name: entry.weight / whole for entry in entries}, asked.sticky)
        candidates = {entry.arm_name: self.candidate(entry) for entry in entries}
        for candidate in candidates.values():
            self._fleet.prices.price(candidate.target)  # now, since arms are compared as their calls end
        targets = {arm: candidate.target.label for arm, candidate in candidates.items()}
        return Arms(chooser, shared, branches, targets)

    def room(self, model: Model) -> Room | None:
        """Who is asked whether there is room for a call before anything is prepared for it; None where there always is."""
        return room_of([self.candidate(entry) for entry in self._on(model.targets + model.fallbacks)])

    def switched_on(self, model: Model) -> list[TargetEntry]:
        return self._on(model.targets)

    def over(self, name: str, model: Model, strategy: Strategy, candidates: list[Candidate]) -> Dispatcher:
        """A dispatcher with the filters that `candidates` and the configuration make necessary."""
        filters: list[Filter] = [self._residency] if self._residency is not None else []
        if any(_choosy(candidate) for candidate in candidates):
            from gateway.prompts.tokens import TokenCounter
            from gateway.routing.capability import CapabilityFilter

            filters.append(CapabilityFilter(TokenCounter().count))
        after = model.hedge.after if model.hedge is not None else None
        return Dispatcher(strategy, self._fleet.budget(name), tuple(filters), after, model.strategy.kind)

    def plain(self, provider: str, model: str) -> Dispatcher:
        """For `provider/model` itself."""
        candidate = self._candidate(Target(provider, model), Traits(), named=False)
        filters = (self._residency,) if self._residency is not None else ()
        return Dispatcher(Priority([candidate], []), self._fleet.budget(provider + "/"), filters)

    def helper(self, asked: AskedModel, purpose: str) -> ModelHelper:
        """A model that a stage asks."""
        provider, _, upstream = asked.model.partition("/")
        return ModelHelper(self.plain(provider, upstream), asked.model, purpose, asked.budget)

    def candidate(self, entry: TargetEntry) -> Candidate:
        traits = Traits(entry.context_length, entry.images, entry.tools)
        return self._candidate(Target(entry.provider, entry.model, entry.weight), traits)

    def _candidate(self, target: Target, traits: Traits, *, named: bool = True) -> Candidate:
        line = self.lines[target.provider]
        patient = patience(self._providers[target.provider])
        candidate = self._fleet.candidate(target, line, patient, traits, named=named)
        gate, queue = self._gate(target), self._fleet.queues.get(target.provider)
        return candidate if gate is None and queue is None else replace(candidate, gate=gate, queue=queue)

    def _on(self, entries: list[TargetEntry]) -> list[TargetEntry]:
        """The targets whose provider is switched on."""
        return [entry for entry in entries if entry.provider in self.lines]


def _connected(provider: Provider) -> Provider:
    """What a provider's connections depend on."""
    return provider.model_copy(update={"queue": None}) if isinstance(provider, HttpProvider) else provider


def _residency(configuration: Configuration) -> Filter | None:
    asked = configuration.residency
    if asked is None:
        return None
    from gateway.routing.residency import Labels, ResidencyFilter

    return ResidencyFilter(Labels(tuple(asked.labels), asked.stays, asked.default, asked.findings))


def _choosy(candidate: Candidate) -> bool:
    """Whether there are requests that this target can't take."""
    from gateway.providers.translated import Translated

    return candidate.traits != Traits() or isinstance(candidate.line.provider, Translated)


def _strategy(
    asked: settings.Strategy, targets: list[Candidate], fallbacks: list[Candidate], prices: PriceBook
) -> Strategy:
    if isinstance(asked, settings.Weighted):
        return Weighted(targets, fallbacks)
    if isinstance(asked, settings.LeastCost):
        # By a call of usual size: prices of input and output do not always order targets alike.
        usual = Usage(prompt_tokens=1000, completion_tokens=300)
        costs = {
            candidate.target.label: None if (price := prices.price(candidate.target)) is None else price.cost(usual)
            for candidate in targets
        }
        return Least(targets, fallbacks, lambda candidate: costs[candidate.target.label], unknown_first=False)
    if isinstance(asked, settings.LeastBusy):
        return Least(targets, fallbacks, busy(targets), unknown_first=True)
    if isinstance(asked, settings.PrefixAffinity):
        from gateway.routing.affinity import PrefixAffinity

        return PrefixAffinity(targets, fallbacks, asked.load)
    if isinstance(asked, settings.LeastLatency):
        return Least(targets, fallbacks, latency, unknown_first=True)
    return Priority(targets, fallbacks)
