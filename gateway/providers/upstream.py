"""The upstream HTTP/1.1 client: keep-alive connections to one origin, made for short calls and long streams.

httpx's stack costs several times what a proxied call may cost in all (docs/decisions), so the one place that
every call passes speaks HTTP itself, with the same parser (llhttp, by httptools) that uvicorn uses. It has what
a gateway needs and no more: POST with a whole body, answers by segment with back-pressure, one deadline that
moves, abort at once. Redirects are not followed, proxies and cookies are not known.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from urllib.parse import urlsplit

import httptools

from gateway.errors import Overloaded, UpstreamFailed, UpstreamTimeout

_HIGH_WATER = 262_144  # unread bytes of an answer before the provider is slowed
_MAX_HEADERS = 65_536
_DRAIN = 1.0  # seconds for the end of a stream to come after its last event
_STALL = 0.1  # seconds that a timer may fire late before the lateness is held to be this process's own


class _Stale(Exception):
    """An idle connection that the provider had closed: nothing of the request was answered."""


class Connection(asyncio.Protocol):
    """One socket to the provider, serving one answer at a time; it is that answer's reader too."""

    __slots__ = (
        "_complete",
        "_deadline",
        "_draining",
        "_error",
        "_header_bytes",
        "_keep",
        "_loop",
        "_owner",
        "_parser",
        "_paused",
        "_segments",
        "_sized",
        "_timer",
        "_timer_due",
        "_timer_name",
        "_transport",
        "_unread",
        "_waiter",
        "headers",
        "reused",
        "status",
    )  # fmt: skip

    def __init__(self, owner: Upstream, loop: asyncio.AbstractEventLoop) -> None:
        self._owner = owner
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_name = "total"
        self.reused = False
        self._complete = True
        self._draining = False
        self._error: Exception | None = None

    # -- one call ---------------------------------------------------------------------------------------
    async def exchange(self, head: bytes, body: bytes, deadline: float, timer: str) -> None:
        """Send a request and wait for the answer's status and headers; `status` and `headers` are set then.

        Raises UpstreamFailed, UpstreamTimeout named after `timer`, or _Stale where a retry is harmless.
        """
        self._parser = httptools.HttpResponseParser(self)
        self._segments: list[bytes] = []
        self._unread = 0
        self._complete = False
        self._sized = False
        self._keep = False
        self._paused = False
        self._error = None
        self._header_bytes = 0
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self.expect_by(deadline, timer)
        assert self._transport is not None
        self._transport.write(head + body)
        while not self.status:
            if self._error is not None:
                raise self._error
            await self._wait()

    def expect_by(self, deadline: float, timer: str) -> None:
        """The next bytes are due by `deadline` (loop time). Cheap: the running timer looks again when it fires."""
        self._deadline = deadline
        self._timer_name = timer
        if self._timer is None:
            self._arm()
        elif deadline < self._timer_due:
            self._timer.cancel()
            self._arm()

    async def segment(self) -> bytes:
        """The answer's next bytes, as many as have come; b"" at its end. Raises UpstreamError."""
        while not self._segments:
            if self._error is not None:
                raise self._error
            if self._complete:
                return b""
            await self._wait()
        segments = self._segments
        segment = segments[0] if len(segments) == 1 else b"".join(segments)
        segments.clear()
        self._unread = 0
        if self._paused:
            self._paused = False
            assert self._transport is not None
            self._transport.resume_reading()
        return segment

    def finish(self) -> None:
        """Done, and the answer's last event has come: wait aside for the few bytes that end it, then be reused."""
        if self._complete or self._error is not None:
            self.close()
        else:
            self._draining = True
            self.expect_by(self._loop.time() + _DRAIN, "total")

    def close(self) -> None:
        """Done with this answer: back to the pool when it was read whole, cut off at once when not."""
        self._draining = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._owner.release(self, self._complete and self._keep and self._error is None):
            return
        self._error = None  # it holds the frames it passed, and with them this connection
        if self._transport is not None:
            self._transport.abort()
            self._transport = None

    async def _wait(self) -> None:
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
        elif self._draining and (self._complete or self._error is not None):
            self.close()

    def _fail(self, error: Exception) -> None:
        if not self._complete and self._error is None:
            self._error = error
            self._wake()

    def _arm(self) -> None:
        self._timer_due = self._deadline  # kept here, since uvloop's handle of a time gone by does not know it
        self._timer = self._loop.call_at(self._deadline, self._due)

    def _due(self) -> None:
        now = self._loop.time()
        late = now - self._timer_due
        if late > _STALL:
            # The loop itself was held up (a heavy import, a busy machine), so the answer may lie there unread:
            # the provider gets the time back in which nobody was looking.
            self._deadline = max(self._deadline, now + late)
        if self._complete:
            self._timer = None
        elif now + 0.001 < self._deadline:
            self._arm()
        else:
            self._timer = None
            self._fail(UpstreamTimeout(f"The provider did not answer in time ({self._timer_name}).", code=self._code()))

    def _code(self) -> str:
        return f"upstream_timeout_{self._timer_name}"

    # -- asyncio.Protocol -------------------------------------------------------------------------------
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # TCP, TLS and unix sockets all give a Transport

    def data_received(self, data: bytes) -> None:
        if self._complete:
            self._keep = False  # bytes that nobody asked for: the connection is out of step
            self.close()
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._fail(UpstreamFailed("The provider tried to switch protocols.", code="upstream_bad_answer"))
        except httptools.HttpParserError:
            self._keep = False
            self._fail(UpstreamFailed("The provider's answer is not valid HTTP.", code="upstream_bad_answer"))

    def eof_received(self) -> None:
        return None

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._keep = False
        self._owner.discard(self)
        if self._complete:
            return
        if self.status and not self._sized and exc is None:
            self._complete = True  # an answer without a length ends with its connection
            self._wake()
        elif self.reused and not self.status and not self._header_bytes:
            self._fail(_Stale())
        else:
            self._fail(UpstreamFailed("The provider closed the connection too early.", code="upstream_disconnected"))

    # -- llhttp callbacks -------------------------------------------------------------------------------
    def on_header(self, name: bytes, value: bytes) -> None:
        self._header_bytes += len(name) + len(value)
        if self._header_bytes > _MAX_HEADERS:
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
        self._segments.append(body)
        self._unread += len(body)
        if self._unread > _HIGH_WATER and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()
        self._wake()

    def on_message_complete(self) -> None:
        if not self.status:
            return  # a 1xx before the answer itself
        self._keep = self._parser.should_keep_alive()
        self._complete = True
        self._wake()


