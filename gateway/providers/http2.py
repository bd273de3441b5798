"""The upstream HTTP/2 client: many calls over few connections, for providers that are far away and speak it.

The protocol's state is h2's (RFC 9113). A server that does not agree to it in the TLS handshake (ALPN) is spoken to
by HTTP/1.1. What a call that is read slowly holds back is its own stream alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, cast

from h2 import events
from h2.config import H2Configuration
from h2.connection import ConnectionInputs, ConnectionState, H2Connection, H2ConnectionStateMachine
from h2.errors import ErrorCodes
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes, Settings

from gateway.errors import Overloaded, UpstreamError, UpstreamFailed, UpstreamTimeout
from gateway.providers.origin import Origin, checked
from gateway.providers.reply import HIGH_WATER, MAX_HEADERS, Reply, Stale
from gateway.providers.upstream import Upstream

_WINDOW = 16_777_216  # bytes that all streams of a connection may bring before any is acknowledged
_AGAIN = 3  # connections that may turn a call away before it is given up
_LAST_STREAM = 2**31 - 1_001  # ids of streams do not begin anew; RFC 9113, section 5.1.1


class _Machine(H2ConnectionStateMachine):
    """After a GOAWAY the streams that the server has taken on go on to their ends: RFC 9113, section 6.8.

    h2 holds the connection to be closed then, and an answer on its way would be lost at each graceful restart.
    """

    _transitions = H2ConnectionStateMachine._transitions | {
        (ConnectionState.CLIENT_OPEN, ConnectionInputs.RECV_GOAWAY): (None, ConnectionState.CLIENT_OPEN)
    }


class Stream(Reply):
    """One call and its answer."""

    __slots__ = ("_connection", "_heard", "_id", "_owed", "_sent")

    def __init__(self, connection: Http2Connection, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._connection: Http2Connection | None = connection
        self._id = 0
        self._owed = 0  # bytes taken and not yet acknowledged
        self._sent = False

    async def exchange(self, head: list[tuple[bytes, bytes]], body: bytes, deadline: float, timer: str) -> None:
        """Send a request and wait for the answer's status and headers.

        Raises UpstreamFailed, UpstreamTimeout named after `timer`, or Stale.
        """
        connection = self._connection
        assert connection is not None
        self._begin(deadline, timer)
        self._heard = connection.heard
        self._id = connection.begin(self, head)
        at = 0
        while not self.status and self._error is None:
            at += connection.send(self._id, body, at)
            if at == len(body):
                self._sent = True
                break
            await self._wait()
        await self.started()

    # -- for the connection ------------------------------------------------------------------------------
    def answered(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        self.headers = dict(headers)
        self.status = int(self.headers.pop(b":status"))
        self._wake()

    def came(self, data: bytes, acknowledged: int) -> None:
        """`acknowledged` counts the padding too: bytes that the stream's window is to be opened by."""
        self._owed += acknowledged
        if data:
            self._put(data)

    def ended(self) -> None:
        self._end()

    def woken(self) -> None:
        """There may be room to send in."""
        self._wake()

    def turned_away(self) -> None:
        """The server has not looked at the request."""
        self._fail(Stale() if not self.status else _cut_off())

    def lost(self, heard: int) -> None:
        """The connection is gone. Where nothing at all came on it since this call began, it was gone before."""
        self._fail(Stale() if heard == self._heard > 0 else _cut_off())

    def reset(self) -> None:
        self._fail(_cut_off())

    def failed(self, error: UpstreamError) -> None:
        self._fail(error)

    # -- Reply -------------------------------------------------------------------------------------------
    def _taken(self) -> None:
        if self._owed > HIGH_WATER // 2 and not self._complete and self._connection is not None:
            self._connection.acknowledge(self._id, self._owed)
            self._owed = 0

    def _release(self) -> bool:
        connection, self._connection = self._connection, None
        if connection is None:
            return False
        dumb = isinstance(self._error, UpstreamTimeout) and connection.heard == self._heard
        self._error = None  # it holds the frames it passed, and with them this stream
        connection.release(self._id, whole=self._complete and self._sent, dumb=dumb)
        return False


