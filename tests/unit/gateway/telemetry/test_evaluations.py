"""What answers were found to be worth, as a collector reads it with OpenTelemetry's own classes."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from gateway_process import until
from otlp_sink import GrpcSink, Sink, attributes_of
from semconv_registry import event_faults

from gateway.config.telemetry import Otlp
from gateway.drift.settings import Level
from gateway.exchange import Exchange
from gateway.telemetry.collectors import NotTaken, collector
from gateway.telemetry.evaluations import Evaluations
from gateway.telemetry.names import SCHEMA_URL
from gateway.telemetry.spans import answer_span_of
from gateway.values import Caller

ROOT = "b7ad6b7169203331"
CALL: dict[str, Any] = {
    "id": "call_1", "answer_id": "chatcmpl-1", "model": "handbook", "trace_id": "0af7651916cd43dd8448eb211c80319c",
    "span_id": ROOT, "cache": "miss", "caller": {"tenant": "acme"},
}  # fmt: skip


def evaluations(to: Any, most_bytes: int = 100_000) -> Evaluations:
    return Evaluations(to, {"service.name": "gw"}, SCHEMA_URL, every=0.01, most_bytes=most_bytes)


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_what_was_found_of_answers_comes_to_the_collector(protocol: Any, compression: Any) -> None:
    with Sink() if protocol == "http/protobuf" else GrpcSink() as sink:
        told = evaluations(collector(Otlp(endpoint=sink.url, protocol=protocol, compression=compression), "logs"))
        told.rated(CALL, 0.5, "fair")
        judged = Exchange("chat.completions")
        judged.caller, judged.model, judged.answer_id, judged.parameters = Caller("k", "acme"), "handbook", "a-2", {}
        told.judged(judged, "groundedness", 0.75, "mock/judge")
        told.drifted(Level("input", "handbook", 0.4, 0.3, True))
        until(lambda: len(sink.events) == 3, what="the events")
        told.close()
    assert [fault for event in sink.events for fault in event_faults(event)] == []
    of_process = sink.logs[0].resource_logs[0]
    assert attributes_of(of_process.resource) == {"service.name": "gw"}
    assert of_process.schema_url == SCHEMA_URL
    feedback, quality, drift = sink.events
    assert {event.event_name for event in sink.events} == {"gen_ai.evaluation.result"}
    assert (feedback.severity_number, feedback.severity_text, feedback.flags) == (9, "INFO", 1)
    assert feedback.time_unix_nano == feedback.observed_time_unix_nano > 1_700_000_000 * 10**9
    assert (feedback.trace_id.hex(), feedback.span_id.hex()) == (CALL["trace_id"], answer_span_of(ROOT))
    assert (quality.trace_id.hex(), quality.span_id.hex()) == (judged.trace_id, answer_span_of(judged.span_id))
    assert (drift.trace_id, drift.span_id) == (b"", b"")
    assert attributes_of(quality) == {
        "gen_ai.evaluation.name": "groundedness", "gen_ai.evaluation.score.value": 0.75,
        "rag_gateway.evaluation.by": "mock/judge", "rag_gateway.call.id": judged.call_id,
        "rag_gateway.tenant": "acme", "gen_ai.response.id": "a-2", "rag_gateway.model": "handbook",
    }  # fmt: skip
    assert attributes_of(drift) == {
        "gen_ai.evaluation.name": "drift.input", "gen_ai.evaluation.score.value": 0.4,
        "gen_ai.evaluation.score.label": "drifted", "rag_gateway.evaluation.by": "drift",
        "rag_gateway.drift.threshold": 0.3, "rag_gateway.model": "handbook",
    }  # fmt: skip


class Taken:
    """A collector that keeps what it gets, or is away."""

    def __init__(self, *, away: bool = False) -> None:
        self.requests: list[bytes] = []
        self._away = away
        self.asked, self.held = threading.Event(), threading.Event()

    def send(self, request: bytes) -> int:
        if self._away:
            self.asked.set()
            self.held.wait(60)
            raise NotTaken("nobody", again=False)
        self.requests.append(request)
        return 0

    def close(self) -> None:
        pass


def test_what_people_write_in_words_is_not_told() -> None:
    taken = Taken()
    told = evaluations(taken)
    told.rated(CALL, 1.0, "ask ada@example.com")
    told.rated(CALL, None, "ask ada@example.com")
    for label in ("4111111111111111", "ghp_a1B2c3", "x" * 41, "", "+41791234567"):
        told.rated(CALL, None, label)
    told.rated(CALL, None, None)  # a comment alone
    told.rated(CALL, None, "not-helpful")
    told.close()
    request = b"".join(taken.requests)
    assert not [word for word in (b"ada@", b"4111", b"ghp_", b"xx", b"+41") if word in request]
    assert request.count(b"gen_ai.evaluation.result") == 2
    assert b"not-helpful" in request


@pytest.mark.parametrize(
    ("change", "span"), [({"span_id": None}, ""), ({"cache": "hit"}, ROOT), ({"cache": "semantic"}, ROOT)]
)
def test_an_event_stands_below_what_there_is(change: dict[str, Any], span: str) -> None:
    with Sink() as sink:
        told = evaluations(collector(Otlp(endpoint=sink.url), "logs"))
        told.rated(CALL | change, 1.0, None)
        until(lambda: sink.events, what="the event")
        told.close()
    (event,) = sink.events
    assert (event.trace_id.hex(), event.span_id.hex(), event.flags) == (CALL["trace_id"], span, int(bool(span)))


def test_a_collector_that_is_away_costs_nothing_and_little_memory() -> None:
    away = Taken(away=True)
    told = evaluations(away, most_bytes=2_000)
    for _ in range(50):
        told.rated(CALL, 0.5, "fair")
    assert away.asked.wait(60)
    counts: dict[str, Any] = {}
    told.tell(lambda name, help_, labels, values: counts.update({name: values}))
    for _ in range(50):
        told.rated(CALL, 0.5, "fair")
    assert told.waiting_bytes <= 2_000
    away.held.set()
    told.close()
    assert counts["rag_gateway_events_dropped"]() == {(): 100}
    assert counts["rag_gateway_events_exported"]() == {(): 0}
