"""What answers were found to be worth, as OpenTelemetry events: log records with a name, to a collector that takes logs.

https://github.com/open-telemetry/semantic-conventions/blob/v1.41.1/docs/gen-ai/gen-ai-events.md, `gen_ai.evaluation.result`.
An event stands in the trace of the call that it is about, below the span of the model's answer where there is one, and
names the answer. What somebody wrote in words is in none.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Protocol

from gateway.telemetry import names, wire
from gateway.telemetry.sending import Sender
from gateway.telemetry.spans import answer_span_of
from gateway.values import FROM_CACHE

if TYPE_CHECKING:
    from gateway.exchange import Exchange
    from gateway.telemetry.collectors import Collector
    from gateway.telemetry.spans import Value
    from gateway.telemetry.traces import Counts

_WORD = re.compile(r"[^\W\d](?:[^\W\d]|-){0,39}").fullmatch  # no number, no key, no address


class Drift(Protocol):
    """How far something is from what it was, 0 to 1, and from how much on that counts."""

    @property
    def kind(self) -> str: ...

    @property
    def name(self) -> str: ...

    @property
    def score(self) -> float: ...

    @property
    def threshold(self) -> float: ...

    @property
    def drifted(self) -> bool: ...


class Evaluations:
    """Belongs to the event loop; none of its methods waits. `close` sends what waits, for some seconds at most."""

    def __init__(
        self, to: Collector, resource: Mapping[str, Value], schema: str, *, every: float, most_bytes: int
    ) -> None:
        """`every`: seconds that events gather before they go. `most_bytes` wait for the collector; more are dropped."""
        head = wire.resource(resource), wire.scope("rag-gateway", version("rag-gateway"))

        def request(parts: Sequence[bytes]) -> bytes:
            return wire.export_request(*head, schema, parts)

        self._encoder = wire.Encoder()
        self._sender = Sender(to, request, every=every, most_bytes=most_bytes, what="events")

    def rated(self, call: Mapping[str, Any], score: float | None, label: str | None) -> None:
        """Somebody's feedback on a recorded call, as `GET /v1/calls/{id}` tells it: a score from 0 to 1, a label."""
        told: dict[str, Value] = {names.EVALUATION_NAME: "feedback"}
        if score is not None:
            told[names.EVALUATION_SCORE] = float(score)
        if label is not None and _WORD(label):  # people may write anything there
            told[names.EVALUATION_LABEL] = label
        if len(told) == 1:
            return
        told |= {names.EVALUATED_BY: "user", names.CALL_ID: call["id"], names.TENANT: call["caller"]["tenant"]}
        root = call.get("span_id")
        span = "" if not root else root if call["cache"] in FROM_CACHE else answer_span_of(root)
        self._put(told, call["answer_id"], call["model"], call["trace_id"], span)

    def judged(self, exchange: Exchange, measure: str, score: float, by: str) -> None:
        """What the judge, or the embedder, `by` found of a new answer: a score from 0 to 1."""
        assert exchange.caller is not None, "only calls of known callers have an answer"
        told: dict[str, Value] = {
            names.EVALUATION_NAME: measure, names.EVALUATION_SCORE: float(score), names.EVALUATED_BY: by,
            names.CALL_ID: exchange.call_id, names.TENANT: exchange.caller.tenant,
        }  # fmt: skip
        span = answer_span_of(exchange.span_id) if exchange.parameters is not None else ""
        self._put(told, exchange.answer_id, exchange.model, exchange.trace_id, span)

    def drifted(self, level: Drift) -> None:
        """How far one thing of a model's calls, or a feature, is from what it was."""
        told: dict[str, Value] = {
            names.EVALUATION_NAME: f"drift.{level.kind}", names.EVALUATION_SCORE: float(level.score),
            names.EVALUATION_LABEL: "drifted" if level.drifted else "stable", names.EVALUATED_BY: "drift",
            names.DRIFT_THRESHOLD: float(level.threshold),
        }  # fmt: skip
        self._put(told, None, level.name)

    def _put(
        self, told: dict[str, Value], answer: str | None, model: str | None, trace_id: str = "", span_id: str = ""
    ) -> None:
        if answer is not None:
            told[names.RESPONSE_ID] = answer
        if model is not None:
            told[names.MODEL] = model
        record = self._encoder.event(names.EVALUATION_RESULT, time.time_ns(), told, trace_id, span_id)
        self._sender.put(record, 1)

    @property
    def waiting_bytes(self) -> int:
        return self._sender.waiting_bytes

    def tell(self, counted: Callable[[str, str, tuple[str, ...], Counts], None]) -> None:
        """Have the metrics look here when scraped: gateway.telemetry.metrics.Metrics.counted."""
        counted("rag_gateway_events_exported", "Events that the collector took.", (), self._count("sent"))
        counted(
            "rag_gateway_events_dropped", "Events lost: no room, or a collector that did not take them.", (),
            self._count("dropped"),
        )  # fmt: skip

    def _count(self, name: str) -> Counts:
        return lambda: {(): getattr(self._sender, name)}

    def close(self) -> None:
        self._sender.close()