class Http2Connection(asyncio.Protocol):
    """One socket to the provider, serving as many calls at a time as the server allows."""

    def __init__(self, owner: Http2, loop: asyncio.AbstractEventLoop) -> None:
        self._owner = owner
        self._transport: asyncio.Transport | None = None
        self._streams: dict[int, Stream] = {}
        self._unacknowledged = 0
        self._retired = False
        self._h2 = H2Connection(H2Configuration(client_side=True, header_encoding=None))
        self._h2.state_machine = _Machine()
        self._h2.local_settings = Settings(
            client=True,
            initial_values={
                SettingCodes.ENABLE_PUSH: 0,
                SettingCodes.INITIAL_WINDOW_SIZE: HIGH_WATER,
                SettingCodes.MAX_HEADER_LIST_SIZE: MAX_HEADERS,
            },
        )
        self.heard = 0  # how often bytes have come
        self.agreed: asyncio.Future[bool] = loop.create_future()  # whether the server speaks HTTP/2

    @property
    def room(self) -> bool:
        """Whether another call may begin here."""
        if self._retired or self._transport is None:
            return False
        most = self._h2.remote_settings.max_concurrent_streams
        return len(self._streams) < most and self._h2.highest_outbound_stream_id < _LAST_STREAM

    @property
    def busy(self) -> bool:
        return bool(self._streams)

    def begin(self, stream: Stream, head: list[tuple[bytes, bytes]]) -> int:
        """The new stream's id; its headers are sent."""
        number = self._h2.get_next_available_stream_id()
        self._streams[number] = stream
        self._h2.send_headers(number, head)
        return number

    def send(self, number: int, body: bytes, at: int) -> int:
        """Send what the windows have room for, from `at` on: how many bytes that was."""
        begun = at
        while at < len(body) or not body:
            size = min(self._h2.local_flow_control_window(number), self._h2.max_outbound_frame_size, len(body) - at)
            if size <= 0 < len(body):
                break
            self._h2.send_data(number, body[at : at + size], end_stream=at + size == len(body))
            at += size
            if not body:
                break
        self._flush()
        return at - begun

    def acknowledge(self, number: int, size: int) -> None:
        if number in self._streams and self._transport is not None:
            self._h2.increment_flow_control_window(size, number)
            self._flush()

    def release(self, number: int, *, whole: bool, dumb: bool) -> None:
        """A call is over. `dumb`: nothing at all came back in its time, so this connection may be dead: no more here."""
        known = self._streams.pop(number, None) is not None
        if known and not whole and self._transport is not None:
            self._h2.reset_stream(number, ErrorCodes.CANCEL)
            self._flush()
        if dumb:
            self._retired = True
        self._owner.released()
        self.close_if_idle()

    def retire(self) -> None:
        """No more calls; closed when the last has ended."""
        self._retired = True
        self.close_if_idle()

    def close_if_idle(self) -> None:
        if self._retired and not self._streams and self._transport is not None:
            transport, self._transport = self._transport, None
            transport.close()

    def _flush(self) -> None:
        if self._transport is not None and not self._transport.is_closing() and (data := self._h2.data_to_send()):
            self._transport.write(data)

    # -- asyncio.Protocol -------------------------------------------------------------------------------
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        if transport.get_extra_info("ssl_object").selected_alpn_protocol() != "h2":
            self.agreed.set_result(False)
            self.retire()
            return
        self._h2.initiate_connection()
        self._h2.increment_flow_control_window(_WINDOW)
        self._flush()

    def data_received(self, data: bytes) -> None:
        self.heard += 1
        try:
            for event in self._h2.receive_data(data):
                self._happened(event)
        except ProtocolError:
            self._flush()  # the server is told why
            transport, self._transport = self._transport, None
            assert transport is not None, "bytes come from a transport"
            transport.close()
            for stream in tuple(self._streams.values()):
                stream.failed(UpstreamFailed("The provider's answer is not valid HTTP/2.", code="upstream_bad_answer"))
            return
        self._flush()
        self.close_if_idle()

    def _happened(self, event: events.Event) -> None:
        stream = self._streams.get(getattr(event, "stream_id", None) or 0)
        if isinstance(event, events.DataReceived):
            self._unacknowledged += event.flow_controlled_length
            if self._unacknowledged > _WINDOW // 2:
                self._h2.increment_flow_control_window(self._unacknowledged)
                self._unacknowledged = 0
            if stream is not None:
                stream.came(event.data, event.flow_controlled_length)
        elif isinstance(event, events.ResponseReceived):
            if stream is not None:
                stream.answered(event.headers)
        elif isinstance(event, events.StreamEnded):
            if stream is not None:
                stream.ended()
        elif isinstance(event, events.StreamReset):
            if stream is not None:
                del self._streams[event.stream_id]
                stream.turned_away() if event.error_code == ErrorCodes.REFUSED_STREAM else stream.reset()
        elif isinstance(event, events.ConnectionTerminated):
            self._retired = True
            for number, each in tuple(self._streams.items()):
                if number > (event.last_stream_id or 0):
                    del self._streams[number]  # unknown to the server: there is nothing to cancel
                    each.turned_away()
        elif isinstance(event, (events.WindowUpdated, events.RemoteSettingsChanged)):
            if not self.agreed.done():
                self.agreed.set_result(True)
            for each in (stream,) if stream is not None else tuple(self._streams.values()):
                each.woken()

    def eof_received(self) -> None:
        return None

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._owner.discard(self)
        if not self.agreed.done():
            self.agreed.set_exception(
                UpstreamFailed("The provider closed the connection too early.", code="upstream_disconnected")
            )
        for stream in tuple(self._streams.values()):
            stream.lost(self.heard)


