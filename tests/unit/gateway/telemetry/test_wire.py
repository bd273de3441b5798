"""OTLP as it is written by hand, read back by OpenTelemetry's own classes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from otlp_sink import attributes_of
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from gateway.telemetry import wire
from gateway.telemetry.collectors import rejected
from gateway.telemetry.metric_export import metrics_request
from gateway.telemetry.spans import CLIENT, SERVER, Tree

TEXT = some.text(max_size=200)
VALUES = some.one_of(
    TEXT,
    some.booleans(),
    some.integers(-(2**63), 2**63 - 1),
    some.floats(allow_nan=False),
    some.lists(TEXT, max_size=5),
)
TIMES = some.integers(0, 2**63)


@given(
    attributes=some.dictionaries(some.text(min_size=1, max_size=40), VALUES, max_size=8),
    name=TEXT, start=TIMES, lasts=some.integers(0, 10**12), state=some.sampled_from(["", "a=1,b=2"]),
    failed=some.booleans(),
)  # fmt: skip
def test_a_span_is_read_as_it_was_written(
    attributes: dict[str, Any], name: str, start: int, lasts: int, state: str, failed: bool
) -> None:
    tree = Tree("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", state)
    root = tree.add(name, SERVER, "00f067aa0ba902b7", start, start + lasts, attributes, tree.root)
    root.events.append(("event", start + 1, attributes))
    root.failed = failed
    tree.add("child", CLIENT, root.span_id, start, start - 1, {})
    encoder = wire.Encoder()
    for _ in range(2):  # the second time, what it knows already
        parts = [encoder.tree(tree)]
    head = wire.resource({"service.name": "gw"}), wire.scope("rag-gateway", "1")
    read = ExportTraceServiceRequest.FromString(wire.export_request(*head, "https://schema", parts))
    (of_process,) = read.resource_spans
    (of_scope,) = of_process.scope_spans
    assert attributes_of(of_process.resource) == {"service.name": "gw"}
    assert (of_scope.scope.name, of_scope.scope.version, of_scope.schema_url) == ("rag-gateway", "1", "https://schema")
    one, child = of_scope.spans
    assert one.trace_id.hex() == child.trace_id.hex() == tree.trace_id
    assert (one.span_id.hex(), one.parent_span_id.hex()) == (tree.root, "00f067aa0ba902b7")
    assert child.parent_span_id == one.span_id != child.span_id
    assert (one.name, one.kind, child.kind, one.trace_state) == (name.encode("utf-8", "replace").decode(), 2, 3, state)
    assert (one.start_time_unix_nano, one.end_time_unix_nano) == (start, start + lasts)
    assert child.end_time_unix_nano == start  # no span ends before it begins
    assert one.status.code == (2 if failed else 0)
    assert (one.flags, child.flags) == (0x301, 0x101)
    told = attributes
    assert attributes_of(one) == attributes_of(one.events[0]) == told
    assert (one.events[0].name, one.events[0].time_unix_nano) == ("event", start + 1)


def test_half_of_a_surrogate_pair_is_sent_as_a_question_mark() -> None:
    tree = Tree("0" * 31 + "1", "0" * 15 + "1", None)
    tree.add("\ud800", SERVER, "", 1, 2, {"a": "\udfff"}, tree.root)
    read = ExportTraceServiceRequest.FromString(wire.export_request(b"", b"", "", [wire.Encoder().tree(tree)]))
    span = read.resource_spans[0].scope_spans[0].spans[0]
    assert (span.name, attributes_of(span)) == ("?", {"a": "?"})


def test_metrics_are_read_as_they_were_scraped() -> None:
    registry = CollectorRegistry()
    calls = Counter("calls", "Calls.", ("model",), registry=registry)
    calls.labels("a").inc(3)
    Gauge("level", "A level.", registry=registry).set(1.5)
    Histogram("empty_seconds", "Nothing yet.", ("x",), registry=registry)
    taken = Histogram(
        "gen_ai_client_operation_duration_seconds", "Durations.", ("gen_ai_operation_name", "error_type"),
        buckets=(0.1, 1.0), registry=registry,
    )  # fmt: skip
    for seconds in (0.05, 0.5, 0.6, 5.0):
        taken.labels("chat", "").observe(seconds)
    request = metrics_request(wire.resource({"a": "b"}), wire.scope("s", "1"), registry.collect(), 10, 20)
    (of_process,) = ExportMetricsServiceRequest.FromString(request).resource_metrics
    told = {metric.name: metric for metric in of_process.scope_metrics[0].metrics}
    assert set(told) == {"calls", "level", "gen_ai.client.operation.duration"}
    total = told["calls"].sum
    assert (total.is_monotonic, total.aggregation_temporality) == (True, 2)
    (point,) = total.data_points
    assert (point.as_double, attributes_of(point), point.start_time_unix_nano, point.time_unix_nano) == (
        3.0, {"model": "a"}, 10, 20,
    )  # fmt: skip
    assert told["level"].gauge.data_points[0].as_double == 1.5
    (spread,) = told["gen_ai.client.operation.duration"].histogram.data_points
    assert attributes_of(spread) == {"gen_ai.operation.name": "chat"}
    assert (spread.count, list(spread.bucket_counts), list(spread.explicit_bounds)) == (4, [1, 2, 1], [0.1, 1.0])
    assert spread.sum == pytest.approx(6.15)


@pytest.mark.parametrize("count", [0, 1, 200, 70_000])
def test_how_many_a_collector_refused_is_read_from_its_answer(count: int) -> None:
    partial = ExportTracePartialSuccess(rejected_spans=count, error_message="too old")
    assert rejected(ExportTraceServiceResponse(partial_success=partial).SerializeToString()) == count
    assert rejected(ExportTraceServiceResponse().SerializeToString()) == 0
