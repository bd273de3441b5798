"""The server's end of a client's connection: HTTP/1.1 by httptools, with deadlines and bounds for what a client may send.

uvicorn's own leaves these to a proxy in front; a gateway must hold without one. A slow or oversized head or body ends
with 408 or 431, what is not HTTP with 400, each in OpenAI's error shape and with the connection closed. And the
call in progress learns at once that its client has gone.

uvicorn listens and ends the connections; what is done for each request is done here, cheaply, since every call pays it: a
body that has come whole is given at once, the head of an answer leaves in one write with its first bytes, and an idle
connection has one timer that looks again, not one that is made and cancelled with every request.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import unquote

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE
from uvicorn.protocols.utils import get_local_addr, get_remote_addr, is_ssl

from gateway.chat import JSON
from gateway.errors import BadRequest, GatewayError, HeadersTooLarge, Timeout

if TYPE_CHECKING:
    from uvicorn import Config
    from uvicorn.server import ServerState

log = logging.getLogger(__name__)

_ASGI: Final = {"version": "3.0", "spec_version": "2.3"}
_STATUS: Final = {status: line.removesuffix(b"\r\n") for status, line in STATUS_LINE.items()}
_MAX_HEADERS: Final = 200
_AHEAD: Final = 65_536  # bytes of a body that are read before anybody asks for them
_ON_ITS_WAY: Final = 1.0  # seconds for the first request of a connection that was accepted just before the end …
_UNREAD: Final = 0.05  # … and for what was sent on another and lies there unread

Scope = MutableMapping[str, Any]


class Bounds(NamedTuple):
    header_timeout: float  # seconds for a head to come whole …
    body_timeout: float  # … and for a body
    keep_alive: float  # seconds for a connection to stay without a request
    header_limit: int  # bytes of a head


def _too_large(limit: int) -> HeadersTooLarge:
    return HeadersTooLarge(f"The request's headers are more than {limit} bytes or {_MAX_HEADERS} lines.")


def _whole(error: GatewayError) -> bytes:
    """The last answer of a connection."""
    body = JSON.encode(error.body())
    return b"%bcontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b" % (
        STATUS_LINE[error.status],
        len(body),
        body,
    )


class _Cycle:
    """One request and its answer. Header names and values come from the gateway's own code, so they are sent as given."""

    def __init__(self, connection: ClientConnection, scope: Scope, expects: bool, keep_alive: bool) -> None:
        """`expects`: the client waits for "100 Continue" before it sends a body."""
        self.scope = scope
        self.keep_alive = keep_alive
        self.body = b""  # what has come of it and was not asked for yet
        self.more_body = True
        self.disconnected = False
        self.response_started = False
        self.response_complete = False
        self._connection = connection
        self._transport = connection.transport
        self._expects = expects
        self._news = False  # whether something has come since it was last asked for
        self._waiting: asyncio.Event | None = None  # where somebody has had to wait for it
        self._head = b""
        self._chunked = False

    def tell(self) -> None:
        """There is more of the body, or its end, or nobody who reads the answer any more."""
        self._news = True
        if self._waiting is not None:
            self._waiting.set()

    async def receive(self) -> MutableMapping[str, Any]:
        if self._expects and not self._transport.is_closing():
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self._expects = False
        if not self.disconnected and not self.response_complete:
            self._connection.resume_reading()
            if not self._news:  # else the body has come whole already, as nearly always
                if self._waiting is None:
                    self._waiting = asyncio.Event()
                self._waiting.clear()
                await self._waiting.wait()
            self._news = False
        if self.disconnected or self.response_complete:
            return {"type": "http.disconnect"}
        body, self.body = self.body, b""
        return {"type": "http.request", "body": body, "more_body": self.more_body}

    async def send(self, message: MutableMapping[str, Any]) -> None:
        if self.disconnected:
            return
        if message["type"] == "http.response.start":
            self._start(message["status"], message.get("headers", ()))
            return
        if self._connection.writable is not None:
            await self._connection.writable.wait()
            if self.disconnected:
                return
        if self.response_complete:
            raise RuntimeError("an answer that was complete goes on")
        body: bytes = message.get("body", b"")
        more: bool = message.get("more_body", False)
        head, self._head = self._head, b""
        if self.scope["method"] == "HEAD":
            body = b""
        elif self._chunked:
            body = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            if not more:
                body += b"0\r\n\r\n"
        if head or body:
            self._transport.write(head + body)
        if not more:
            self.response_complete = True
            self.tell()
            if not self.keep_alive:
                self._transport.close()
            self._connection.on_response_complete()

    def _start(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        self.response_started = True
        self._expects = False
        parts = [_STATUS[status]]
        chunked, closing = status not in (204, 304), False
        for name, value in (*self._connection.default_headers, *headers):
            parts.append(b"\r\n")
            parts.append(name)
            parts.append(b": ")
            parts.append(value)
            if name == b"content-length":
                chunked = False
            elif name == b"connection" and value == b"close":
                closing = True
        if closing:
            self.keep_alive = False
        elif not self.keep_alive:
            parts.append(b"\r\nconnection: close")
        parts.append(b"\r\ntransfer-encoding: chunked\r\n\r\n" if chunked else b"\r\n\r\n")
        self._chunked = chunked
        self._head = b"".join(parts)

    def break_off(self) -> None:
        """The application has ended without a whole answer."""
        if self.response_complete or self.disconnected or self._transport.is_closing():
            return
        log.error("%s %s ended without a whole answer", self.scope["method"], self.scope["path"])
        if not self.response_started:
            failed = "The gateway failed to handle this request. The operator's log says why."
            self._transport.write(_whole(GatewayError(failed, code="internal_error")))
        self.disconnected = True
        self._transport.close()


class ClientConnection:
    """What asyncio and httptools ask of a protocol, as uvicorn makes one for each connection."""

    def __init__(
        self,
        bounds: Bounds,
        config: Config,
        server_state: ServerState,
        app_state: object = None,  # nothing is kept there
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self.transport: asyncio.Transport = None  # type: ignore[assignment]  # until it is made
        self.writable: asyncio.Event | None = None  # to be waited for, where too much has not been read by the client
        self.on_disconnect: Callable[[], object] | None = None  # of the call in progress
        self._bounds = bounds
        self._app: Callable[..., Awaitable[None]] = config.loaded_app
        self._server_state = server_state
        self._loop = _loop or asyncio.get_running_loop()
        self._parser: Any = httptools.HttpRequestParser(self)
        # As uvicorn's: who sends two requests at once and wants no answer after the first is answered the first.
        self._parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self._between: dict[str, Any] = {}  # whom, as each scope says
        self._cycle: _Cycle | None = None  # of the request that came last
        self._pipeline: deque[_Cycle] = deque()  # requests that came before the answer to another was complete
        self._paused = False
        # -- the request that is being read
        self._scope: Scope = {}
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._in_head = False
        self._read = 0  # bytes at once, last
        self._beginning = 0  # bytes that were read with the beginning of a head …
        self._head_bytes = 0  # … and after it, where it did not come at once
        self._bodied = False  # whether anything of a body, or the end of a head, was in what was read last
        self._quiet = 0  # bytes of an unfinished request since there was
        self._timer: asyncio.TimerHandle | None = None
        self._fault: GatewayError | None = None
        # -- between requests
        self._idle_since: float | None = None
        self._idle_timer: asyncio.TimerHandle | None = None
        self._ends = False

    @property
    def disconnected(self) -> bool:
        return self.transport is None or self.transport.is_closing()

    @property
    def default_headers(self) -> list[tuple[bytes, bytes]]:
        return self._server_state.default_headers

    # -- asyncio's protocol --------------------------------------------------------------------------------
    def connection_made(self, transport: asyncio.Transport) -> None:
        self._server_state.connections.add(self)  # type: ignore[arg-type]  # of its own classes there
        self.transport = transport
        self._between = {
            "server": get_local_addr(transport),
            "client": get_remote_addr(transport),
            "scheme": "https" if is_ssl(transport) else "http",
        }
        self._timer = self._loop.call_later(self._bounds.header_timeout, self._late)

    def data_received(self, data: bytes) -> None:
        self._idle_since = None
        self._read = len(data)
        self._bodied = False
        if self._in_head:
            self._head_bytes += self._read
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._reject(BadRequest("Switching protocols is not supported.", code="invalid_http"))
            return
        except httptools.HttpParserError:
            self._reject(self._fault or BadRequest("The request is not valid HTTP/1.1.", code="invalid_http"))
            return
        limit = self._bounds.header_limit
        if self._in_head and self._head_bytes > limit:
            self._reject(_too_large(limit))
            return
        unfinished = self._in_head or (self._cycle is not None and self._cycle.more_body)
        if unfinished:
            self._quiet = 0 if self._bodied or self._in_head else self._quiet + self._read
            if self._quiet > limit:  # behind a body: lines that go on and on
                self._reject(_too_large(limit))
                return
            if self._timer is None:
                wait = self._bounds.header_timeout if self._in_head else self._bounds.body_timeout
                self._timer = self._loop.call_later(wait, self._late)
        elif self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def eof_received(self) -> None:
        """The transport closes itself."""

    def pause_writing(self) -> None:
        self.writable = asyncio.Event()

    def resume_writing(self) -> None:
        if self.writable is not None:
            self.writable.set()
            self.writable = None

    def connection_lost(self, exc: Exception | None) -> None:
        self._server_state.connections.discard(self)
        for timer in (self._timer, self._idle_timer):
            if timer is not None:
                timer.cancel()
        self._timer = self._idle_timer = None
        cycle = self._cycle
        if cycle is not None:
            if not cycle.response_complete:
                cycle.disconnected = True
            cycle.tell()
        self.resume_writing()
        if exc is None:
            self.transport.close()
        self._parser = None
        if self.on_disconnect is not None:
            self.on_disconnect()

    # -- httptools' callbacks ------------------------------------------------------------------------------
    def on_message_begin(self) -> None:
        self._url = b""
        self._headers = []
        self._scope = {
            "type": "http",
            "asgi": _ASGI,
            "http_version": "1.1",
            "root_path": "",
            "headers": self._headers,
            "connection": self,  # for the hot paths
            **self._between,
        }
        self._in_head = True
        self._beginning = self._read
        self._head_bytes = 0

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._bodied = True
        headers = self._headers
        if len(headers) > _MAX_HEADERS:
            self._refuse_head()
        if self._beginning + self._head_bytes > self._bounds.header_limit:  # else there is nothing to add up
            size = len(self._url) + sum([len(name) + len(value) for name, value in headers])
            if size > self._bounds.header_limit:
                self._refuse_head()
        expects = False
        for name, value in headers:
            if name == b"expect" and value.lower() == b"100-continue":
                expects = True
        self._headers = []  # the scope has the head's; what stands behind a body is none of them
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        parser, scope = self._parser, self._scope
        http_version = parser.get_http_version()
        if http_version != "1.1":
            scope["http_version"] = http_version
        scope["method"] = parser.get_method().decode("ascii")
        url: Any = httptools.parse_url(self._url)  # its types know of no URL without a query
        path = url.path.decode("ascii")
        scope["path"] = unquote(path) if "%" in path else path
        scope["raw_path"] = url.path
        scope["query_string"] = url.query or b""
        before = self._cycle
        keep_alive = not self._ends and http_version != "1.0" and parser.should_keep_alive()
        cycle = self._cycle = _Cycle(self, scope, expects, keep_alive)
        if before is None or before.response_complete:
            self._begin(cycle)
        else:
            self._pause_reading()
            self._pipeline.append(cycle)

    def on_body(self, body: bytes) -> None:
        self._bodied = True
        cycle = self._cycle
        if cycle is None or cycle.response_complete:
            return
        cycle.body = cycle.body + body if cycle.body else body
        if len(cycle.body) > _AHEAD:
            self._pause_reading()
        cycle.tell()

    def on_message_complete(self) -> None:
        cycle = self._cycle
        if cycle is None or cycle.response_complete:
            return
        cycle.more_body = False
        cycle.tell()

    # -- a request's answer --------------------------------------------------------------------------------
    def _begin(self, cycle: _Cycle) -> None:
        task = asyncio.Task(self._serve(cycle), loop=self._loop, name="request")  # else a name is made for each
        cycle.scope["task"] = task  # for the hot paths
        self._server_state.tasks.add(task)

    async def _serve(self, cycle: _Cycle) -> None:
        try:
            await self._app(cycle.scope, cycle.receive, cycle.send)
        except asyncio.CancelledError:
            pass  # at the end of `server.grace`
        except Exception as failure:
            log.error("unexpected error", exc_info=failure)
        finally:
            self._server_state.tasks.discard(cycle.scope["task"])
            cycle.break_off()

    def on_response_complete(self) -> None:
        self._server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.resume_reading()
        if self._pipeline:
            self._begin(self._pipeline.popleft())
            return
        self._idle_since = self._loop.time()
        if self._idle_timer is None:
            self._idle_timer = self._loop.call_later(self._bounds.keep_alive, self._look_idle)

    def _pause_reading(self) -> None:
        if not self._paused:
            self._paused = True
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        if self._paused:
            self._paused = False
            self.transport.resume_reading()

    # -- its end -------------------------------------------------------------------------------------------
    def _look_idle(self) -> None:
        """Close a connection that had no request for `keep_alive` seconds; else look again when that may be."""
        self._idle_timer = None
        if self.transport.is_closing():
            return
        keep_alive = self._bounds.keep_alive
        if self._idle_since is None:
            self._idle_timer = self._loop.call_later(keep_alive, self._look_idle)
            return
        left = self._idle_since + keep_alive - self._loop.time()
        if left > 0.001:
            self._idle_timer = self._loop.call_later(left, self._look_idle)
        else:
            self.transport.close()

    def shutdown(self) -> None:
        """End after the answer to what was sent: who has connected is told that the gateway ends, not cut off."""
        self._ends = True
        if self._cycle is None:
            self._loop.call_later(_ON_ITS_WAY, self._close)
        elif self._cycle.response_complete:
            self._loop.call_later(_UNREAD, self._close)
        else:
            self._close()

    def _close(self) -> None:
        """Now, or with the answer that is under way."""
        if self._cycle is None or self._cycle.response_complete:
            self.transport.close()
        else:
            self._cycle.keep_alive = False

    def _refuse_head(self) -> None:
        self._fault = _too_large(self._bounds.header_limit)
        raise self._fault

    def _late(self) -> None:
        self._timer = None
        if self._pipeline:  # nothing more of it is read before the answers that come first have gone
            self._timer = self._loop.call_later(self._bounds.body_timeout, self._late)
            return
        self._reject(Timeout("The request did not come whole in time."))

    def _reject(self, error: GatewayError) -> None:
        """Answer `error` and close; where an answer is already under way, or to come first, just close."""
        cycle = self._cycle
        if self.transport.is_closing():
            return
        if self._pipeline or (cycle is not None and cycle.response_started and not cycle.response_complete):
            self.transport.abort()
            return
        self.transport.write(_whole(error))
        if cycle is not None:
            cycle.disconnected = True  # nothing more may be written on this connection
            cycle.tell()
        self.transport.close()
