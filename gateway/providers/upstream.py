"""The upstream HTTP/1.1 client: keep-alive connections to one origin, made for short calls and long streams.

httpx's stack costs several times what a proxied call may cost in all (docs/decisions), so the one place that
every call passes speaks HTTP itself, with the same parser (llhttp, by httptools) that uvicorn uses. It has what
a gateway needs and no more: POST with a whole body, answers by segment with back-pressure, one deadline that
moves, abort at once. Redirects are not followed, proxies and cookies are not known.
"""

from __future__ import annotations

import asyncio
from collections import deque

import httptools

from gateway.errors import Overloaded, UpstreamFailed
from gateway.providers.origin import Origin, checked
from gateway.providers.reply import HIGH_WATER, MAX_HEADERS, Reply, Stale


class Connection(Reply):
    """One socket to the provider, serving one answer at a time; it is that answer's reader too."""

    __slots__ = (
        "_header_bytes", "_keep", "_owner", "_parser", "_paused", "_sized", "_transport", "_unanswered", "reused",
    )  # fmt: skip

    def __init__(self, owner: Upstream, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._owner = owner
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)  # answer after answer, as the provider keeps the connection
        self.reused = False

    def ask(self, head: bytes, body: bytes, deadline: float, timer: str) -> None:
        """Send a request, whose answer is then waited for: `started`."""
        self._sized = False
        self._keep = False
        self._paused = False
        self._header_bytes = 0
        self._unanswered = 0  # bytes that came before the head of the answer was whole
        self._begin(deadline, timer)
        assert self._transport is not None
        self._transport.write(head + body)

    def _taken(self) -> None:
        if self._paused:
            self._paused = False
            assert self._transport is not None
            self._transport.resume_reading()

    def _release(self) -> bool:
        """Back to the pool when the answer was read whole, and nothing of it waits where it is not looked for."""
        if self._owner.release(self, self._complete and self._keep and not self._paused and self._error is None):
            return True
        self._error = None  # it holds the frames it passed, and with them this connection
        if self._transport is not None:
            self._transport.abort()
            self._transport = None
        return False

    def drop(self) -> None:
        """End it while no call has it."""
        self._keep = False
        self._release()

    # -- asyncio's protocol -----------------------------------------------------------------------------
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # TCP, TLS and unix sockets all give a Transport

    def data_received(self, data: bytes) -> None:
        if self._complete:
            # Bytes that nobody asked for: the connection is out of step.
            self._keep = False
            if not self._lent:
                self.drop()
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._fail(UpstreamFailed("The provider tried to switch protocols.", code="upstream_bad_answer"))
        except httptools.HttpParserError:
            self._keep = False
            self._fail(UpstreamFailed("The provider's answer is not valid HTTP.", code="upstream_bad_answer"))
            if not self._lent:  # given back a moment ago, by the answer's end before these bytes
                self.drop()
        if not self.status:
            self._unanswered += len(data)
            if self._unanswered > MAX_HEADERS:
                self._fail(UpstreamFailed("The provider's answer has too large a head.", code="upstream_bad_answer"))

    def eof_received(self) -> None:
        return None

    def pause_writing(self) -> None:
        """A request is written whole, however slowly the provider reads."""

    def resume_writing(self) -> None:
        pass

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._keep = False
        self._disarm()
        self._owner.discard(self)
        if self._complete:
            return
        if self.status and not self._sized and exc is None:
            self._end()  # an answer without a length ends with its connection
        elif self.reused and not self.status and not self._unanswered:
            self._fail(Stale())
        else:
            self._fail(UpstreamFailed("The provider closed the connection too early.", code="upstream_disconnected"))

    # -- llhttp callbacks -------------------------------------------------------------------------------
    def on_message_begin(self) -> None:
        if self._complete:
            raise ValueError("an answer that nobody asked for")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._header_bytes += len(name) + len(value)
        if self._header_bytes > MAX_HEADERS:
            raise ValueError("too many headers")
        name = name.lower()
        self.headers[name] = value
        if name in (b"content-length", b"transfer-encoding"):
            self._sized = True

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200:
            self.headers.clear()
            return
        self.status = status
        self._wake()

    def on_body(self, body: bytes) -> None:
        self._put(body)
        if self._unread > HIGH_WATER and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()

    def on_message_complete(self) -> None:
        if not self.status:
            return  # a 1xx before the answer itself
        self._keep = self._parser.should_keep_alive()
        self._end()


class Upstream:
    """The connections to one origin. `base_url` may be http, https or unix:/path/of/socket."""

    def __init__(self, base_url: str, headers: dict[str, str], *, connect_timeout: float, max_connections: int) -> None:
        """Raises ValueError for a URL or a header that can't be sent."""
        self.origin = Origin(base_url, connect_timeout=connect_timeout)
        fixed = {
            "host": self.origin.authority, "content-type": "application/json", "accept-encoding": "identity",
        }  # fmt: skip
        lines = [f"{name}: {value}" for name, value in (fixed | checked(headers)).items()]
        self._fixed = "\r\n".join(lines).encode("latin-1")
        self._max = max_connections
        self._idle: deque[Connection] = deque()
        self._open: set[Connection] = set()
        self._opening = 0
        self._closing = False
        self._heads: dict[bytes, bytes] = {}

    async def post(self, path: bytes, extra: bytes, body: bytes, deadline: float, timer: str) -> Connection:
        """See Transport."""
        head = self._heads.get(path)
        if head is None:
            head = b"POST " + self.origin.prefix + path + b" HTTP/1.1\r\n" + self._fixed + b"\r\n"
            self._heads[path] = head
        head = b"%b%bcontent-length: %d\r\n\r\n" % (head, extra, len(body))
        while True:
            connection = self._idle.pop() if self._idle else await self._connect()
            try:
                connection.ask(head, body, deadline, timer)
                await connection.started()
                return connection
            except Stale:
                connection.close()  # the next idle one, or a new one, takes the call
            except BaseException:
                connection.close()
                raise

    async def _connect(self) -> Connection:
        if len(self._open) + self._opening >= self._max:
            raise Overloaded("All connections to the provider are busy; try again shortly.", retry_after="1")
        loop = asyncio.get_running_loop()
        self._opening += 1
        try:
            connection = await self.origin.connect(lambda: Connection(self, loop))
        finally:
            self._opening -= 1
        self._open.add(connection)
        return connection

    def release(self, connection: Connection, reusable: bool) -> bool:
        if reusable and connection in self._open and not self._closing:
            connection.reused = True
            self._idle.append(connection)
            return True
        self.discard(connection)
        return False

    def discard(self, connection: Connection) -> None:
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)

    async def aclose(self) -> None:
        """Drop the idle connections now, and each of the others when its call has ended."""
        self._closing = True
        while self._idle:
            self._idle.pop().drop()

    async def drained(self) -> None:
        """Wait until no call runs any more; after `aclose`."""
        while self._open or self._opening:
            await asyncio.sleep(0.05)
