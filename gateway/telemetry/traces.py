"""Settled calls as OpenTelemetry spans, built off the hot path from what the call already noted.

A span is made as the SDK's ReadableSpan, with no tracer on the way: a tracer's span costs more than the whole
proxied call may. Which calls become spans is decided at their end, so errors and slow calls are always kept.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.util.types import AttributeValue

from gateway.telemetry import names

if TYPE_CHECKING:
    from gateway.config.models import Telemetry
    from gateway.exchange import Exchange

_BRIEF = 50_000  # nanoseconds below which a stage is told by Server-Timing alone: a span would cost as much
_SLOW = 10_000_000_000  # nanoseconds from which a call is kept whatever the sample says
_LAST = 3.0
_SERVER = 0x5BD1E995_9D1B54A3  # makes the server span's id from the upstream call's
_ID_MASK = (1 << 64) - 1
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)


class Traces:
    """Spans of settled calls to an OTLP collector; a dead one costs the calls nothing, the queue is bounded."""

    def __init__(self, settings: Telemetry, processor: BatchSpanProcessor | None = None) -> None:
        otlp = settings.traces.otlp
        assert otlp is not None
        if processor is None:
            endpoint = otlp.endpoint.rstrip("/")
            if not endpoint.endswith("/v1/traces"):
                endpoint += "/v1/traces"
            headers = {name: value.get_secret_value() for name, value in otlp.headers.items()}
            processor = BatchSpanProcessor(OTLPSpanExporter(endpoint, headers=headers, timeout=5))
        self._processor = processor
        self._threshold = int(settings.traces.sample * (1 << 64))
        self._resource = Resource.create({"service.name": settings.service_name})
        self._scope = InstrumentationScope("rag-gateway", "0.1.0", names.SCHEMA_URL)

    def export(self, exchanges: Sequence[Exchange]) -> None:
        for exchange in exchanges:
            if self._keeps(exchange):
                for span in self.spans(exchange):
                    self._processor.on_end(span)

    def close(self) -> None:
        """Send what waits, for `_LAST` seconds at most: a collector that is away must not hold up the end."""
        last = threading.Thread(target=self._processor.shutdown, name="last-spans", daemon=True)
        last.start()
        last.join(_LAST)

    def _keeps(self, exchange: Exchange) -> bool:
        if exchange.outcome in ("error", "blocked") or exchange.ended - exchange.started > _SLOW:
            return True
        if exchange.trace_flags is not None:
            return bool(int(exchange.trace_flags, 16) & 1)
        return int(exchange.trace_id[16:], 16) < self._threshold

    def spans(self, exchange: Exchange) -> list[ReadableSpan]:
        """The call's tree: the server's span, a span a stage beneath it, and the upstream call's."""
        trace_id = int(exchange.trace_id, 16)
        call_id = int(exchange.span_id, 16)
        server = SpanContext(trace_id, (call_id ^ _SERVER) & _ID_MASK or 1, False, _SAMPLED)
        parent = (
            SpanContext(trace_id, int(exchange.trace_parent, 16), True, _SAMPLED) if exchange.trace_parent else None
        )
        offset = exchange.started_at - exchange.started  # from the monotonic clock to the wall's
        path = names.PATHS[exchange.endpoint]
        spans = [
            self._span(f"POST {path}", SpanKind.SERVER, server, parent, exchange.started, exchange.ended, offset,
                       _server_attributes(exchange, path), exchange.outcome == "error")
        ]  # fmt: skip
        for order, (name, begin, end) in enumerate(exchange.stages, 1):
            if name == "call":
                kind, own = SpanKind.CLIENT, SpanContext(trace_id, call_id, False, _SAMPLED)
                title, attributes = _client(exchange, begin)
                end = exchange.ended  # a stream's call lasts until its last chunk
                failed = exchange.outcome == "error"
            elif end - begin < _BRIEF:
                continue
            else:
                kind = SpanKind.CLIENT if name == "retrieval" else SpanKind.INTERNAL
                own = SpanContext(trace_id, (server.span_id + order) & _ID_MASK or 1, False, _SAMPLED)
                title, attributes = _stage(name, exchange)
                failed = False
            spans.append(self._span(title, kind, own, server, begin, end, offset, attributes, failed))
        return spans

    def _span(
        self,
        name: str,
        kind: SpanKind,
        context: SpanContext,
        parent: SpanContext | None,
        begin: int,
        end: int,
        offset: int,
        attributes: dict[str, AttributeValue],
        failed: bool,
    ) -> ReadableSpan:
        return ReadableSpan(
            name,
            context,
            parent,
            self._resource,
            attributes,
            kind=kind,
            status=Status(StatusCode.ERROR if failed else StatusCode.UNSET),
            start_time=begin + offset,
            end_time=end + offset,
            instrumentation_scope=self._scope,
        )


