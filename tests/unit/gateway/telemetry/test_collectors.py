"""What a collector that is spoken to by HTTP answers, and what that means for what was sent."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from gateway_process import free_port
from otlp_sink import Sink

from gateway.config.telemetry import Otlp
from gateway.telemetry.collectors import HttpCollector, NotTaken


@pytest.fixture(scope="module")
def running() -> Iterator[Sink]:
    with Sink() as sink:
        yield sink


@pytest.fixture
def sink(running: Sink) -> Sink:
    for seen in (running.requests, running.headers, running.answers):
        seen.clear()
    running.rejects = 0
    return running


def collector(url: str, compression: str = "gzip") -> HttpCollector:
    settings = {"endpoint": url, "compression": compression, "headers": {"x-tenant": "a"}, "timeout": "30s"}
    return HttpCollector(Otlp.model_validate(settings), "traces")


@pytest.mark.parametrize("compression", ["gzip", "none"])
def test_what_is_taken_and_what_is_refused_of_it(sink: Sink, compression: str) -> None:
    sink.rejects = 3
    assert collector(sink.url, compression).send(b"") == 3
    assert len(sink.requests) == 1
    assert sink.headers[0]["x-tenant"] == "a"
    assert sink.headers[0]["content-type"] == "application/x-protobuf"
    assert sink.headers[0].get("content-encoding") == ("gzip" if compression == "gzip" else None)


@pytest.mark.parametrize(("status", "again"), [(400, False), (401, False), (429, True), (500, False), (503, True)])
def test_a_refusal_says_whether_it_may_be_tried_again(sink: Sink, status: int, again: bool) -> None:
    sink.answers = [status]
    sending = collector(sink.url)
    with pytest.raises(NotTaken, match=f"^127.0.0.1:[0-9]+: HTTP {status}$") as refused:
        sending.send(b"")
    assert refused.value.again is again
    assert sending.send(b"") == 0


def test_one_that_is_not_there_may_come() -> None:
    with pytest.raises(NotTaken, match=r"^127.0.0.1:[0-9]+: ConnectionRefusedError$") as refused:
        collector(f"http://127.0.0.1:{free_port()}").send(b"")
    assert refused.value.again


def test_a_host_that_can_be_none_is_a_failure_like_others() -> None:
    with pytest.raises(NotTaken, match=r"^a\.\.b: Unicode(Encode)?Error$"):
        collector("http://a..b").send(b"")


def test_an_answer_without_end_is_not_read_to_its_end() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection, contextlib.suppress(ConnectionError):
                connection.recv(65_536)
                connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                while True:
                    connection.sendall(b"a" * 65_536)

        thread = threading.Thread(target=answer)
        thread.start()
        assert collector(f"http://127.0.0.1:{listener.getsockname()[1]}").send(b"") == 0
        thread.join()


@pytest.mark.parametrize("to", ["{sink}", "http://[bad"])
@pytest.mark.parametrize("status", [302, 307])
def test_a_redirect_is_not_followed(sink: Sink, status: int, to: str) -> None:
    class Elsewhere(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(status)
            self.send_header("location", to.format(sink=f"{sink.url}/v1/traces"))
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Elsewhere) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        with pytest.raises(NotTaken, match=f": HTTP {status}$") as refused:
            collector(f"http://127.0.0.1:{server.server_port}").send(b"")
        thread.join()
    assert not refused.value.again
    assert sink.headers == []
