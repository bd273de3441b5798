"""Settled calls as OpenTelemetry spans, built off the hot path from what the call already noted.

Which calls become spans was decided when they ended (`sampling.py`), so that errors and slow calls are always kept.
A thread of its own makes them, and encodes them at once: what then waits for a collector is bytes, and bounded.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING

from gateway.telemetry import wire
from gateway.telemetry.call_spans import Facts, call_spans
from gateway.telemetry.collectors import Collector, collector
from gateway.telemetry.sending import Sender

if TYPE_CHECKING:
    from gateway.config.telemetry import Telemetry
    from gateway.exchange import Exchange
    from gateway.telemetry.content import Contents
    from gateway.telemetry.spans import Tree

Counts = Callable[[], Mapping[tuple[str, ...], float]]

log = logging.getLogger(__name__)
console = logging.getLogger("gateway.spans")

_MOST_CALLS = 4_096  # that may wait to be made spans; their thread waits for nobody
_SLICE = 16  # calls after which other threads may go first: the event loop, above all
_LAST = 2.0


class Traces:
    """`export` never waits. `close` sends what waits, for some seconds at most."""

    def __init__(
        self,
        settings: Telemetry,
        resource: Mapping[str, str],
        facts: Facts,
        contents: Contents | None = None,
        to: Collector | None = None,
    ) -> None:
        """`contents` adds what was said, where that may be told. `to` stands for the collector that is configured.

        Raises ValueError where what its protocol needs is not installed.
        """
        traces = settings.traces
        self._facts = facts
        self._contents = contents
        self._console = traces.console
        self._every = min(traces.every / 2, 0.5)
        self._encoder = wire.Encoder()
        head = wire.resource(resource), wire.scope("rag-gateway", version("rag-gateway"))
        schema = facts.names.schema_url
        self._sender: Sender | None = None
        if to is None and traces.otlp is not None:
            to = collector(traces.otlp, "traces")
        if to is not None:

            def request(parts: Sequence[bytes]) -> bytes:
                return wire.export_request(*head, schema, parts)

            self._sender = Sender(to, request, every=traces.every, most_bytes=traces.queue)
        self._waiting: deque[tuple[Exchange, int]] = deque()  # and how many characters were said in it
        self._most_bytes = traces.queue
        self._taken_in = 0  # characters that were to wait, by the journal's thread …
        self._made = 0  # … and of these those that do not any more, by our own
        self._awake = threading.Event()
        self._closing = threading.Event()
        self._lost = 0
        self._thread = threading.Thread(target=self._run, name="spans", daemon=True)
        self._thread.start()

    def export(self, exchanges: Sequence[Exchange]) -> None:
        """Calls that have ended; those that become spans are kept for that."""
        kept = [exchange for exchange in exchanges if exchange.parameters is not None]
        for exchange in kept:
            size = 0 if self._contents is None else self._contents.size(exchange)
            if len(self._waiting) >= _MOST_CALLS or self._taken_in - self._made + size > self._most_bytes:
                self._lost += _spans_of(exchange)
                continue
            self._taken_in += size
            self._waiting.append((exchange, size))
        if kept:
            self._awake.set()

    @property
    def exported(self) -> int:
        """Spans that the collector took."""
        return self._sender.sent if self._sender is not None else 0

    @property
    def dropped(self) -> int:
        """Spans that were lost: there was no room for them, or the collector did not take them."""
        return self._lost + (self._sender.dropped if self._sender is not None else 0)

    @property
    def waiting_bytes(self) -> int:
        return self._sender.waiting_bytes if self._sender is not None else 0

    def tell(self, counted: Callable[[str, str, tuple[str, ...], Counts], None]) -> None:
        """Have the metrics look here when scraped: gateway.telemetry.metrics.Metrics.counted."""
        counted("rag_gateway_spans_exported", "Spans that the collector took.", (), lambda: {(): self.exported})
        counted(
            "rag_gateway_spans_dropped", "Spans lost: no room, or a collector that did not take them.", (),
            lambda: {(): self.dropped},
        )  # fmt: skip

    def close(self) -> None:
        self._closing.set()
        self._awake.set()
        self._thread.join(_LAST)
        if self._sender is not None:
            self._sender.close()

    def _run(self) -> None:
        while True:
            self._awake.wait()
            self._awake.clear()
            self._closing.wait(self._every)
            count = 0
            while self._waiting:
                exchange, size = self._waiting.popleft()
                self._make(exchange)
                self._made += size
                count += 1
                if count % _SLICE == 0:
                    time.sleep(0)
            if self._closing.is_set():
                return

    def _make(self, exchange: Exchange) -> None:
        try:
            tree = self.tree(exchange)
            if self._sender is not None:
                self._sender.put(self._encoder.tree(tree), len(tree.spans))
            if self._console:
                for span in tree.spans:
                    console.info("%s", span.name, extra={"span": span.told(tree.trace_id)})
        except Exception:  # one call that can't be told must not stop the others
            self._lost += _spans_of(exchange)
            log.exception("the spans of call %s were left out", exchange.call_id)

    def tree(self, exchange: Exchange) -> Tree:
        """The spans of a call that has ended."""
        tree = call_spans(exchange, self._facts)
        if self._contents is not None and exchange.keep_content:
            self._contents.add(exchange, tree)
        return tree


def _spans_of(exchange: Exchange) -> int:
    """About how many spans a call that was not made into any would have been."""
    return 1 + sum(1 for stage in exchange.stages if stage[0] == "call") + len(exchange.attempts)
