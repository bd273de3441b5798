"""What outlives a reload: connections to providers, the targets' health, what was seen of them, retry budgets.

A revision asks for its lines and candidates here; what the configuration leaves unchanged is handed out again, so
that a reload neither forgets a broken target nor opens every connection anew.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection, Iterator
from typing import Any

from gateway.pricing import PriceBook
from gateway.providers.protocol import Attended
from gateway.routing.arms import Shared
from gateway.routing.candidates import Candidate, Line, Traits
from gateway.routing.health import Circuit, Patience
from gateway.routing.observed import Observed
from gateway.routing.queues import Queues
from gateway.routing.retries import RetryBudget
from gateway.values import Target

_MOST_TARGETS = 2_000  # from then on, one that only a caller has named has no history


class Fleet:
    """Used by one compilation at a time."""

    def __init__(self, model_server: Callable[[str, Any], Any] | None = None, part: tuple[int, int] = (1, 1)) -> None:
        """`model_server` makes what stands for the gateway's own vLLM servers, where another process runs them.

        `part`: which worker this is, and of how many.
        """
        self.model_server = model_server
        self._lines: dict[str, tuple[object, Line]] = {}
        self._health: dict[tuple[str, str], tuple[Patience, Circuit, Observed]] = {}
        self._budgets: dict[str, RetryBudget] = {}
        self.routing: dict[str, Shared] = {}
        self.prices = PriceBook()
        self.queues = Queues(part)
        self._retired: list[Line] = []

    @contextlib.contextmanager
    def change(self) -> Iterator[None]:
        """Compile a revision inside. When that fails, what is here belongs to the one in force again."""
        lines, health, retired = dict(self._lines), dict(self._health), list(self._retired)
        prices, queues = self.prices.providers, self.queues.settings
        routing = {
            model: (shared, (shared.arms, shared.decide, shared.fade, shared.prepare, shared.rewards))
            for model, shared in self.routing.items()
        }
        try:
            yield
        except BaseException:
            self._lines, self._health, self._retired = lines, health, retired
            self.prices.configure(prices)
            self.queues.settings = queues
            for model in [model for model in self.routing if model not in routing]:
                del self.routing[model]
            for shared, kept in routing.values():
                shared.arms, shared.decide, shared.fade, shared.prepare, shared.rewards = kept
            raise

    def line(self, name: str, settings: object, make: Callable[[], Line]) -> Line:
        """The line of provider `name`: the one there is, where its settings are still the same."""
        known = self._lines.get(name)
        if known is not None and known[0] == settings:
            return known[1]
        made = make()
        if known is not None:
            self._retired.append(known[1])
        self._lines[name] = (settings, made)
        return made

    def lines(self, names: Collection[str]) -> list[tuple[str, Line]]:
        """Those of some providers, by name."""
        return [(name, line) for name, (_, line) in self._lines.items() if name in names]

    def candidate(
        self, target: Target, line: Line, patience: Patience, traits: Traits, *, named: bool = True
    ) -> Candidate:
        """`target` with its health and history, which all public models that use it share.

        Of those that the configuration does not name, as callers can make up names, only so many are kept.
        """
        key = (target.provider, target.model)
        known = self._health.get(key)
        if known is None or known[0] != patience:
            known = (patience, Circuit(patience), known[2] if known else Observed())
            if named or len(self._health) < _MOST_TARGETS:
                self._health[key] = known
        return Candidate(target, line, known[1], known[2], traits)

    def budget(self, model: str) -> RetryBudget:
        return self._budgets.setdefault(model, RetryBudget())

    def shared(self, model: str) -> Shared:
        """The state that all workers share of `model`'s routing, and what is counted for it here."""
        return self.routing.setdefault(model, Shared())

    def look_up_prices(self) -> None:
        """Of all targets that are configured. Blocking."""
        self.prices.look_up([Target(provider, model) for provider, model in list(self._health)])

    def circuits(self) -> dict[str, Circuit]:
        """Every target's circuit, by its label."""
        return {
            f"{provider}/{model}" if model else provider: circuit
            for (provider, model), (_, circuit, _) in list(self._health.items())
        }

    def overview(self) -> list[dict[str, Any]]:
        """Every target's circuit, why it is open and for how long, as this process has seen it; and the queue before its
        server, where there is one."""
        return [
            {
                "target": label,
                "state": circuit.state,
                "reason": circuit.reason,
                "reopens_in": round(circuit.reopens_in, 3),
                **({"queue": queue.told()} if (queue := self.queues.get(label.partition("/")[0])) is not None else {}),
            }
            for label, circuit in sorted(self.circuits().items())
        ]

    async def overview_told(self, _: object = None) -> list[dict[str, Any]]:
        """The same, for another worker that asks."""
        return self.overview()

    def start(self) -> None:
        """Begin what runs beside the calls of the lines in force. In the event loop."""
        self.queues.start()
        for _, provider in self._attended():
            provider.start()

    def states(self) -> dict[str, str]:
        """Of the providers' own servers, by the provider's name."""
        return {name: state for name, provider in self._attended() if (state := provider.state) is not None}

    async def aclose(self) -> None:
        """At the end: what was started is ended."""
        await asyncio.gather(*(line.aclose() for _, line in self._lines.values()))

    def _attended(self) -> Iterator[tuple[str, Attended]]:
        for name, (_, line) in list(self._lines.items()):
            for lane in line.lanes:
                if isinstance(lane.provider, Attended):
                    yield name, lane.provider

    def keep(self, names: Collection[str]) -> None:
        """Retire the lines of providers that are configured no more."""
        for name in [name for name in self._lines if name not in names]:
            self._retired.append(self._lines.pop(name)[1])

    def retired(self) -> list[Line]:
        """The lines that were replaced since this was last asked; they are the caller's to close."""
        retired, self._retired = self._retired, []
        return retired