def _server_attributes(exchange: Exchange, path: str) -> dict[str, AttributeValue]:
    """Plain HTTP conventions, and our own names: nothing of `gen_ai` belongs on a server's span."""
    attributes: dict[str, AttributeValue] = {
        names.HTTP_METHOD: "POST",
        names.URL_PATH: path,
        names.HTTP_STATUS: exchange.status,
        names.CALL_ID: exchange.call_id,
        names.CACHE: exchange.cache,
    }
    if exchange.caller is not None:
        attributes[names.KEY] = exchange.caller.key_name
        attributes[names.TENANT] = exchange.caller.tenant
    if exchange.model is not None:
        attributes[names.MODEL] = exchange.model
    if exchange.error_code is not None:
        attributes[names.ERROR_TYPE] = exchange.error_code
    if exchange.template is not None:
        attributes[names.TEMPLATE] = exchange.template
    if exchange.degraded:
        attributes[names.DEGRADED] = exchange.degraded
    return attributes


def _client(exchange: Exchange, began: int) -> tuple[str, dict[str, AttributeValue]]:
    target = exchange.target or (exchange.attempts[-1].target if exchange.attempts else None)
    model = target.model if target and target.model else exchange.model or ""
    operation = names.OPERATIONS[exchange.endpoint]
    attributes: dict[str, AttributeValue] = {
        names.OPERATION: operation,
        names.PROVIDER: target.provider if target else "unknown",
        names.REQUEST_MODEL: model,
        names.ATTEMPTS: len(exchange.attempts),
    }
    if exchange.stream:
        attributes[names.REQUEST_STREAM] = True
        if exchange.first_chunk:
            attributes[names.TIME_TO_FIRST_CHUNK] = (exchange.first_chunk - began) / 1e9
    if exchange.served_model is not None:
        attributes[names.RESPONSE_MODEL] = exchange.served_model
    if exchange.answer_id is not None:
        attributes[names.RESPONSE_ID] = exchange.answer_id
    if exchange.finish_reason is not None:
        attributes[names.FINISH_REASONS] = (exchange.finish_reason,)
    if exchange.error_code is not None:
        attributes[names.ERROR_TYPE] = exchange.error_code
    if (usage := exchange.usage) is not None:
        attributes[names.INPUT_TOKENS] = usage.prompt_tokens
        attributes[names.OUTPUT_TOKENS] = usage.completion_tokens
        if usage.cached_tokens:
            attributes[names.CACHED_TOKENS] = usage.cached_tokens
        if usage.reasoning_tokens:
            attributes[names.REASONING_TOKENS] = usage.reasoning_tokens
    return f"{operation} {model}", attributes


def _stage(name: str, exchange: Exchange) -> tuple[str, dict[str, AttributeValue]]:
    if name == "retrieval":
        collection = exchange.passages[0].collection if exchange.passages else ""
        attributes: dict[str, AttributeValue] = {names.OPERATION: "retrieval", names.PASSAGES: len(exchange.passages)}
        if collection:
            attributes[names.DATA_SOURCE] = collection
        return f"retrieval {collection}".strip(), attributes
    if name == "input_guardrails":
        told = [f"{v.check}:{v.action}" for stage, v in exchange.verdicts if stage != "output"]
        return name, {names.GUARDRAIL: told} if told else {}
    return name, {}
