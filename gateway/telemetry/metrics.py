"""Prometheus metrics of the gateway. Labels come from the configuration, never from what a caller wrote."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST as CONTENT_TYPE
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from gateway.telemetry.call_metrics import STAGE_SECONDS, CallMetrics
from gateway.telemetry.labels import AnyName
from gateway.telemetry.merging import snapshot
from gateway.telemetry.series import Distributions

if TYPE_CHECKING:
    from gateway.exchange import Exchange
    from gateway.telemetry.labels import Configured
    from gateway.telemetry.merging import How, Snapshot

__all__ = ["CONTENT_TYPE", "Metrics"]

_Counts = Callable[[], Mapping[tuple[str, ...], float]]


class _Counted(Collector):
    def __init__(self, name: str, help_: str, labels: tuple[str, ...], counts: _Counts, *, falls: bool = False) -> None:
        """`falls`: the numbers are no counts but may fall."""
        self._name, self._help, self._labels, self._counts = name, help_, labels, counts
        self._family = GaugeMetricFamily if falls else CounterMetricFamily

    def collect(self) -> Iterable[Metric]:
        family = self._family(self._name, self._help, labels=self._labels)
        for values, count in list(self._counts().items()):  # at once: the event loop may add to it meanwhile
            family.add_metric(values, count)
        yield family


class Metrics:
    """One process's. The parts of a gateway tell at its start what is to be looked up in them when somebody scrapes:
    `gauge`, `levels`, `counted`, `histogram`. Settled calls are told to `observe`, in the event loop.
    """

    def __init__(
        self,
        waiting: Callable[[], int],
        dropped: Callable[[], int],
        configured: Configured = AnyName(),
    ) -> None:
        """`waiting` and `dropped` tell the call log's queue and losses when scraped. `configured`: which names
        may be labels.
        """
        self._registry = registry = CollectorRegistry()
        self._how: dict[str, How] = {}
        for family in ProcessCollector(registry=registry).collect():
            self._how[family.name] = "each"
        Gauge("rag_gateway_build_info", "What runs.", ("version",), registry=registry).labels(
            version("rag-gateway")
        ).set(1)
        self._how["rag_gateway_build_info"] = "max"
        self.gauge("rag_gateway_workers", "Processes that serve.", lambda: 1)
        self.gauge("rag_gateway_threads", "Threads of a process.", threading.active_count, how="each")
        self._calls = CallMetrics(configured)
        for calls in self._calls.families():
            registry.register(calls)
        self.running = 0
        self.gauge("rag_gateway_calls_in_progress", "Calls that run now.", lambda: self.running)
        self.turned_away = 0
        self.counted(
            "rag_gateway_turned_away", "Calls refused because server.max_in_flight were running.", (),
            lambda: {(): self.turned_away},
        )  # fmt: skip
        self.gauge("rag_gateway_records_waiting", "Calls not yet in the call log.", waiting)
        self.gauge("rag_gateway_records_dropped", "Calls that the call log lost.", dropped, how="sum")
        self.loop_lag = self.histogram(
            "rag_gateway_event_loop_lag_seconds", "How late the event loop runs its timers.", ()
        ).of()

    def begin(self) -> None:
        self.running += 1

    def observe(self, exchange: Exchange) -> None:
        """Account for a settled call."""
        self.running -= 1
        self._calls.observe(exchange)

    def rated(self, model: str | None, score: float) -> None:
        """Account for somebody's feedback on a call of that model."""
        self._calls.rated(model, score)

    def gauge(self, name: str, help_: str, value: Callable[[], float], how: How = "live") -> None:
        """A number that is looked up when scraped; `how` says what it is for several workers together."""
        Gauge(name, help_, registry=self._registry).set_function(value)
        self._how[name] = how

    def counted(self, name: str, help_: str, labels: tuple[str, ...], counts: _Counts) -> None:
        """A counter that is kept elsewhere, by its labels' values, and looked up when scraped."""
        self._registry.register(_Counted(name, help_, labels, counts))

    def levels(self, name: str, help_: str, labels: tuple[str, ...], values: _Counts, how: How = "live") -> None:
        """Numbers that may fall, by their labels' values, looked up when scraped, maybe in another thread."""
        self._registry.register(_Counted(name, help_, labels, values, falls=True))
        self._how[name] = how

    def histogram(self, name: str, help_: str, labels: tuple[str, ...]) -> Distributions:
        """Of seconds, as stages take. It belongs to the event loop."""
        made = Distributions(name, help_, labels, STAGE_SECONDS)
        self._registry.register(made)
        return made

    def families(self) -> Iterable[Metric]:
        """All that is told, as of now."""
        return self._registry.collect()

    def exposition(self) -> bytes:
        """Of this process, in Prometheus' text format. With many models it takes tens of milliseconds."""
        return generate_latest(self._registry)

    async def snapshot_beside(self, _: object = None) -> Snapshot:
        """The same for what merges it with other processes', made in a thread: with many models it takes a while."""
        return await asyncio.to_thread(snapshot, self._registry, self._how)
