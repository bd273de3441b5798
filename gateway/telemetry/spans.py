"""A span as it is built off the path, and as it is encoded: OpenTelemetry's, without an SDK behind it.

https://github.com/open-telemetry/opentelemetry-proto/blob/v1.8.0/opentelemetry/proto/trace/v1/trace.proto
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

INTERNAL, SERVER, CLIENT = 1, 2, 3
_KINDS = {INTERNAL: "INTERNAL", SERVER: "SERVER", CLIENT: "CLIENT"}
_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15  # makes ids of one id that look no more alike than any others

Value = str | bool | int | float | list[str]
Event = tuple[str, int, Mapping[str, Value]]


class Span:
    """Times are nanoseconds since the epoch; ids in hexadecimal; `parent` is "" for a root.

    `events` are (name, time, attributes). `fault` is "" where nothing went wrong, else what did: the status' message.
    """

    __slots__ = ("attributes", "end", "events", "failed", "kind", "name", "parent", "span_id", "start")

    def __init__(
        self, name: str, kind: int, span_id: str, parent: str, start: int, end: int, attributes: dict[str, Value]
    ) -> None:
        self.name = name
        self.kind = kind
        self.span_id = span_id
        self.parent = parent
        self.start = start
        self.end = max(start, end)
        self.attributes = attributes
        self.events: list[Event] = []
        self.failed = False

    def told(self, trace_id: str) -> dict[str, Any]:
        """For a log line."""
        return {
            "name": self.name,
            "kind": _KINDS[self.kind],
            "trace_id": trace_id,
            "span_id": self.span_id,
            "parent_span_id": self.parent or None,
            "start_ns": self.start,
            "duration_ms": (self.end - self.start) / 1e6,
            "status": "ERROR" if self.failed else "UNSET",
            "attributes": self.attributes,
            "events": [{"name": name, "attributes": dict(attributes)} for name, _, attributes in self.events],
        }


def answer_span_of(root: str) -> str:
    """The id of the span of the call to the model that gave the answer, in the tree below the span `root`."""
    return f"{(int(root, 16) - _GOLDEN) & _MASK or 1:016x}"


class Tree:
    """The spans of one call: one trace, and as many ids as there are spans, made of the call's own."""

    __slots__ = ("_base", "_made", "root", "spans", "trace_id", "trace_state")

    def __init__(self, trace_id: str, root: str, trace_state: str | None) -> None:
        self.trace_id = trace_id
        self.root = root
        self.trace_state = trace_state or ""
        self.spans: list[Span] = []
        self._base = int(root, 16)
        self._made = 0

    def add(
        self,
        name: str,
        kind: int,
        parent: str,
        start: int,
        end: int,
        attributes: dict[str, Value],
        span_id: str | None = None,
    ) -> Span:
        if span_id is None:
            self._made += 1
            span_id = f"{(self._base + self._made * _GOLDEN) & _MASK or 1:016x}"
        span = Span(name, kind, span_id, parent, start, end, attributes)
        self.spans.append(span)
        return span
