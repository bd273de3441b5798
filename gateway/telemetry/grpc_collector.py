"""OTLP/gRPC: requests that are encoded already, over grpc's own channel."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import grpc

from gateway.telemetry.collectors import NotTaken, Signal, rejected

if TYPE_CHECKING:
    from gateway.config.telemetry import Otlp

_METHODS = {
    "traces": "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
    "metrics": "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
    "logs": "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
}
# https://opentelemetry.io/docs/specs/otlp/#failures
_MAY_TRY_AGAIN = frozenset(
    {
        grpc.StatusCode.CANCELLED, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.ABORTED,
        grpc.StatusCode.OUT_OF_RANGE, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DATA_LOSS,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    }
)  # fmt: skip


class GrpcCollector:
    """See gateway.telemetry.collectors.Collector. TLS where the endpoint is https."""

    def __init__(self, settings: Otlp, signal: Signal) -> None:
        parts = urlsplit(settings.endpoint)
        secure = parts.scheme == "https"
        self._host = f"{parts.hostname}:{parts.port or (443 if secure else 4317)}"
        # It finds a way again by itself, but would wait up to two minutes before it looks.
        options = [("grpc.max_reconnect_backoff_ms", 5_000)]
        self._channel = (
            grpc.secure_channel(self._host, grpc.ssl_channel_credentials(), options)
            if secure
            else grpc.insecure_channel(self._host, options)
        )
        self._call = self._channel.unary_unary(_METHODS[signal])  # bytes in, bytes out
        self._headers = [(name.lower(), value.get_secret_value()) for name, value in settings.headers.items()]
        self._timeout = settings.timeout
        self._compression = grpc.Compression.Gzip if settings.compression == "gzip" else None

    def send(self, request: bytes) -> int:
        try:
            answer = self._call(request, timeout=self._timeout, metadata=self._headers, compression=self._compression)
        except grpc.RpcError as failure:
            code = failure.code()
            raise NotTaken(f"{self._host}: {code.name}", again=code in _MAY_TRY_AGAIN) from None
        return rejected(answer)

    def close(self) -> None:
        self._channel.close()
