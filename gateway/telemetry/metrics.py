"""Prometheus metrics of the gateway. Labels come from the configuration, never from what a caller wrote."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from gateway.telemetry.merging import snapshot
from gateway.telemetry.names import OPERATIONS

if TYPE_CHECKING:
    from gateway.exchange import Exchange
    from gateway.telemetry.merging import How, Snapshot

# https://github.com/open-telemetry/semantic-conventions/blob/v1.41.0/docs/gen-ai/gen-ai-metrics.md
_SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_TOKENS = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864)
_STAGE_SECONDS = (0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_MOST_MODELS = 200  # distinct model labels; `provider/model` names beyond that are counted as "other"


_Counts = Callable[[], Mapping[tuple[str, ...], float]]


class _Counted(Collector):
    def __init__(self, name: str, help_: str, labels: tuple[str, ...], counts: _Counts, *, falls: bool = False) -> None:
        """`falls`: the numbers are no counts but may fall."""
        self._name, self._help, self._labels, self._counts = name, help_, labels, counts
        self._family = GaugeMetricFamily if falls else CounterMetricFamily

    def collect(self) -> Iterable[Metric]:
        family = self._family(self._name, self._help, labels=self._labels)
        for values, count in self._counts().items():
            family.add_metric(values, count)
        yield family


class _Series:
    """The children that one kind of call touches, looked up once."""

    __slots__ = ("calls", "duration", "first_chunk", "input_tokens", "output_tokens")

    def __init__(self, metrics: Metrics, key: tuple[str, str, str, str, int]) -> None:
        endpoint, model, target, outcome, status = key
        operation = OPERATIONS[endpoint]
        self.calls = metrics.calls.labels(endpoint, model, target, outcome, str(status))
        self.duration = metrics.duration.labels(operation, model, target)
        self.first_chunk = metrics.first_chunk.labels(operation, model, target)
        self.input_tokens = metrics.tokens.labels(operation, model, target, "input")
        self.output_tokens = metrics.tokens.labels(operation, model, target, "output")


class Metrics:
    def __init__(self, waiting: Callable[[], int], dropped: Callable[[], int]) -> None:
        """`waiting` and `dropped` tell the call log's queue and losses when scraped."""
        self._registry = registry = CollectorRegistry()
        self._how: dict[str, How] = {}
        for family in ProcessCollector(registry=registry).collect():
            self._how[family.name] = "each"
        Gauge("rag_gateway_build_info", "What runs.", ("version",), registry=registry).labels(
            version("rag-gateway")
        ).set(1)
        self._how["rag_gateway_build_info"] = "max"
        self.gauge("rag_gateway_workers", "Processes that serve.", lambda: 1)
        of = ("gen_ai_operation_name", "rag_gateway_model", "gen_ai_provider_name")
        self.calls = Counter(
            "rag_gateway_calls", "Calls that have ended.", ("endpoint", "model", "target", "outcome", "status"),
            registry=registry,
        )  # fmt: skip
        self.duration = Histogram(
            "gen_ai_client_operation_duration_seconds", "Calls from first byte in to last byte out.", of,
            buckets=_SECONDS, registry=registry,
        )  # fmt: skip
        self.first_chunk = Histogram(
            "gen_ai_client_operation_time_to_first_chunk_seconds", "Streams until their first chunk.", of,
            buckets=_SECONDS, registry=registry,
        )  # fmt: skip
        self.tokens = Histogram(
            "gen_ai_client_token_usage", "Tokens of a call.", (*of, "gen_ai_token_type"), buckets=_TOKENS,
            registry=registry,
        )  # fmt: skip
        self._stages = Histogram(
            "rag_gateway_stage_duration_seconds", "Time of each stage.", ("stage",), buckets=_STAGE_SECONDS,
            registry=registry,
        )  # fmt: skip
        self._cache = Counter("rag_gateway_cache", "Answers by cache outcome.", ("model", "outcome"), registry=registry)
        self._cost = Counter(
            "rag_gateway_cost_usd", "What calls cost, where the price is known.", ("model", "target"), registry=registry
        )
        self._verdicts = Counter(
            "rag_gateway_guardrail_verdicts", "What guardrails found.", ("stage", "check", "action"), registry=registry
        )
        self._attempts = Counter(
            "rag_gateway_failed_attempts", "Tries at a target that failed.", ("target", "code"), registry=registry
        )
        self._limited = Counter(
            "rag_gateway_limited", "Calls refused by a limit or a budget.", ("limit", "per"), registry=registry
        )
        self._degraded = Counter(
            "rag_gateway_degraded", "Stages passed over because their service was away.", ("stage",), registry=registry
        )
        self.running = 0
        self.gauge("rag_gateway_calls_in_progress", "Calls that run now.", lambda: self.running)
        self.turned_away = 0
        self.counted(
            "rag_gateway_turned_away", "Calls refused because server.max_in_flight were running.", (),
            lambda: {(): self.turned_away},
        )  # fmt: skip
        self.gauge("rag_gateway_records_waiting", "Calls not yet in the call log.", waiting)
        self.gauge("rag_gateway_records_dropped", "Calls that the call log lost.", dropped, how="sum")
        self.loop_lag = Histogram(
            "rag_gateway_event_loop_lag_seconds", "How late the event loop runs its timers.", buckets=_STAGE_SECONDS,
            registry=registry,
        )  # fmt: skip
        self._series: dict[tuple[str, str, str, str, int], _Series] = {}
        self._stage_children: dict[str, Histogram] = {}
        self._cache_children: dict[tuple[str, str], Counter] = {}
        self._models: set[str] = set()

    def begin(self) -> None:
        self.running += 1

    def observe(self, exchange: Exchange) -> None:
        """Account for a settled call."""
        self.running -= 1
        model = exchange.model or "unknown"
        if model not in self._models:
            if "/" in model and len(self._models) >= _MOST_MODELS:
                model = "other"  # callers make these names up; those without a slash are the configuration's
            self._models.add(model)
        target = exchange.target.provider if exchange.target else "none"
        key = (exchange.endpoint, model, target, exchange.outcome, exchange.status)
        series = self._series.get(key)
        if series is None:
            series = self._series[key] = _Series(self, key)
        series.calls.inc()
        started = exchange.started
        series.duration.observe((exchange.ended - started) / 1e9)
        if exchange.stream and exchange.first_chunk:
            series.first_chunk.observe((exchange.first_chunk - started) / 1e9)
        usage = exchange.usage
        if usage is not None:
            series.input_tokens.observe(usage.prompt_tokens)
            series.output_tokens.observe(usage.completion_tokens)
        for name, begin, end in exchange.stages:
            child = self._stage_children.get(name)
            if child is None:
                child = self._stage_children[name] = self._stages.labels(name)
            child.observe((end - begin) / 1e9)
        if exchange.cache != "off":
            outcome = self._cache_children.get((model, exchange.cache))
            if outcome is None:
                outcome = self._cache_children[model, exchange.cache] = self._cache.labels(model, exchange.cache)
            outcome.inc()
        if exchange.cost:
            self._cost.labels(model, target).inc(exchange.cost)
        for stage, verdict in exchange.verdicts:
            self._verdicts.labels(stage, verdict.check, verdict.action).inc()
        for attempt in exchange.attempts:
            if attempt.outcome != "ok":
                self._attempts.labels(attempt.target.provider, attempt.outcome[:64]).inc()
        for stage in exchange.degraded:
            self._degraded.labels(stage).inc()
        if exchange.permit is not None and (refusal := exchange.permit.refusal) is not None:
            self._limited.labels(*refusal).inc()

    def gauge(self, name: str, help_: str, value: Callable[[], float], how: How = "live") -> None:
        """A number that is looked up when scraped; `how` says what it is for several workers together."""
        Gauge(name, help_, registry=self._registry).set_function(value)
        self._how[name] = how

    def counted(self, name: str, help_: str, labels: tuple[str, ...], counts: _Counts) -> None:
        """A counter that is kept elsewhere, by its labels' values, and looked up when scraped."""
        self._registry.register(_Counted(name, help_, labels, counts))

    def levels(self, name: str, help_: str, labels: tuple[str, ...], values: _Counts) -> None:
        """Numbers that may fall, by their labels' values, looked up when scraped; several workers' are added up."""
        self._registry.register(_Counted(name, help_, labels, values, falls=True))

    def histogram(self, name: str, help_: str, labels: tuple[str, ...]) -> Histogram:
        """Of seconds, as stages take."""
        return Histogram(name, help_, labels, buckets=_STAGE_SECONDS, registry=self._registry)

    def exposition(self) -> tuple[bytes, str]:
        """The text format and its content type, of this process."""
        return generate_latest(self._registry), CONTENT_TYPE_LATEST

    async def snapshot_beside(self, _: object = None) -> Snapshot:
        """The same for what merges it with other processes', made in a thread: with many models it takes a while."""
        return await asyncio.to_thread(snapshot, self._registry, self._how)


async def watch_loop(metrics: Metrics, every: float = 0.5) -> None:
    """Measure how late the event loop is, until cancelled."""
    while True:
        before = time.perf_counter()
        await asyncio.sleep(every)
        metrics.loop_lag.observe(max(0.0, time.perf_counter() - before - every))