class Http2:
    """The connections to one https origin; see Transport. `max_connections` bounds the calls at a time."""

    def __init__(self, base_url: str, headers: dict[str, str], *, connect_timeout: float, max_connections: int) -> None:
        """Raises ValueError for a URL or a header that can't be sent."""
        if not base_url.startswith("https://"):
            raise ValueError("`http2` needs a base_url with https")
        self.origin = Origin(base_url, connect_timeout=connect_timeout, protocols=("h2", "http/1.1"))
        self._over_http1 = Upstream(base_url, headers, connect_timeout=connect_timeout, max_connections=max_connections)
        fixed = {"content-type": "application/json", "accept-encoding": "identity"} | checked(headers)
        self._fixed = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in fixed.items()]
        self._connect_timeout = connect_timeout
        self._max = max_connections
        self._agreed = True
        self._calls = 0
        self._connections: list[Http2Connection] = []
        self._connecting: asyncio.Task[Http2Connection | None] | None = None
        self._closing = False

    async def post(self, path: bytes, extra: bytes, body: bytes, deadline: float, timer: str) -> Reply:
        """See Transport."""
        if not self._agreed:
            return await self._over_http1.post(path, extra, body, deadline, timer)
        loop = asyncio.get_running_loop()
        head = [
            (b":method", b"POST"),
            (b":scheme", b"https"),
            (b":authority", self.origin.authority.encode("ascii")),
            (b":path", self.origin.prefix + path),
            *self._fixed,
            *_fields(extra),
            (b"content-length", b"%d" % len(body)),
        ]
        for _ in range(_AGAIN):
            connection = await self._with_room()
            if connection is None:
                return await self._over_http1.post(path, extra, body, deadline, timer)
            if self._calls >= self._max:
                raise Overloaded("All connections to the provider are busy; try again shortly.", retry_after="1")
            stream = Stream(connection, loop)
            self._calls += 1
            try:
                await stream.exchange(head, body, deadline, timer)
                return stream
            except Stale:
                stream.close()  # another connection takes the call
            except BaseException:
                stream.close()
                raise
        raise UpstreamFailed("The provider takes no calls.", code="upstream_disconnected")

    async def _with_room(self) -> Http2Connection | None:
        """A connection on which a call can begin; None where the server speaks HTTP/1.1."""
        while True:
            for connection in self._connections:
                if connection.room:
                    return connection
            if self._connecting is None:
                self._connecting = asyncio.create_task(self._connect())
                self._connecting.add_done_callback(self._connected)
            # Shared by all who wait, so none of them may cancel it.
            if await asyncio.shield(self._connecting) is None:
                return None

    async def _connect(self) -> Http2Connection | None:
        loop = asyncio.get_running_loop()
        connection = await self.origin.connect(lambda: Http2Connection(self, loop))
        try:
            async with asyncio.timeout(self._connect_timeout):
                self._agreed = await connection.agreed
        except TimeoutError:
            connection.retire()
            raise UpstreamTimeout("No connection to the provider in time.", code="upstream_timeout_connect") from None
        if not self._agreed:
            return None
        self._connections.append(connection)
        return connection

    def _connected(self, task: asyncio.Task[Any]) -> None:
        self._connecting = None
        if not task.cancelled():
            task.exception()  # those who wait are told; where nobody does, nothing is to be logged

    def released(self) -> None:
        self._calls -= 1
        if self._closing:
            self._retire_all()

    def discard(self, connection: Http2Connection) -> None:
        if connection in self._connections:
            self._connections.remove(connection)

    async def aclose(self) -> None:
        """See Transport."""
        self._closing = True
        self._retire_all()
        await self._over_http1.aclose()

    def _retire_all(self) -> None:
        for connection in tuple(self._connections):
            connection.retire()

    async def drained(self) -> None:
        """See Transport."""
        while any(connection.busy for connection in self._connections) or self._calls:
            await asyncio.sleep(0.05)
        await self._over_http1.drained()


def _cut_off() -> UpstreamFailed:
    return UpstreamFailed("The provider closed the connection too early.", code="upstream_disconnected")


def _fields(lines: bytes) -> Iterable[tuple[bytes, bytes]]:
    """Header lines of HTTP/1.1 as names and values; the host is told by `:authority`."""
    for line in lines.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name and name.lower() != b"host":
            yield name.strip().lower(), value.strip()
