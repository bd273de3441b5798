"""The server's end of a client's connection: uvicorn's, with deadlines and bounds for what a client may send.

uvicorn leaves these to a proxy in front; a gateway must hold without one. A slow or oversized head or body ends
with 408 or 431, what is not HTTP with 400, each in OpenAI's error shape and with the connection closed. And the
call in progress learns at once that its client has gone.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from gateway.chat import JSON
from gateway.errors import BadRequest, GatewayError, Timeout

log = logging.getLogger(__name__)

_MAX_HEADERS = 200


class _HeadersTooLarge(BadRequest):
    status = 431
    code = "request_header_fields_too_large"


def bounded_connection(header_timeout: float, body_timeout: float, header_limit: int) -> type[HttpToolsProtocol]:
    """uvicorn's protocol class with these bounds: seconds for a head and a body to come whole, bytes of a head."""

    class ClientConnection(HttpToolsProtocol):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.on_disconnect: Callable[[], object] | None = None
            self._head_bytes = 0
            self._in_head = False
            self._timer: asyncio.TimerHandle | None = None
            self._fault: GatewayError | None = None

        @property
        def disconnected(self) -> bool:
            return self.transport is None or self.transport.is_closing()

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
            super().connection_made(transport)
            self._timer = self.loop.call_later(header_timeout, self._late)

        def data_received(self, data: bytes) -> None:
            self._unset_keepalive_if_required()
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade:
                self._reject(BadRequest("Switching protocols is not supported.", code="invalid_http"))
                return
            except httptools.HttpParserError:
                self._reject(self._fault or BadRequest("The request is not valid HTTP/1.1.", code="invalid_http"))
                return
            unfinished = self._in_head or (self.cycle is not None and self.cycle.more_body)
            if unfinished:
                if self._timer is None:
                    wait = header_timeout if self._in_head else body_timeout
                    self._timer = self.loop.call_later(wait, self._late)
            elif self._timer is not None:
                self._timer.cancel()
                self._timer = None

        def on_message_begin(self) -> None:
            super().on_message_begin()
            self.scope["connection"] = self  # type: ignore[typeddict-unknown-key]  # for the hot paths
            self._head_bytes = 0
            self._in_head = True

        def on_url(self, url: bytes) -> None:
            self.url += url
            self._grow(len(url))

        def on_header(self, name: bytes, value: bytes) -> None:
            name = name.lower()
            if name == b"expect" and value.lower() == b"100-continue":
                self.expect_100_continue = True
            self.headers.append((name, value))
            self._grow(len(name) + len(value))

        def on_headers_complete(self) -> None:
            self._in_head = False
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            super().on_headers_complete()

        def connection_lost(self, exc: Exception | None) -> None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            super().connection_lost(exc)
            if self.on_disconnect is not None:
                self.on_disconnect()

        def _grow(self, size: int) -> None:
            self._head_bytes += size
            if self._head_bytes > header_limit or len(self.headers) > _MAX_HEADERS:
                self._fault = _HeadersTooLarge(
                    f"The request's headers are more than {header_limit} bytes or {_MAX_HEADERS} lines."
                )
                raise self._fault

        def _late(self) -> None:
            self._timer = None
            self._reject(Timeout("The request did not come whole in time."))

        def _reject(self, error: GatewayError) -> None:
            """Answer `error` and close; where an answer is already under way, just close."""
            cycle = self.cycle
            if self.transport.is_closing():
                return
            if cycle is not None and cycle.response_started and not cycle.response_complete:
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
