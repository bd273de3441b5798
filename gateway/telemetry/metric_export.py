"""The metrics of `/metrics`, sent to a collector too: read as a scrape reads them, so that no call pays for it.

https://github.com/open-telemetry/opentelemetry-proto/blob/v1.8.0/opentelemetry/proto/metrics/v1/metrics.proto
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import version
from struct import pack
from typing import TYPE_CHECKING

from gateway.telemetry import wire
from gateway.telemetry.collectors import Collector, NotTaken
from gateway.telemetry.names import SCHEMA_URL

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

log = logging.getLogger(__name__)

_CUMULATIVE = b"\x10\x02"  # aggregation_temporality: totals since the start
_LAST = 3.0

# The conventions' own names and units; Prometheus has them with underscores, and with the unit behind.
# https://github.com/open-telemetry/semantic-conventions/blob/v1.41.0/docs/gen-ai/gen-ai-metrics.md
CONVENTIONAL = {
    "gen_ai_client_operation_duration_seconds": ("gen_ai.client.operation.duration", "s"),
    "gen_ai_client_operation_time_to_first_chunk_seconds": ("gen_ai.client.operation.time_to_first_chunk", "s"),
    "gen_ai_client_operation_time_per_output_chunk_seconds": ("gen_ai.client.operation.time_per_output_chunk", "s"),
    "gen_ai_server_time_to_first_token_seconds": ("gen_ai.server.time_to_first_token", "s"),
    "gen_ai_server_time_per_output_token_seconds": ("gen_ai.server.time_per_output_token", "s"),
    "gen_ai_client_token_usage": ("gen_ai.client.token.usage", "{token}"),
}
LABELS = {
    "gen_ai_operation_name": "gen_ai.operation.name",
    "gen_ai_provider_name": "gen_ai.provider.name",
    "gen_ai_request_model": "gen_ai.request.model",
    "gen_ai_response_model": "gen_ai.response.model",
    "gen_ai_token_type": "gen_ai.token.type",
    "error_type": "error.type",
}

_Points = dict[tuple[tuple[str, str], ...], dict[str, float]]


class MetricExport:
    """A thread that sends all families every so many seconds, and a last time at the end."""

    def __init__(
        self,
        collector: Collector,
        resource: Mapping[str, str],
        families: Callable[[], Iterable[Metric]],
        every: float,
    ) -> None:
        self._collector = collector
        self._head = wire.resource(resource), wire.scope("rag-gateway", version("rag-gateway"))
        self._families = families
        self._every = every
        self._started = time.time_ns()
        self._well = True
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="metric-export", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._closing.set()
        self._thread.join(_LAST)

    def _run(self) -> None:
        over = False
        while not over:
            over = self._closing.wait(self._every)
            try:
                self._collector.send(metrics_request(*self._head, self._families(), self._started, time.time_ns()))
            except NotTaken as failure:  # the next ones are totals too: nothing is lost
                if self._well:
                    log.warning("the collector does not take metrics: %s", failure)
                self._well = False
            except Exception:
                log.exception("metrics could not be sent")
            else:
                if not self._well:
                    log.warning("the collector takes metrics again")
                self._well = True
        self._collector.close()


def metrics_request(resource: bytes, scope: bytes, families: Iterable[Metric], start: int, now: int) -> bytes:
    """opentelemetry.proto.collector.metrics.v1.ExportMetricsServiceRequest, of all families that have values."""
    times = wire.fixed64(2, start) + wire.fixed64(3, now)
    metrics = [wire.field(2, one) for family in families if (one := _metric(family, times))]
    return wire.export_request(resource, scope, SCHEMA_URL, metrics)


def _metric(family: Metric, times: bytes) -> bytes:
    name, unit = CONVENTIONAL.get(family.name, (family.name, "s" if family.name.endswith("_seconds") else ""))
    if family.type == "histogram":
        data, place = b"".join(_histogram(family, times)) + _CUMULATIVE, 9
    else:
        data, place = b"".join(_numbers(family, times)), 5
        if not data:
            return b""
        if family.type == "counter":
            data, place = data + _CUMULATIVE + b"\x18\x01", 7  # a sum that never falls
    if len(data) <= len(_CUMULATIVE):
        return b""
    return wire.text(1, name) + wire.text(2, family.documentation) + wire.text(3, unit) + wire.field(place, data)


def _numbers(family: Metric, times: bytes) -> Iterable[bytes]:
    for sample in family.samples:
        if not sample.name.endswith("_created"):
            yield wire.field(1, times + wire.double(4, sample.value) + _labels(7, sample.labels.items()))


def _histogram(family: Metric, times: bytes) -> Iterable[bytes]:
    points: _Points = {}
    for sample in family.samples:
        labels = tuple(pair for pair in sample.labels.items() if pair[0] != "le")
        point = points.setdefault(labels, {})
        kind = sample.name.removeprefix(family.name)
        if kind == "_bucket":
            point[sample.labels["le"]] = sample.value
        elif kind in ("_sum", "_count"):
            point[kind] = sample.value
    for labels, point in points.items():
        total, count = point.pop("_sum", 0.0), int(point.pop("_count", 0.0))
        ends = sorted((float(end), int(value)) for end, value in point.items())
        below, counts = 0, []
        for _, value in ends:
            counts.append(value - below)
            below = value
        bounds = [end for end, _ in ends[:-1]]  # the last is infinite
        yield wire.field(
            1,
            times
            + wire.fixed64(4, count)
            + wire.double(5, total)
            + wire.field(6, pack(f"<{len(counts)}Q", *counts))
            + wire.field(7, pack(f"<{len(bounds)}d", *bounds))
            + _labels(9, labels),
        )


def _labels(place: int, labels: Iterable[tuple[str, str]]) -> bytes:
    pairs = [(LABELS.get(name, name), value) for name, value in labels if value or name != "error_type"]
    return b"".join(
        [wire.field(place, wire.text(1, name) + wire.field(2, wire.text(1, value))) for name, value in pairs]
    )
