"""The side services and the records that the configuration asks for."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.config.models import Configuration
from gateway.records.journal import CallJournal

if TYPE_CHECKING:
    from gateway.services import FeatureService, KnowledgeService


@dataclass(frozen=True, slots=True)
class Services:
    """The side services that the configuration asks for."""

    knowledge: KnowledgeService | None
    features: FeatureService | None

    def runs(self) -> list[Coroutine[None, None, None]]:
        return [service.run() for service in (self.knowledge, self.features) if service is not None]

    async def states(self) -> dict[str, str]:
        named = {"knowledge": self.knowledge, "features": self.features}
        return {name: await service.state() for name, service in named.items() if service is not None}


def open_services(configuration: Configuration) -> Services:
    """Nothing is started yet: `runs` does that, in the server's loop."""
    if configuration.retrieval is None and configuration.features is None:
        return Services(None, None)
    from gateway.services import FeatureService, KnowledgeService

    return Services(
        KnowledgeService(configuration) if configuration.retrieval is not None else None,
        FeatureService(configuration) if configuration.features is not None else None,
    )


def open_records(configuration: Configuration) -> tuple[CallJournal, Callable[[], None]]:
    """The call log, and what closes it and the trace exporter behind it."""
    from gateway.records.sqlite import SqliteCalls

    url = configuration.records.url
    assert url is not None, "loading fills in the default"
    calls = SqliteCalls(Path(url.removeprefix("sqlite:///")))
    if configuration.telemetry.traces.otlp is None:
        journal = CallJournal(calls)
        return journal, journal.close
    from gateway.telemetry.traces import Traces

    traces = Traces(configuration.telemetry)
    journal = CallJournal(calls, traces.export)

    def close() -> None:
        journal.close()
        traces.close()

    return journal, close
