"""The HTTP/2 client against a server that turns calls away, goes, stalls and grants little room."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from h2 import events
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.settings import SettingCodes
from upstream.tls import Authority

from gateway.errors import Overloaded, UpstreamFailed, UpstreamTimeout
from gateway.providers.http2 import Http2
from gateway.providers.reply import Reply, Transport


class Server:
    """Answers with what the path asks for: `/echo` the body, `/size/N` N bytes, `/silent` nothing, `/half` half,
    `/babble` what is no answer."""

    def __init__(self, context: ssl.SSLContext, **settings: int) -> None:
        self.context = context
        self.settings = settings
        self.sockets: list[asyncio.StreamWriter] = []
        self.calls: list[tuple[int, int, str]] = []  # (socket, stream, path)
        self.cancelled: list[str] = []
        self.refuse = 0  # calls to turn away
        self.go_after = 0  # calls of a connection after which it says GOAWAY, and goes on with what it has taken
        self.most_at_once = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = len(self.sockets)
        self.sockets.append(writer)
        h2 = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        h2.initiate_connection()
        h2.update_settings({SettingCodes[name]: value for name, value in self.settings.items()})
        paths: dict[int, str] = {}
        bodies: dict[int, bytes] = {}
        waiting: dict[int, bytes] = {}
        running: set[int] = set()

        def send() -> None:
            for stream, rest in list(waiting.items()):
                while rest and (room := min(h2.local_flow_control_window(stream), h2.max_outbound_frame_size)) > 0:
                    h2.send_data(stream, rest[:room])
                    rest = rest[room:]
                waiting[stream] = rest
                if not rest:
                    del waiting[stream]
                    running.discard(stream)
                    h2.end_stream(stream)

        with contextlib.suppress(ConnectionError):
            writer.write(h2.data_to_send())
            while data := await reader.read(65_536):
                for event in h2.receive_data(data):
                    if isinstance(event, events.RequestReceived):
                        assert event.stream_id is not None
                        paths[event.stream_id] = str(dict(event.headers or ())[":path"])
                        bodies[event.stream_id] = b""
                        running.add(event.stream_id)
                        self.most_at_once = max(self.most_at_once, len(running))
                        self.calls.append((number, event.stream_id, paths[event.stream_id]))
                        if self.refuse:
                            self.refuse -= 1
                            running.discard(event.stream_id)
                            h2.reset_stream(event.stream_id, ErrorCodes.REFUSED_STREAM)
                    elif isinstance(event, events.DataReceived):
                        assert event.stream_id is not None
                        bodies[event.stream_id] += event.data or b""
                        h2.acknowledge_received_data(event.flow_controlled_length or 0, event.stream_id)
                    elif isinstance(event, events.StreamReset):
                        assert event.stream_id is not None
                        self.cancelled.append(paths[event.stream_id])
                        waiting.pop(event.stream_id, None)
                        running.discard(event.stream_id)
                    elif isinstance(event, events.StreamEnded):
                        assert event.stream_id is not None
                        path, stream = paths[event.stream_id], event.stream_id
                        if path == "/silent":
                            continue
                        if path == "/babble":
                            writer.write(b"\x00\x00\x01\x00\x00\x00\x00\x00\x00x")  # data of no stream
                            continue
                        h2.send_headers(stream, [(":status", "200"), ("x-socket", str(number))])
                        if path == "/half":
                            h2.send_data(stream, b"half")
                            continue
                        waiting[stream] = bodies[stream] if path == "/echo" else b"x" * int(path.split("/")[2])
                        if self.go_after and len(paths) == self.go_after:
                            # By hand, since h2 takes the connection to be closed with it: last stream, no error.
                            writer.write(h2.data_to_send() + goaway(stream))
                            paths.clear()
                send()
                writer.write(h2.data_to_send())
                await writer.drain()
        writer.close()


def goaway(last: int) -> bytes:
    """RFC 9113, section 6.8: length 8, type 7, no flags, stream 0; the last stream's id, no error."""
    return b"\x00\x00\x08\x07\x00\x00\x00\x00\x00" + last.to_bytes(4, "big") + bytes(4)


@pytest.fixture
def certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    authority = Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    return authority.certificate("127.0.0.1")


@asynccontextmanager
async def served(certificate: Path, *, alpn: str = "h2", **settings: int) -> AsyncIterator[tuple[Server, str]]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    context.set_alpn_protocols([alpn])
    server = Server(context, **settings)
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0, ssl=context)
    async with listening:
        yield server, f"https://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        for writer in server.sockets:
            writer.close()


@asynccontextmanager
async def client(url: str, most: int = 1000) -> AsyncIterator[Http2]:
    made = Http2(url, {"authorization": "Bearer k"}, connect_timeout=2, max_connections=most)
    try:
        yield made
    finally:
        await made.aclose()
        await made.drained()


async def post(transport: Transport, path: bytes, body: bytes = b"{}", within: float = 10) -> Reply:
    by = asyncio.get_running_loop().time() + within
    return await transport.post(path, b"x-extra: 1\r\n", body, by, "first_token")


async def told(reply: Reply) -> bytes:
    try:
        return b"".join([segment async for segment in segments(reply)])
    finally:
        reply.close()


async def segments(reply: Reply) -> AsyncIterator[bytes]:
    while segment := await reply.segment():
        yield segment


@pytest.mark.parametrize("size", [0, 1, 70_000, 3_000_000])
async def test_bodies_go_both_ways_through_windows_of_any_size(certificate: Path, size: int) -> None:
    body = bytes(index % 251 for index in range(size))
    async with served(certificate, INITIAL_WINDOW_SIZE=10_000) as (_, url), client(url) as upstream:
        assert await told(await post(upstream, b"/echo", body)) == body


