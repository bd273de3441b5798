"""A collector that takes OTLP, and what its refusals mean.

https://opentelemetry.io/docs/specs/otlp/: which refusals may be tried again, and when.
"""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING, Literal, Protocol

import httpx

if TYPE_CHECKING:
    from gateway.config.telemetry import Otlp

Signal = Literal["traces", "metrics"]

_MAY_TRY_AGAIN = frozenset({429, 502, 503, 504})


class NotTaken(Exception):
    """A collector did not take what was sent. The message names it by its host, and holds nothing that was sent.

    `again`: whether it may later; `after` seconds, where it says so.
    """

    def __init__(self, why: str, *, again: bool, after: float | None = None) -> None:
        super().__init__(why)
        self.again = again
        self.after = after


class Collector(Protocol):
    """Blocking, for one thread."""

    def send(self, request: bytes) -> int:
        """How many of the spans in an encoded export request it has refused. Raises NotTaken."""

    def close(self) -> None: ...


def collector(settings: Otlp, signal: Signal) -> Collector:
    """Raises ValueError where what its protocol needs is not installed."""
    if settings.protocol == "grpc":
        try:
            from gateway.telemetry.grpc_collector import GrpcCollector
        except ImportError:
            raise ValueError(
                f"telemetry.{signal}.otlp: `protocol: grpc` needs grpcio: pip install 'rag-gateway[otlp-grpc]'"
            ) from None
        return GrpcCollector(settings, signal)
    return HttpCollector(settings, signal)


class HttpCollector:
    """OTLP/HTTP with protobuf, over one connection that is kept."""

    def __init__(self, settings: Otlp, signal: Signal) -> None:
        endpoint = settings.endpoint.rstrip("/")
        self._url = endpoint if endpoint.endswith(f"/v1/{signal}") else f"{endpoint}/v1/{signal}"
        self._host = httpx.URL(self._url).netloc.decode("ascii")
        self._zip = settings.compression == "gzip"
        headers = {name: value.get_secret_value() for name, value in settings.headers.items()}
        fixed = {"content-type": "application/x-protobuf"} | ({"content-encoding": "gzip"} if self._zip else {})
        self._client = httpx.Client(headers=headers | fixed, timeout=settings.timeout, follow_redirects=False)

    def send(self, request: bytes) -> int:
        try:
            answer = self._client.post(self._url, content=gzip.compress(request, 1) if self._zip else request)
        except httpx.HTTPError as failure:
            raise NotTaken(f"{self._host}: {type(failure).__name__}", again=True) from None
        if answer.status_code >= 300:
            again = answer.status_code in _MAY_TRY_AGAIN
            after = answer.headers.get("retry-after", "")
            wait = float(after) if after.isdecimal() else None
            raise NotTaken(f"{self._host}: HTTP {answer.status_code}", again=again, after=wait)
        return rejected(answer.content)

    def close(self) -> None:
        self._client.close()


def rejected(answer: bytes) -> int:
    """How many spans or data points an export response says were refused: `partial_success.rejected_…`, both field 1."""
    inner = _first(answer)
    count = _first(inner) if isinstance(inner, bytes) else None
    return count if isinstance(count, int) else 0


def _first(message: bytes) -> bytes | int | None:
    """The value of field 1 where a message begins with it, as these do."""
    if not message or message[0] not in (0x08, 0x0A):
        return None
    number, place, shift = 0, 1, 0
    while place < len(message):
        byte = message[place]
        number |= (byte & 127) << shift
        shift, place = shift + 7, place + 1
        if byte < 128:
            break
    return number if message[0] == 0x08 else message[place : place + number]
