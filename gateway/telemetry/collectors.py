"""A collector that takes OTLP, and what its refusals mean.

https://opentelemetry.io/docs/specs/otlp/: which refusals may be tried again, and when.
"""

from __future__ import annotations

import gzip
import ssl
from http.client import HTTPException, HTTPMessage
from typing import IO, TYPE_CHECKING, Literal, Protocol
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, HTTPSHandler, Request, build_opener

if TYPE_CHECKING:
    from gateway.config.telemetry import Otlp

Signal = Literal["traces", "metrics", "logs"]
_SECTIONS: dict[Signal, str] = {"traces": "traces", "metrics": "metrics", "logs": "events"}  # of the configuration

_MAY_TRY_AGAIN = frozenset({429, 502, 503, 504})
_MOST_ANSWERED = 65_536  # bytes that are read of an answer, which says in a few what was refused


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
                f"telemetry.{_SECTIONS[signal]}.otlp: `protocol: grpc` needs grpcio: pip install 'rag-gateway[otlp-grpc]'"
            ) from None
        return GrpcCollector(settings, signal)
    return HttpCollector(settings, signal)


class HttpCollector:
    """OTLP/HTTP with protobuf, a connection for each request: there are few, and no client library is loaded for them."""

    def __init__(self, settings: Otlp, signal: Signal) -> None:
        endpoint = settings.endpoint.rstrip("/")
        self._url = endpoint if endpoint.endswith(f"/v1/{signal}") else f"{endpoint}/v1/{signal}"
        parts = urlsplit(self._url)
        self._host = parts.netloc
        self._zip = settings.compression == "gzip"
        fixed = {"content-type": "application/x-protobuf"} | ({"content-encoding": "gzip"} if self._zip else {})
        self._headers = {name: value.get_secret_value() for name, value in settings.headers.items()} | fixed
        self._timeout = settings.timeout
        trust = [HTTPSHandler(context=ssl.create_default_context())] if parts.scheme == "https" else []
        self._opener = build_opener(_Unfollowed, *trust)

    def send(self, request: bytes) -> int:
        body = gzip.compress(request, 1) if self._zip else request
        try:
            with self._opener.open(Request(self._url, body, self._headers), timeout=self._timeout) as answer:
                return rejected(answer.read(_MOST_ANSWERED))
        except HTTPError as refusal:
            refusal.close()
            after = refusal.headers.get("retry-after", "")
            wait = float(after) if after.isdecimal() else None
            again = refusal.code in _MAY_TRY_AGAIN
            raise NotTaken(f"{self._host}: HTTP {refusal.code}", again=again, after=wait) from None
        except (OSError, HTTPException, ValueError) as failure:  # a ValueError: of a host that can't be one
            reason = getattr(failure, "reason", None)  # of a URLError, which says nothing by itself
            what = type(reason if isinstance(reason, Exception) else failure).__name__
            raise NotTaken(f"{self._host}: {what}", again=True) from None

    def close(self) -> None:
        self._opener.close()


class _Unfollowed(HTTPRedirectHandler):
    """A redirect is a refusal like others: what is sent goes where the configuration says, and nowhere else."""

    def http_error_302(self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage) -> None:
        return None  # and it becomes an HTTPError; where it leads to is not even read

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302


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