async def test_many_calls_share_one_connection(certificate: Path) -> None:
    async with served(certificate) as (server, url), client(url) as upstream:
        answers = await asyncio.gather(*[post(upstream, b"/echo", b"%d" % n) for n in range(80)])
        assert [await told(answer) for answer in answers] == [b"%d" % n for n in range(80)]
        assert len(server.sockets) == 1


async def test_a_server_that_takes_few_at_a_time_is_given_further_connections(certificate: Path) -> None:
    async with served(certificate, MAX_CONCURRENT_STREAMS=3) as (server, url), client(url) as upstream:
        answers = [await post(upstream, b"/half") for _ in range(7)]
        assert len(server.sockets) == 3
        assert server.most_at_once == 3
        for answer in answers:
            answer.close()


async def test_a_slow_reader_holds_back_nobody_else(certificate: Path) -> None:
    async with served(certificate) as (_, url), client(url) as upstream:
        slow = [await post(upstream, b"/size/30000000") for _ in range(4)]
        for _ in range(20):
            assert len(await told(await post(upstream, b"/size/1000000"))) == 1_000_000
        held = [reply._unread for reply in slow]
        assert max(held) < 1_000_000, "no more than a window waits for a reader"
        assert len(await told(slow[0])) == 30_000_000
        for reply in slow[1:]:
            reply.close()


async def test_a_call_that_was_refused_is_asked_again(certificate: Path) -> None:
    async with served(certificate) as (server, url), client(url) as upstream:
        server.refuse = 1
        assert await told(await post(upstream, b"/echo", b"again")) == b"again"
        assert len(server.calls) == 2
        server.refuse = 1000
        with pytest.raises(UpstreamFailed):
            await post(upstream, b"/echo")
        assert len(server.calls) < 10


async def test_a_server_that_goes_finishes_what_it_has_taken(certificate: Path) -> None:
    async with served(certificate) as (server, url), client(url) as upstream:
        server.go_after = 2
        first = await post(upstream, b"/size/5000000")  # on its way when the server says that it goes
        assert await told(await post(upstream, b"/echo", b"last")) == b"last"
        assert await told(await post(upstream, b"/echo", b"next")) == b"next"
        assert len(await told(first)) == 5_000_000
        assert [call[0] for call in server.calls] == [0, 0, 1], "the new call went to a new connection"


async def test_a_connection_that_is_gone_is_noticed_and_replaced(certificate: Path) -> None:
    async with served(certificate) as (server, url), client(url) as upstream:
        await told(await post(upstream, b"/echo"))
        server.sockets[0].close()
        assert await told(await post(upstream, b"/echo", b"there")) == b"there"


async def test_an_answer_that_is_cut_off_is_an_error(certificate: Path) -> None:
    async with served(certificate) as (server, url), client(url) as upstream:
        reply = await post(upstream, b"/half")
        assert await reply.segment() == b"half"
        server.sockets[0].transport.abort()
        with pytest.raises(UpstreamFailed) as fault:
            await reply.segment()
        assert fault.value.code == "upstream_disconnected"
        reply.close()


async def test_a_closed_answer_is_cancelled_alone(certificate: Path) -> None:
    async with served(certificate) as (server, url), client(url) as upstream:
        left, kept = await post(upstream, b"/half"), await post(upstream, b"/half")
        left.close()
        assert await told(await post(upstream, b"/echo", b"on")) == b"on"
        assert server.cancelled == ["/half"]
        assert await kept.segment() == b"half"
        kept.close()


async def test_a_connection_on_which_nothing_came_in_time_is_left(certificate: Path) -> None:
    async with served(certificate) as (server, url), client(url) as upstream:
        await told(await post(upstream, b"/echo"))
        with pytest.raises(UpstreamTimeout) as timeout:
            await post(upstream, b"/silent", within=0.05)
        assert timeout.value.code == "upstream_timeout_first_token"
        await told(await post(upstream, b"/echo"))
        assert [call[0] for call in server.calls] == [0, 0, 1]


async def test_more_calls_than_allowed_are_refused(certificate: Path) -> None:
    async with served(certificate) as (_, url), client(url, most=2) as upstream:
        held = [await post(upstream, b"/half") for _ in range(2)]
        with pytest.raises(Overloaded):
            await post(upstream, b"/half")
        for reply in held:
            reply.close()
        await told(await post(upstream, b"/echo"))


async def test_a_server_without_http2_is_spoken_to_by_http1(certificate: Path) -> None:
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"POST /echo HTTP/1.1\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\nconnection: close\r\n\r\nold")
        await writer.drain()
        writer.close()

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    context.set_alpn_protocols(["http/1.1"])

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await plain(reader, writer)
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    async with listening, client(f"https://127.0.0.1:{listening.sockets[0].getsockname()[1]}") as upstream:
        for _ in range(2):
            assert await told(await post(upstream, b"/echo")) == b"old"


async def test_what_is_no_http2_is_a_bad_answer(certificate: Path) -> None:
    async with served(certificate) as (_, url), client(url) as upstream:
        other = await post(upstream, b"/half")
        with pytest.raises(UpstreamFailed) as fault:
            await post(upstream, b"/babble")
        assert fault.value.code == "upstream_bad_answer"
        assert await other.segment() == b"half"
        with pytest.raises(UpstreamFailed):
            await other.segment()
        other.close()
        await told(await post(upstream, b"/echo"))


def test_http2_needs_tls() -> None:
    with pytest.raises(ValueError, match="https"):
        Http2("http://127.0.0.1:1/v1", {}, connect_timeout=1, max_connections=1)
