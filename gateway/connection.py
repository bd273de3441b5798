"""The server's end of a client's connection: uvicorn's, with deadlines and bounds for what a client may send.

uvicorn leaves these to a proxy in front; a gateway must hold without one. A slow or oversized head or body ends
with 408 or 431, what is not HTTP with 400, each in OpenAI's error shape and with the connection closed. And the
call in progress learns at once that its client has gone.

What uvicorn does for each request is done more cheaply here, since every call pays it: a body that has come whole is
given at once, the head of an answer leaves in one write with its first bytes, and an idle connection has one timer that
looks again, not one that is made and cancelled with every request.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from operator import itemgetter
from typing import Any
from urllib.parse import unquote

import httptools
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from gateway.chat import JSON
from gateway.errors import BadRequest, GatewayError, Timeout

log = logging.getLogger(__name__)

_STATUS = {status: line.removesuffix(b"\r\n") for status, line in STATUS_LINE.items()}
_CLOSE = b"connection: close"
_NAME = itemgetter(0)  # of a header
_MAX_HEADERS = 200
_ON_ITS_WAY = 1.0  # seconds for the first request of a connection that was accepted just before the end …
_UNREAD = 0.05  # … and for what was sent on another and lies there unread


class _HeadersTooLarge(BadRequest):
    status = 431
    code = "request_header_fields_too_large"


def _too_large(limit: int) -> _HeadersTooLarge:
    return _HeadersTooLarge(f"The request's headers are more than {limit} bytes or {_MAX_HEADERS} lines.")


class _Cycle(RequestResponseCycle):
    """One request and its answer. Header names and values come from the gateway's own code, so they are sent as given."""

    _head: bytes = b""

    async def receive(self) -> Any:
        """A body that has come whole is given at once, as nearly always."""
        if self.more_body or self.response_complete or self.disconnected or not self.message_event.is_set():
            return await super().receive()
        self.flow.resume_reading()
        self.message_event.clear()
        body, self.body = bytes(self.body), bytearray()
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(self, message: Any) -> None:
        if self.disconnected:
            return
        if message["type"] == "http.response.start":
            self._start(message["status"], message.get("headers", ()))
            return
        if self.flow.write_paused:
            await self.flow.drain()
            if self.disconnected:
                return
        if self.response_complete:
            raise RuntimeError("an answer that was complete goes on")
        body: bytes = message.get("body", b"")
        more: bool = message.get("more_body", False)
        head, self._head = self._head, b""
        if self.scope["method"] == "HEAD":
            body = b""
        elif self.chunked_encoding:
            body = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            if not more:
                body += b"0\r\n\r\n"
        if head or body:
            self.transport.write(head + body)
        if not more:
            self.response_complete = True
            self.message_event.set()
            if not self.keep_alive:
                self.transport.close()
            self.on_response()

    def _start(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        self.response_started = True
        self.waiting_for_100_continue = False
        lines = [_STATUS[status], *map(b": ".join, self.default_headers), *map(b": ".join, headers)]
        if _CLOSE in lines:
            self.keep_alive = False
        elif not self.keep_alive:
            lines.append(_CLOSE)
        head = b"\r\n".join(lines)
        self.chunked_encoding = status not in (204, 304) and b"\r\ncontent-length: " not in head
        self._head = head + (b"\r\ntransfer-encoding: chunked\r\n\r\n" if self.chunked_encoding else b"\r\n\r\n")


def bounded_connection(
    header_timeout: float, body_timeout: float, keep_alive: float, header_limit: int
) -> type[HttpToolsProtocol]:
    """uvicorn's protocol class with these bounds: seconds for a head and a body to come whole, and for a connection
    to stay without a request; bytes of a head."""

    class ClientConnection(HttpToolsProtocol):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.on_disconnect: Callable[[], object] | None = None
            self._in_head = False
            self._read = 0  # bytes at once, last
            self._beginning = 0  # bytes that were read with the beginning of a head …
            self._head_bytes = 0  # … and after it, where it did not come at once
            self._bodied = False  # whether anything of a body, or the end of a head, was in what was read last
            self._quiet = 0  # bytes of an unfinished request since there was
            self._timer: asyncio.TimerHandle | None = None
            self._idle_since: float | None = None
            self._idle_timer: asyncio.TimerHandle | None = None
            self._fault: GatewayError | None = None
            self._ends = False

        @property
        def disconnected(self) -> bool:
            return self.transport is None or self.transport.is_closing()

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
            super().connection_made(transport)
            self._timer = self.loop.call_later(header_timeout, self._late)

        def data_received(self, data: bytes) -> None:
            self._idle_since = None
            self._read = len(data)
            self._bodied = False
            if self._in_head:
                self._head_bytes += self._read
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade:
                self._reject(BadRequest("Switching protocols is not supported.", code="invalid_http"))
                return
            except httptools.HttpParserError:
                self._reject(self._fault or BadRequest("The request is not valid HTTP/1.1.", code="invalid_http"))
                return
            if self._in_head and self._head_bytes > header_limit:
                self._reject(_too_large(header_limit))
                return
            unfinished = self._in_head or (self.cycle is not None and self.cycle.more_body)
            if unfinished:
                self._quiet = 0 if self._bodied or self._in_head else self._quiet + self._read
                if self._quiet > header_limit:  # behind a body: lines that go on and on
                    self._reject(_too_large(header_limit))
                    return
                if self._timer is None:
                    wait = header_timeout if self._in_head else body_timeout
                    self._timer = self.loop.call_later(wait, self._late)
            elif self._timer is not None:
                self._timer.cancel()
                self._timer = None

        def on_message_begin(self) -> None:
            super().on_message_begin()
            self.scope["connection"] = self  # type: ignore[typeddict-unknown-key]  # for the hot paths
            self._in_head = True
            self._beginning = self._read
            self._head_bytes = 0

        def on_header(self, name: bytes, value: bytes) -> None:
            self.headers.append((name.lower(), value))

        def on_headers_complete(self) -> None:
            self._in_head = False
            self._bodied = True
            if len(self.headers) > _MAX_HEADERS:
                self._refuse_head()
            if b"expect" in map(_NAME, self.headers):
                self.expect_100_continue = b"100-continue" in [v.lower() for n, v in self.headers if n == b"expect"]
            if self._beginning + self._head_bytes > header_limit:  # else there is nothing to add up
                size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
                if size > header_limit:
                    self._refuse_head()
            self.headers = []  # the scope has the head's; what stands behind a body is none of them
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            parser, scope = self.parser, self.scope
            http_version = parser.get_http_version()
            if http_version != "1.1":
                scope["http_version"] = http_version
            scope["method"] = parser.get_method().decode("ascii")
            url = httptools.parse_url(self.url)
            path = url.path.decode("ascii")
            scope["path"] = unquote(path) if "%" in path else path
            scope["raw_path"] = url.path
            scope["query_string"] = url.query or b""
            before = self.cycle
            self.cycle = _Cycle(
                scope,
                self.transport,
                self.flow,
                self.logger,
                self.access_logger,
                False,
                self.server_state.default_headers,
                asyncio.Event(),
                self.expect_100_continue,
                not self._ends and http_version != "1.0" and parser.should_keep_alive(),
                self.on_response_complete,
            )
            if before is None or before.response_complete:
                self._start_asgi_task(self.cycle, self.app)
            else:
                self.flow.pause_reading()
                self.pipeline.appendleft((self.cycle, self.app))

        def on_body(self, body: bytes) -> None:
            self._bodied = True
            cycle = self.cycle
            if cycle.response_complete:
                return
            cycle.body += body
            if len(cycle.body) > HIGH_WATER_LIMIT:
                self.flow.pause_reading()
            cycle.message_event.set()

        def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
            """uvicorn has the loop call back when a task is done, which costs a turn of the loop."""
            task = self.loop.create_task(self._serve(cycle, app))
            cycle.scope["task"] = task  # type: ignore[typeddict-unknown-key]  # for the hot paths
            self.tasks.add(task)

        async def _serve(self, cycle: RequestResponseCycle, app: Any) -> None:
            try:
                await cycle.run_asgi(app)
            finally:
                self.tasks.discard(cycle.scope["task"])  # type: ignore[typeddict-item]  # put there by its start

        def on_response_complete(self) -> None:
            self.server_state.total_requests += 1
            if self.transport.is_closing():
                return
            self.flow.resume_reading()
            if self.pipeline:
                self._start_asgi_task(*self.pipeline.pop())
                return
            self._idle_since = self.loop.time()
            if self._idle_timer is None:
                self._idle_timer = self.loop.call_later(keep_alive, self._look_idle)

        def _look_idle(self) -> None:
            """Close a connection that had no request for `keep_alive` seconds; else look again when that may be."""
            self._idle_timer = None
            if self.transport.is_closing():
                return
            if self._idle_since is None:
                self._idle_timer = self.loop.call_later(keep_alive, self._look_idle)
                return
            left = self._idle_since + keep_alive - self.loop.time()
            if left > 0.001:
                self._idle_timer = self.loop.call_later(left, self._look_idle)
            else:
                self.transport.close()

        def shutdown(self) -> None:
            """End after the answer to what was sent: who has connected is told that the gateway ends, not cut off."""
            self._ends = True
            close = super().shutdown
            if self.cycle is None:
                self.loop.call_later(_ON_ITS_WAY, close)
            elif self.cycle.response_complete:
                self.loop.call_later(_UNREAD, close)
            else:
                close()

        def connection_lost(self, exc: Exception | None) -> None:
            for timer in (self._timer, self._idle_timer):
                if timer is not None:
                    timer.cancel()
            self._timer = self._idle_timer = None
            super().connection_lost(exc)
            if self.on_disconnect is not None:
                self.on_disconnect()

        def _refuse_head(self) -> None:
            self._fault = _too_large(header_limit)
            raise self._fault

        def _late(self) -> None:
            self._timer = None
            if self.pipeline:  # nothing more of it is read before the answers that come first have gone
                self._timer = self.loop.call_later(body_timeout, self._late)
                return
            self._reject(Timeout("The request did not come whole in time."))

        def _reject(self, error: GatewayError) -> None:
            """Answer `error` and close; where an answer is already under way, or to come first, just close."""
            cycle = self.cycle
            if self.transport.is_closing():
                return
            if self.pipeline or (cycle is not None and cycle.response_started and not cycle.response_complete):
                self.transport.abort()
                return
            body = JSON.encode(error.body())
            self.transport.write(
                b"%bcontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b"
                % (STATUS_LINE[error.status], len(body), body)
            )
            if cycle is not None:
                cycle.disconnected = True  # nothing more may be written on this connection
                cycle.message_event.set()
            self.transport.close()

    return ClientConnection
