"""The side services and the records that the configuration asks for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.config.models import Configuration
from gateway.records.journal import CallJournal

if TYPE_CHECKING:
    from gateway.exchange import Exchange
    from gateway.guard_http import HttpPosts
    from gateway.pricing import PriceBook
    from gateway.records.feedback import FeedbackStore
    from gateway.records.responses import ResponseStore
    from gateway.records.routing import RoutingStore
    from gateway.services import FeatureService, KnowledgeService
    from gateway.state import RedisState
    from gateway.vector_stores import VectorStores
    from guardrails.outside import Post


@dataclass(frozen=True, slots=True)
class Services:
    """The side services that the configuration asks for. `state` is None where it is this process's memory."""

    knowledge: KnowledgeService | None
    features: FeatureService | None
    vector_stores: VectorStores | None = None
    state: RedisState | None = None
    guard_posts: GuardPosts = field(default_factory=lambda: GuardPosts())

    def runs(self) -> list[Coroutine[None, None, None]]:
        services = (self.knowledge, self.features, self.vector_stores, self.guard_posts)
        return [service.run() for service in services if service is not None]

    async def states(self) -> dict[str, str]:
        named = {"knowledge": self.knowledge, "features": self.features}
        states: dict[str, str] = {
            name: await service.state() for name, service in named.items() if service is not None
        }
        if self.state is not None:
            states["state"] = "ok" if self.state.healthy else "unavailable"
        return states

    async def aclose(self) -> None:
        """After all that runs has ended, since it may still have something to settle."""
        if self.state is not None:
            await self.state.aclose()


class GuardPosts:
    """HTTP for the guardrails that ask a server: made when a configuration first has one, kept across reloads."""

    def __init__(self) -> None:
        self._made: HttpPosts | None = None

    def post(self, url: str, headers: Mapping[str, str], timeout: float) -> Post:
        if self._made is None:
            from gateway.guard_http import HttpPosts

            self._made = HttpPosts()
        return self._made.post(url, headers, timeout)

    async def run(self) -> None:
        """Until cancelled."""
        try:
            await asyncio.Event().wait()
        finally:
            if self._made is not None:
                await self._made.aclose()


def open_services(configuration: Configuration) -> Services:
    """Nothing is started yet: `runs` does that, in the server's loop."""
    state = _state(configuration)
    if configuration.retrieval is None and configuration.features is None:
        return Services(None, None, state=state)
    from gateway.services import FeatureService, KnowledgeService

    features = FeatureService(configuration) if configuration.features is not None else None
    if configuration.retrieval is None:
        return Services(None, features, state=state)
    from gateway.vector_stores import VectorStores

    knowledge = KnowledgeService(configuration)
    return Services(knowledge, features, VectorStores(configuration.data_dir / "files", knowledge), state)


def _state(configuration: Configuration) -> RedisState | None:
    settings = configuration.state
    if not settings.shared:
        return None
    from gateway.state import RedisState

    return RedisState(settings.url, deadline=settings.deadline, prefix=settings.prefix)


@dataclass(frozen=True, slots=True)
class Records:
    """The record store's parts, and what closes them and the trace exporter behind them."""

    journal: CallJournal
    routing: RoutingStore
    feedback: FeedbackStore
    responses: ResponseStore | None
    close: Callable[[], None]


def open_records(configuration: Configuration, prices: PriceBook) -> Records:
    """Open and migrate the record store. Raises sqlite3.Error or OSError."""
    from gateway.records.feedback import FeedbackStore
    from gateway.records.pseudonyms import remove_expired
    from gateway.records.responses import ResponseStore
    from gateway.records.routing import RoutingStore
    from gateway.records.sqlite import SqliteCalls

    url = configuration.records.url
    assert url is not None, "loading fills in the default"
    path = Path(url.removeprefix("sqlite:///"))
    calls = SqliteCalls(path)
    remove_expired(path)
    export, close_traces = None, None
    if configuration.telemetry.traces.otlp is not None:
        from gateway.telemetry.traces import Traces

        traces = Traces(configuration.telemetry)
        export, close_traces = traces.export, traces.close

    def price(exchange: Exchange) -> None:
        if exchange.cost is None and exchange.usage is not None and exchange.target is not None:
            found = prices.price(exchange.target)
            if found is not None:
                exchange.cost = 0.0 if exchange.cache == "hit" else found.cost(exchange.usage)

    journal = CallJournal(calls, export, price)

    def close() -> None:
        journal.close()
        if close_traces is not None:
            close_traces()

    keep = configuration.records.responses
    responses = None if keep == "off" else ResponseStore(path, keep)
    return Records(journal, RoutingStore(path), FeedbackStore(path), responses, close)
