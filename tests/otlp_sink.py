"""A collector for tests: it takes OTLP over HTTP or gRPC, reads it with the generated classes, and refuses on demand."""

from __future__ import annotations

import gzip
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


class _Collected:
    def __init__(self) -> None:
        self.requests: list[ExportTraceServiceRequest] = []
        self.metrics: list[ExportMetricsServiceRequest] = []
        self.logs: list[ExportLogsServiceRequest] = []
        self.headers: list[dict[str, str]] = []
        self.answers: list[int] = []  # statuses of the next answers; 200 when there are none
        self.rejects = 0  # spans that it says it refuses, of each request

    def take(self, signal: str, body: bytes, headers: dict[str, str]) -> int:
        self.headers.append(headers)
        if self.answers and (status := self.answers.pop(0)) != 200:
            return status
        if signal == "traces":
            self.requests.append(ExportTraceServiceRequest.FromString(body))
        elif signal == "logs":
            self.logs.append(ExportLogsServiceRequest.FromString(body))
        else:
            assert signal == "metrics"
            self.metrics.append(ExportMetricsServiceRequest.FromString(body))
        return 200

    @property
    def answer(self) -> bytes:
        return bytes([0x0A, 2, 0x08, self.rejects]) if self.rejects else b""

    @property
    def spans(self) -> list[Any]:
        return [s for r in self.requests for rs in r.resource_spans for ss in rs.scope_spans for s in ss.spans]

    @property
    def events(self) -> list[Any]:
        return [one for r in self.logs for rl in r.resource_logs for sl in rl.scope_logs for one in sl.log_records]


class Sink(_Collected):
    """Over HTTP. Use it as a context manager."""

    def __init__(self) -> None:
        super().__init__()
        sink = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                headers = {name.lower(): value for name, value in self.headers.items()}
                self.send_response(sink.take(self.path.rsplit("/", 1)[-1], body, headers))
                self.send_header("content-length", str(len(sink.answer)))
                self.end_headers()
                self.wfile.write(sink.answer)

            def log_message(self, *args: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Sink:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class GrpcSink(_Collected):
    """Over gRPC."""

    def __init__(self) -> None:
        super().__init__()

        def handler(signal: str) -> grpc.RpcMethodHandler:
            def export(body: bytes, context: grpc.ServicerContext) -> bytes:
                headers = {str(name): str(value) for name, value in context.invocation_metadata()}
                if self.take(signal, body, headers) != 200:
                    context.abort(grpc.StatusCode.UNAVAILABLE, "not now")
                return self.answer

            return grpc.unary_unary_rpc_method_handler(export)

        self._server = grpc.server(ThreadPoolExecutor(2))
        services = {"traces": "trace.v1.Trace", "metrics": "metrics.v1.Metrics", "logs": "logs.v1.Logs"}
        for signal, service in services.items():
            name = f"opentelemetry.proto.collector.{service}Service"
            made = grpc.method_handlers_generic_handler(name, {"Export": handler(signal)})
            self._server.add_generic_rpc_handlers((made,))
        self.url = f"http://127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"

    def __enter__(self) -> GrpcSink:
        self._server.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.stop(None).wait()


def attributes_of(told: Any) -> dict[str, Any]:
    """Of a span, an event, a log record, a resource or a data point."""
    return {item.key: _value(item.value) for item in told.attributes}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    return [_value(item) for item in value.array_value.values] if kind == "array_value" else getattr(value, kind)