class Upstream:
    """The connections to one origin. `base_url` may be http, https or unix:/path/of/socket."""

    def __init__(self, base_url: str, headers: dict[str, str], *, connect_timeout: float, max_connections: int) -> None:
        """Raises ValueError for a URL or a header that can't be sent."""
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https", "unix") or not (parts.hostname or parts.scheme == "unix"):
            raise ValueError(f"not an http(s) URL: {base_url!r}")
        if parts.username or parts.query or parts.fragment:
            raise ValueError("a base_url has no credentials, query or fragment")
        self._unix_path = parts.path if parts.scheme == "unix" else None
        self._host = parts.hostname or "localhost"
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._ssl = ssl.create_default_context() if parts.scheme == "https" else None
        self._prefix = b"/v1" if self._unix_path else parts.path.rstrip("/").encode("ascii")
        host = self._host if parts.port is None else f"{self._host}:{parts.port}"
        lines = [f"host: {host}", "content-type: application/json", "accept-encoding: identity"]
        for name, value in headers.items():
            if any(c in name + value for c in "\r\n\0"):
                raise ValueError(f"the header {name} holds a line break")
            lines.append(f"{name}: {value}")
        self._fixed = "\r\n".join(lines).encode("latin-1")
        self._connect_timeout = connect_timeout
        self._max = max_connections
        self._idle: deque[Connection] = deque()
        self._open: set[Connection] = set()
        self._opening = 0
        self._closing = False
        self._heads: dict[bytes, bytes] = {}

    async def post(self, path: bytes, extra: bytes, body: bytes, deadline: float, timer: str) -> Connection:
        """POST `body` and return the answer, its headers read. `extra` are whole header lines, each with CRLF.

        The caller must `close` what it gets. Raises UpstreamError; then nothing is left open.
        """
        head = self._heads.get(path)
        if head is None:
            head = b"POST " + self._prefix + path + b" HTTP/1.1\r\n" + self._fixed + b"\r\n"
            self._heads[path] = head
        head = b"%b%bcontent-length: %d\r\n\r\n" % (head, extra, len(body))
        while True:
            connection = self._idle.pop() if self._idle else await self._connect()
            try:
                await connection.exchange(head, body, deadline, timer)
                return connection
            except _Stale:
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
            while True:
                due = loop.time() + self._connect_timeout
                try:
                    async with asyncio.timeout_at(due):
                        return await self._open_one(loop)
                except TimeoutError:
                    if loop.time() - due < _STALL:  # else the loop was held up, and nothing was learnt of the provider
                        raise UpstreamTimeout(
                            "No connection to the provider in time.", code="upstream_timeout_connect"
                        ) from None
                except ssl.SSLCertVerificationError:
                    raise UpstreamFailed(
                        "The provider's TLS certificate does not prove who it is.", code="upstream_certificate"
                    ) from None
                except OSError:  # an ssl.SSLError and a name that can't be resolved among them
                    raise UpstreamFailed("No connection to the provider.", code="upstream_unreachable") from None
        finally:
            self._opening -= 1

    async def _open_one(self, loop: asyncio.AbstractEventLoop) -> Connection:
        connection = Connection(self, loop)
        if self._unix_path:
            await loop.create_unix_connection(lambda: connection, self._unix_path)
        else:
            await loop.create_connection(lambda: connection, self._host, self._port, ssl=self._ssl)
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
            connection = self._idle.pop()
            connection._complete = False
            connection.close()

    async def drained(self) -> None:
        """Wait until no call runs any more; after `aclose`."""
        while self._open or self._opening:
            await asyncio.sleep(0.05)
