"""OTLP's protobuf, written by hand: what is told is a few dozen fields, and the generated classes cost several times as
much for each of them as the whole of it here.

https://protobuf.dev/programming-guides/encoding/ and opentelemetry-proto v1.8.0, whose generated classes read it back
in the tests.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from struct import Struct
from typing import TYPE_CHECKING, Final

from gateway.telemetry import names
from gateway.telemetry.spans import SERVER

if TYPE_CHECKING:
    from gateway.telemetry.spans import Span, Tree, Value

_double: Final = Struct("<d").pack
_fixed64 = Struct("<Q").pack
_fixed32 = Struct("<I").pack
# Span.flags: sampled, and where the parent is.
_LOCAL: Final = b"\x85\x01" + _fixed32(0x101)
_REMOTE: Final = b"\x85\x01" + _fixed32(0x301)
_INFO: Final = b"\x10\x09\x1a\x04INFO"  # LogRecord.severity_number and severity_text
_SAMPLED: Final = b"\x45" + _fixed32(1)  # LogRecord.flags
_SMALL: Final = [bytes([n]) for n in range(128)]
_TAGS: Final = [bytes([number << 3 | 2]) for number in range(16)]  # of fields with a length
_MOST_KNOWN: Final = 4_096  # pairs of an attribute's name and text that are kept encoded
_LONGEST_KNOWN: Final = 128  # characters of such a text
_EACH_ITS_OWN: Final = frozenset({names.CALL_ID, names.RESPONSE_ID, names.UPSTREAM_ID, names.CONVERSATION})


def varint(number: int) -> bytes:
    """A number of 64 bits; a negative one is ten bytes long."""
    if 0 <= number < 128:
        return _SMALL[number]
    number &= (1 << 64) - 1
    written = bytearray()
    while number > 127:
        written.append(number & 127 | 128)
        number >>= 7
    written.append(number)
    return bytes(written)


def field(number: int, content: bytes) -> bytes:
    """A message, a text or bytes, with its length."""
    length = len(content)
    return _TAGS[number] + (_SMALL[length] if length < 128 else varint(length)) + content


def text(number: int, content: str) -> bytes:
    """Half of a surrogate pair, which is no text, is sent as a question mark."""
    return field(number, content.encode("utf-8", "replace"))


def number_of(place: int, number: int) -> bytes:
    return varint(place << 3) + varint(number)


def double(place: int, number: float) -> bytes:
    return varint(place << 3 | 1) + _double(number)


def fixed64(place: int, number: int) -> bytes:
    return varint(place << 3 | 1) + _fixed64(number)


def any_value(value: Value) -> bytes:
    """opentelemetry.proto.common.v1.AnyValue."""
    if isinstance(value, str):
        return text(1, value)
    if isinstance(value, bool):
        return b"\x10\x01" if value else b"\x10\x00"
    if isinstance(value, int):
        return b"\x18" + varint(value)
    if isinstance(value, float):
        return b"\x21" + _double(value)
    return field(5, b"".join([field(1, any_value(item)) for item in value]))


_Known = dict[tuple[str, "Value"], bytes]


def _keep(known: _Known, pair: tuple[str, Value], part: bytes) -> None:
    if len(known) >= _MOST_KNOWN:
        known.clear()
    known[pair] = part


class Encoder:
    """Of one process's spans: what stays the same is encoded once."""

    def __init__(self) -> None:
        self._names: dict[str, bytes] = {}
        # By the field, texts and whole numbers apart: 1, 1.0 and True are one key of a dict, and three values here.
        self._known: dict[int, tuple[_Known, _Known]] = {}

    def pairs(self, place: int, attributes: Mapping[str, Value]) -> bytes:
        """Each an opentelemetry.proto.common.v1.KeyValue, as field `place` of what it belongs to."""
        known = self._known.get(place)
        if known is None:
            known = self._known[place] = ({}, {})
        texts, numbers = known
        parts = []
        for pair in attributes.items():
            kind = type(pair[1])
            part = texts.get(pair) if kind is str else numbers.get(pair) if kind is int else None
            if part is None:
                part = self._pair(place, *pair)
                if kind is str and len(pair[1]) <= _LONGEST_KNOWN and pair[0] not in _EACH_ITS_OWN:  # type: ignore[arg-type]  # a text
                    _keep(texts, pair, part)
                elif kind is int:
                    _keep(numbers, pair, part)
            parts.append(part)
        return b"".join(parts)

    def _pair(self, place: int, name: str, value: Value) -> bytes:
        prefix = self._names.get(name)
        if prefix is None:
            prefix = self._names[name] = text(1, name)
        return field(place, prefix + field(2, any_value(value)))

    def tree(self, tree: Tree) -> bytes:
        """All spans of a call, as the `spans` of a ScopeSpans."""
        trace = b"\x0a\x10" + bytes.fromhex(tree.trace_id)
        state = text(3, tree.trace_state) if tree.trace_state else b""
        return b"".join([self._span(span, trace, state) for span in tree.spans])

    def _span(self, span: Span, trace: bytes, state: bytes) -> bytes:
        name = span.name.encode("utf-8", "replace")
        parts = [
            trace,
            b"\x12\x08",
            bytes.fromhex(span.span_id),
            state,
            b"\x22\x08" + bytes.fromhex(span.parent) if span.parent else b"",
            b"\x2a" + varint(len(name)),
            name,
            b"\x30",
            _SMALL[span.kind],
            b"\x39" + _fixed64(span.start),
            b"\x41" + _fixed64(span.end),
            self.pairs(9, span.attributes),
        ]
        for title, moment, attributes in span.events:
            parts.append(field(11, fixed64(1, moment) + text(2, title) + self.pairs(3, attributes)))
        if span.failed:
            parts.append(b"\x7a\x02\x18\x02")  # status: code ERROR
        parts.append(_REMOTE if span.kind == SERVER and span.parent else _LOCAL)
        return field(2, b"".join(parts))

    def event(self, name: str, moment: int, attributes: Mapping[str, Value], trace_id: str, span_id: str) -> bytes:
        """opentelemetry.proto.logs.v1.LogRecord, as one of the `log_records` of a ScopeLogs.

        `moment` in nanoseconds since the epoch; the ids in hexadecimal, "" where there are none.
        """
        parts = [fixed64(1, moment), _INFO, self.pairs(6, attributes), fixed64(11, moment), text(12, name)]
        if trace_id:
            parts.append(field(9, bytes.fromhex(trace_id)))
        if span_id:
            parts += (field(10, bytes.fromhex(span_id)), _SAMPLED)
        return field(2, b"".join(parts))


def resource(attributes: Mapping[str, Value]) -> bytes:
    """opentelemetry.proto.resource.v1.Resource."""
    return Encoder().pairs(1, attributes)


def scope(name: str, version: str) -> bytes:
    """opentelemetry.proto.common.v1.InstrumentationScope."""
    return text(1, name) + text(2, version)


def export_request(resource_: bytes, scope_: bytes, schema_url: str, parts: Iterable[bytes]) -> bytes:
    """What a collector takes of any signal, since they have one shape: ExportTraceServiceRequest of spans as
    `Encoder.tree` has them, ExportLogsServiceRequest of events as `Encoder.event` has, ExportMetricsServiceRequest.

    opentelemetry.proto.collector.{trace,logs,metrics}.v1.
    """
    url = text(3, schema_url) if schema_url else b""
    of_scope = field(2, field(1, scope_) + b"".join(parts) + url)
    return field(1, field(1, resource_) + of_scope + url)
