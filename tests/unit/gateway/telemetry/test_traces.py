"""Settled calls as spans, received by a real OTLP endpoint and read as a tree."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from gateway_process import until
from otlp_sink import GrpcSink, Sink, attributes_of

from gateway.config.telemetry import Telemetry
from gateway.exchange import Exchange
from gateway.providers.origin import Origin
from gateway.telemetry.call_spans import Facts, call_spans
from gateway.telemetry.collectors import NotTaken
from gateway.telemetry.names import LATEST, V1_41, chosen
from gateway.telemetry.resource import resource_attributes
from gateway.telemetry.sampling import Sampler
from gateway.telemetry.sending import Sender
from gateway.telemetry.spans import Span
from gateway.telemetry.traces import Traces
from gateway.telemetry.wire import Encoder
from gateway.values import Caller, Searched, Target, Usage
from guardrails.verdicts import Finding, Verdict
from retrieval.passages import Passage

MS = 1_000_000
OPENAI = Origin("https://api.openai.com/v1", connect_timeout=1.0)
RESOURCE = {"service.name": "tests", "service.instance.id": "1"}
FACTS = Facts(V1_41, lambda name: name, "all-MiniLM-L6-v2")


def settings(url: str = "http://127.0.0.1:9", **traces: Any) -> Telemetry:
    return Telemetry.model_validate({"traces": {"otlp": {"endpoint": url}, "sample": 1.0, "every": "1ms", **traces}})


def attempted(exchange: Exchange, target: Target, outcome: str, http_status: int, ms: float = 1.0) -> None:
    attempt = exchange.attempt(target)
    attempt.outcome, attempt.http_status, attempt.ms = outcome, http_status, ms
    attempt.sent = OPENAI, b"/chat/completions"
    exchange.attempts.append(attempt)


def streamed_call() -> Exchange:
    exchange = Exchange("chat.completions")
    start = exchange.started
    exchange.trace_id, exchange.trace_parent, exchange.trace_flags = (
        "0af7651916cd43dd8448eb211c80319c",
        "b7ad6b7169203331",
        "01",
    )
    exchange.trace_state = "vendor=opaque"
    exchange.caller = Caller("key", "tenant-a")
    exchange.model, exchange.stream, exchange.template = "handbook", True, "handbook@1"
    exchange.target = Target("openai", "gpt-x")
    attempted(exchange, exchange.target, "upstream_failed", 503)
    attempted(exchange, exchange.target, "ok", 200)
    exchange.served_model, exchange.answer_id, exchange.finish_reason = "gpt-x-2026", "chatcmpl-1", "stop"
    exchange.usage = Usage(10, 20, 3, 4)
    exchange.status = 200
    exchange.searched = Searched("handbook", ("a question",), False, "hybrid", False, 6, None)
    exchange.passages = [Passage("d", "v", "s", "handbook", 0.5, "", "", "words")]
    exchange.searches = [("embed", start + MS, start + 2 * MS, 1), ("search", start + 2 * MS, start + 3 * MS, 40)]
    exchange.verdicts = [("input", Verdict("pii", "mask", (Finding("EMAIL", 0, 4, 1.0),), "1"))]
    last = exchange.attempts[-1].began
    exchange.stages = [
        ("authenticate", start, start + 1000),
        ("input_guardrails", start, start + 1000),
        ("retrieval", start, start + 5 * MS),
        ("call", exchange.attempts[0].began, last + 4 * MS),
    ]
    exchange.first_chunk = exchange.attempts[0].began + 4 * MS
    exchange.given = {
        "temperature": b"0.5", "max_tokens": b"100", "seed": b"7", "n": b"2", "stop": b'["END"]', "messages": b"[]",
        "response_format": b'{"type":"json_schema","json_schema":{"name":"' + b"x" * 2000 + b'"}}',
    }  # fmt: skip
    exchange.settle()
    exchange.ended = start + 20 * MS
    Sampler(settings().traces).settled(exchange)
    return exchange


def test_the_tree_of_a_call_as_a_collector_sees_it() -> None:
    exchange = streamed_call()
    with Sink() as sink:
        traces = Traces(settings(sink.url), RESOURCE, FACTS)
        traces.export([exchange])
        traces.close()
        assert (traces.exported, traces.dropped) == (8, 0)
        (request,) = sink.requests
    (of_process,) = request.resource_spans
    assert {item.key for item in of_process.resource.attributes} >= {"service.name", "service.instance.id"}
    assert of_process.schema_url == "https://opentelemetry.io/schemas/1.41.0"
    spans: dict[str, Any] = {}
    for span in sink.spans:
        spans[span.name if span.name not in spans else span.name + " again"] = span
    assert list(spans) == [
        "POST /v1/chat/completions", "guardrail input", "retrieval handbook", "embeddings all-MiniLM-L6-v2",
        "search handbook", "chat gpt-x", "POST", "POST again",
    ]  # fmt: skip
    root, call, first, second = (spans[n] for n in ("POST /v1/chat/completions", "chat gpt-x", "POST", "POST again"))
    assert {span.trace_id.hex() for span in sink.spans} == {exchange.trace_id}
    assert {span.trace_state for span in sink.spans} == {"vendor=opaque"}
    assert root.parent_span_id.hex() == exchange.trace_parent
    beneath = {name for name, span in spans.items() if span.parent_span_id == root.span_id}
    assert beneath == {"guardrail input", "retrieval handbook", "chat gpt-x"}
    assert {n for n, s in spans.items() if s.parent_span_id == spans["retrieval handbook"].span_id} == {
        "embeddings all-MiniLM-L6-v2", "search handbook",
    }  # fmt: skip
    # Each try is a span of its own, and the one that its provider was told of.
    assert [first.span_id.hex(), second.span_id.hex()] == [attempt.span_id for attempt in exchange.attempts]
    assert first.parent_span_id == second.parent_span_id == call.span_id
    assert attributes_of(first) == {
        "http.request.method": "POST",
        "http.response.status_code": 503,
        "error.type": "503",
        "server.address": "api.openai.com",
        "server.port": 443,
        "url.full": "https://api.openai.com/v1/chat/completions",
        "rag_gateway.target": "openai/gpt-x",
        "rag_gateway.outcome": "upstream_failed",
    }
    assert attributes_of(second)["http.request.resend_count"] == 1
    assert (first.status.code, second.status.code, call.status.code) == (2, 0, 0)
    assert second.end_time_unix_nano == call.end_time_unix_nano == root.end_time_unix_nano
    assert attributes_of(call) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-x",
        "gen_ai.request.stream": True,
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.max_tokens": 100,
        "gen_ai.request.seed": 7,
        "gen_ai.request.choice.count": 2,
        "gen_ai.output.type": "json",
        "gen_ai.response.time_to_first_chunk": 0.004,
        "gen_ai.response.model": "gpt-x-2026",
        "gen_ai.response.id": "chatcmpl-1",
        "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.usage.input_tokens": 10,
        "gen_ai.usage.output_tokens": 20,
        "gen_ai.usage.cache_read.input_tokens": 3,
        "gen_ai.usage.reasoning.output_tokens": 4,
        "openai.api.type": "chat_completions",
        "server.address": "api.openai.com",
        "server.port": 443,
        "rag_gateway.attempts": 2,
        "rag_gateway.target": "openai/gpt-x",
    }
    assert not [name for name in attributes_of(root) if name.startswith("gen_ai")]
    (event,) = spans["guardrail input"].events
    assert attributes_of(event) == {
        "rag_gateway.guardrail.name": "pii",
        "rag_gateway.guardrail.action": "mask",
        "rag_gateway.guardrail.kinds": ["EMAIL"],
    }


class Deaf:
    """A collector that is away, or that takes what it gets and says nothing more."""

    def __init__(self) -> None:
        self.held = threading.Event()
        self.asked = threading.Event()

    def send(self, request: bytes) -> int:
        self.asked.set()
        self.held.wait(60)
        raise NotTaken("nobody", again=False)

    def close(self) -> None:
        pass


def test_a_collector_that_hangs_costs_no_call_anything_and_little_memory() -> None:
    deaf = Deaf()
    traces = Traces(settings(queue="100kB"), RESOURCE, FACTS, to=deaf)
    exchange = streamed_call()
    for _ in range(20):
        traces.export([exchange] * 100)
        until(lambda: not traces._waiting)
    assert deaf.asked.wait(60)
    assert traces.waiting_bytes <= 100_000
    assert traces.dropped > 8 * 1_000
    deaf.held.set()
    traces.close()
    assert traces.dropped == 8 * 2_000
    assert traces.exported == 0


def test_more_calls_than_can_be_made_spans_are_dropped_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    with Sink() as sink:
        traces = Traces(settings(sink.url, every="1h"), RESOURCE, FACTS)
        traces.export([streamed_call()] * 5_000)
        assert len(traces._waiting) <= 4_096
        assert traces.dropped >= 900 * 4
        traces.close()


@pytest.mark.parametrize(
    ("compression", "protocol"), [("none", "http"), ("gzip", "http"), ("none", "grpc"), ("gzip", "grpc")]
)
def test_it_is_tried_again_with_the_headers_that_are_configured(compression: str, protocol: str) -> None:
    with Sink() if protocol == "http" else GrpcSink() as sink:
        sink.answers = [503]
        sink.rejects = 3
        otlp = {
            "endpoint": sink.url, "headers": {"x-key": "secret-1"}, "compression": compression,
            "protocol": "grpc" if protocol == "grpc" else "http/protobuf",
        }  # fmt: skip
        traces = Traces(settings(otlp=otlp), RESOURCE, FACTS)
        traces.export([streamed_call()])
        until(lambda: traces.exported + traces.dropped == 8)
        traces.close()
    assert [headers["x-key"] for headers in sink.headers] == ["secret-1", "secret-1"]
    assert len(sink.spans) == 8
    assert (traces.exported, traces.dropped) == (5, 3)  # it said that it refused three


def test_what_is_refused_for_good_is_dropped_and_told_once(caplog: pytest.LogCaptureFixture) -> None:
    with Sink() as sink:
        sink.answers = [401, 401]
        traces = Traces(
            settings(sink.url, otlp={"endpoint": sink.url, "headers": {"x-key": "secret-1"}}), RESOURCE, FACTS
        )
        for count in (8, 16):
            traces.export([streamed_call()])
            until(lambda count=count: traces.dropped == count)  # type: ignore[misc]  # bound at once
        traces.close()
    told = [record.getMessage() for record in caplog.records if record.name == "gateway.telemetry.sending"]
    assert told == [f"the collector does not take spans: {sink.url.removeprefix('http://')}: HTTP 401"]


def test_a_collector_that_asks_for_no_pause_gets_one_and_its_counts_are_not_believed() -> None:
    class Odd:
        def __init__(self) -> None:
            self.asked = 0

        def send(self, request: bytes) -> int:
            self.asked += 1
            if self.asked == 1:
                raise NotTaken("odd: HTTP 503", again=True, after=0.0)
            return 1 << 60  # refused, it says

        def close(self) -> None: ...

    class Closing(threading.Event):
        """Where a sender waits, without waiting."""

        def wait(self, timeout: float | None = None) -> bool:
            waited.append(timeout)
            return super().wait(0)

    waited: list[float | None] = []
    odd = Odd()
    sender = Sender(odd, b"".join, every=0.0, most_bytes=1_000)
    sender._closing = Closing()
    sender.put(b"x", 8)
    until(lambda: sender.dropped)
    sender.close()
    assert (sender.sent, sender.dropped) == (0, 8)
    assert 0.5 in waited


def test_a_call_that_can_not_be_told_does_not_stop_the_others() -> None:
    with Sink() as sink:
        traces = Traces(settings(sink.url), RESOURCE, FACTS)
        broken = streamed_call()
        broken.trace_id = "no hexadecimal"
        traces.export([broken, streamed_call()])
        traces.close()
        assert len(sink.spans) == 8
        assert traces.dropped > 0


def spans_of(exchange: Exchange, facts: Facts = FACTS) -> dict[str, Span]:
    return {span.name: span for span in call_spans(exchange, facts).spans}


def test_a_call_of_the_gateways_own_is_no_http_server() -> None:
    made = streamed_call().beside("guardrail")
    made.settle()
    root = spans_of(made)["guardrail"]
    assert (root.kind, root.attributes["rag_gateway.call.purpose"]) == (1, "guardrail")
    assert root.parent == streamed_call().span_id or len(root.parent) == 16


def test_a_refused_request_is_no_error_of_the_server() -> None:
    exchange = Exchange("chat.completions")
    exchange.outcome, exchange.error_code, exchange.status = "error", "model_not_found", 404
    exchange.settle()
    root = spans_of(exchange)["POST /v1/chat/completions"]
    assert not root.failed
    assert "error.type" not in root.attributes
    exchange.status, exchange.error_code = 502, "a vendor's own word"
    root = spans_of(exchange)["POST /v1/chat/completions"]
    assert (root.failed, root.attributes["error.type"]) == (True, "502")


def test_a_stream_that_breaks_off_is_the_models_error() -> None:
    exchange = streamed_call()
    exchange.outcome, exchange.error_code = "error", "upstream_disconnected"
    tree = call_spans(exchange, FACTS)
    failed = [span.name for span in tree.spans if span.failed]
    assert failed == ["POST /v1/chat/completions", "chat gpt-x", "POST", "POST"]


def test_what_a_caller_may_have_written_anything_in_is_not_told() -> None:
    exchange = streamed_call()
    exchange.conversation = "ada.lovelace@example.com"
    exchange.parameters = {"service_tier": b'"Ada Lovelace"', "reasoning_effort": b'"Ada Lovelace"', "stop": b'"Ada"'}
    told = spans_of(exchange, Facts(LATEST, lambda name: name))["chat gpt-x"].attributes
    assert "Ada" not in str(told)
    assert "ada" not in str(told)
    exchange.conversation = "thread_01"
    assert spans_of(exchange)["chat gpt-x"].attributes["gen_ai.conversation.id"] == "thread_01"


@pytest.mark.parametrize("value", [b"1" + b"0" * 400, b"-1" + b"0" * 30, b"1e999", b"18446744073709551616"])
def test_a_number_that_no_attribute_can_be_is_left_out_and_the_call_is_told(value: bytes) -> None:
    """Or a caller could keep calls out of all traces, with a traceback in the log for each."""
    exchange = streamed_call()
    names_ = ("temperature", "top_p", "top_k", "seed", "n", "max_tokens", "frequency_penalty")
    exchange.parameters = dict.fromkeys(names_, value)
    attributes = next(span for span in call_spans(exchange, FACTS).spans if span.name == "chat gpt-x").attributes
    assert not [
        name for name in attributes if name.startswith("gen_ai.request.") and isinstance(attributes[name], float)
    ]
    Encoder().pairs(9, attributes)


def test_the_names_to_come_are_told_where_the_environment_asks() -> None:
    facts = Facts(LATEST, lambda name: name)
    spans = spans_of(streamed_call(), facts)
    told = spans["retrieval handbook"].attributes
    assert told["gen_ai.retrieval.top_k"] == 6
    assert "gen_ai.request.top_k" not in told
    asked = spans["chat gpt-x"].attributes
    assert (asked["gen_ai.prompt.name"], asked["gen_ai.prompt.version"]) == ("handbook", "1")
    assert chosen({"OTEL_SEMCONV_STABILITY_OPT_IN": "http, gen_ai_latest_experimental"}) is LATEST
    assert chosen({"OTEL_SEMCONV_STABILITY_OPT_IN": "http"}) is V1_41


def test_a_secret_in_a_url_is_not_told() -> None:
    exchange = streamed_call()
    exchange.attempts[-1].sent = OPENAI, b"/x?api-version=2024-10-21&key=AIza-secret&sig=abc"
    shown = call_spans(exchange, FACTS).spans[-1].attributes["url.full"]
    assert shown == "https://api.openai.com/v1/x?api-version=2024-10-21&key=REDACTED&sig=REDACTED"


def test_whose_spans_these_are_can_be_said_in_the_usual_places(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "team=a%20b,service.name=other,broken")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "mine")
    told = resource_attributes(Telemetry())
    assert (told["service.name"], told["team"]) == ("mine", "a b")
    configured = Telemetry(service_name="gw", resource={"team": "c"})
    told = resource_attributes(configured)
    assert (told["service.name"], told["team"]) == ("gw", "c")


def test_spans_can_be_log_lines(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "gateway.spans")
    console = Telemetry.model_validate({"traces": {"console": True}})
    traces = Traces(console, RESOURCE, FACTS)
    traces.export([streamed_call()])
    traces.close()
    lines = [record for record in caplog.records if record.name == "gateway.spans"]
    assert len(lines) == 8
    told = vars(lines[0])["span"]
    assert (told["name"], told["kind"], told["parent_span_id"]) == (
        "POST /v1/chat/completions", "SERVER", "b7ad6b7169203331",
    )  # fmt: skip
    assert traces.exported == traces.dropped == 0
