"""Settled calls as spans, received by a real OTLP endpoint and read as a tree."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult

from gateway.config.models import Telemetry
from gateway.errors import UpstreamFailed
from gateway.exchange import Exchange
from gateway.runtime import Gateway
from gateway.telemetry.traces import Traces
from gateway.values import Attempt, Caller, Target, Usage

MS = 1_000_000


class Sink:
    def __init__(self) -> None:
        self.requests: list[ExportTraceServiceRequest] = []
        sink = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    import gzip

                    body = gzip.decompress(body)
                sink.requests.append(ExportTraceServiceRequest.FromString(body))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *args: Any) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    @property
    def spans(self) -> list[Any]:
        return [s for r in self.requests for rs in r.resource_spans for ss in rs.scope_spans for s in ss.spans]


@pytest.fixture
def sink() -> Iterator[Sink]:
    sink = Sink()
    yield sink
    sink.server.shutdown()
    sink.thread.join()
    sink.server.server_close()


def settings(url: str = "http://127.0.0.1:9", sample: float = 1.0) -> Telemetry:
    return Telemetry.model_validate({"traces": {"otlp": {"endpoint": url}, "sample": sample}})


def streamed_call() -> Exchange:
    exchange = Exchange("chat.completions")
    start = exchange.started
    exchange.trace_id, exchange.trace_parent, exchange.trace_flags = (
        "0af7651916cd43dd8448eb211c80319c",
        "b7ad6b7169203331",
        "01",
    )
    exchange.caller = Caller("key", "tenant-a")
    exchange.model, exchange.stream, exchange.template = "handbook", True, "handbook@1"
    exchange.target = Target("openai", "gpt-x")
    exchange.attempts = [Attempt(exchange.target, "ok", 200, 1.0)]
    exchange.served_model, exchange.answer_id, exchange.finish_reason = "gpt-x-2026", "chatcmpl-1", "stop"
    exchange.usage = Usage(10, 20, 3, 4)
    exchange.status = 200
    exchange.stages = [
        ("authenticate", start, start + 1000),
        ("retrieval", start, start + 5 * MS),
        ("call", start + 5 * MS, start + 9 * MS),
    ]
    exchange.first_chunk = start + 9 * MS
    exchange.settle()
    exchange.ended = start + 20 * MS
    return exchange


def attributes(span: Any) -> dict[str, Any]:
    def value(v: Any) -> Any:
        kind = v.WhichOneof("value")
        return [value(item) for item in v.array_value.values] if kind == "array_value" else getattr(v, kind)

    return {item.key: value(item.value) for item in span.attributes}


def test_the_tree_of_a_call_as_a_collector_sees_it(sink: Sink) -> None:
    traces = Traces(settings(f"http://127.0.0.1:{sink.server.server_port}"))
    exchange = streamed_call()
    traces.export([exchange])
    traces.close()
    server, retrieval, call = sink.spans
    assert [server.name, retrieval.name, call.name] == ["POST /v1/chat/completions", "retrieval", "chat gpt-x"]
    assert {span.trace_id.hex() for span in sink.spans} == {exchange.trace_id}
    assert server.parent_span_id.hex() == exchange.trace_parent
    assert retrieval.parent_span_id == call.parent_span_id == server.span_id
    assert call.span_id.hex() == exchange.span_id  # which was sent upstream as the parent of what happens there
    assert (call.end_time_unix_nano - call.start_time_unix_nano) == 15 * MS
    assert attributes(call) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-x",
        "gen_ai.request.stream": True,
        "gen_ai.response.time_to_first_chunk": 0.004,
        "gen_ai.response.model": "gpt-x-2026",
        "gen_ai.response.id": "chatcmpl-1",
        "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.usage.input_tokens": 10,
        "gen_ai.usage.output_tokens": 20,
        "gen_ai.usage.cache_read.input_tokens": 3,
        "gen_ai.usage.reasoning.output_tokens": 4,
        "rag_gateway.attempts": 1,
    }
    assert not [name for name in attributes(server) if name.startswith("gen_ai")]
    assert attributes(server)["http.response.status_code"] == 200


class Collected(SpanExporter):
    def __init__(self) -> None:
        self.names: list[str] = []

    def export(self, spans: Any) -> SpanExportResult:
        self.names += [span.name for span in spans if isinstance(span, ReadableSpan)]
        return SpanExportResult.SUCCESS


def test_what_is_kept_is_decided_at_the_end() -> None:
    collected = Collected()
    traces = Traces(settings(sample=0.0), SimpleSpanProcessor(collected))  # type: ignore[arg-type]  # as quick, and at once
    plain, unsampled, sampled, failed = (Exchange("embeddings") for _ in range(4))
    for exchange, flags in ((unsampled, "00"), (sampled, "01")):
        exchange.trace_flags, exchange.trace_parent = flags, "b7ad6b7169203331"
    failed.outcome = "error"
    failed.error_code = UpstreamFailed.code
    kept = []
    for exchange in (plain, unsampled, sampled, failed):
        exchange.settle()
        before = len(collected.names)
        traces.export([exchange])
        kept.append(len(collected.names) > before)
    assert kept == [False, False, True, True]


def test_a_share_of_calls_is_kept() -> None:
    traces = Traces(settings(sample=0.25), SimpleSpanProcessor(Collected()))  # type: ignore[arg-type]  # as above
    kept = 0
    for _ in range(2000):
        exchange = Exchange("embeddings")
        exchange.settle()
        kept += traces._keeps(exchange)
    assert 400 < kept < 600


def test_a_dead_collector_costs_no_call_anything() -> None:
    traces = Traces(settings("http://127.0.0.1:9"))
    traces.export([streamed_call() for _ in range(5000)])  # more than its queue holds: the rest is let go
    assert traces._processor._batch_processor._max_queue_size <= 4096


@pytest.mark.parametrize(("sample", "flags"), [(1.0, "01"), (0.0, "00"), (None, "00")])
def test_the_provider_is_told_of_a_span_that_will_be_exported(sample: float | None, flags: str) -> None:
    gateway = Gateway(None, SimpleNamespace(strict=False), None, None, 0, sample)  # type: ignore[arg-type]  # plays no part here
    exchange = Exchange("chat.completions")
    gateway.sample(exchange)
    assert exchange.trace_flags == flags
    called = Exchange("chat.completions")
    called.trace_parent, called.trace_flags = "b7ad6b7169203331", "01"
    own = called.span_id
    gateway.sample(called)
    assert called.trace_flags == "01"
    assert called.span_id == ("b7ad6b7169203331" if sample is None else own)
