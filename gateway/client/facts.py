"""What the gateway says of a call in its answer's headers: docs/apis.md lists them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import openai

_TIMING = re.compile(r"\s*(?P<name>[^;,\s]+)\s*;[^,]*?\bdur=(?P<ms>[0-9.]+)")
_KEPT_AS = "_gateway_headers"


@dataclass(frozen=True, slots=True)
class CallFacts:
    """How a call went, as its answer's headers tell it. What the gateway did not say is None or empty.

    `timings` are milliseconds of each stage, and `total`, until the answer began (`Server-Timing`, W3C). `cache` is
    `hit`, `semantic`, `miss` or `off`; `age` is that of a kept answer in seconds. `target` is `provider/model`, `arm`
    that of a roll-out. `degraded` names stages that the answer had to do without, `left_out` fields of the request
    that the vendor has no counterpart for.
    """

    call_id: str | None = None
    request_id: str | None = None
    target: str | None = None
    arm: str | None = None
    cache: str | None = None
    age: int | None = None
    degraded: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    timings: Mapping[str, float] | None = None

    @classmethod
    def from_headers(cls, headers: Mapping[str, str]) -> CallFacts:
        """`headers` is looked into by names in lower case, as httpx's headers can be."""
        age = headers.get("age", "")
        return cls(
            call_id=headers.get("x-gateway-call-id"),
            request_id=headers.get("x-request-id"),
            target=headers.get("x-gateway-target"),
            arm=headers.get("x-gateway-arm"),
            cache=headers.get("x-gateway-cache"),
            age=int(age) if age.isdecimal() else None,
            degraded=_listed(headers.get("x-gateway-degraded")),
            left_out=_listed(headers.get("x-gateway-left-out")),
            timings=timings(headers.get("server-timing", "")),
        )


def timings(server_timing: str) -> dict[str, float]:
    """Milliseconds by name: https://www.w3.org/TR/server-timing/#the-server-timing-header-field."""
    return {found["name"]: float(found["ms"]) for found in _TIMING.finditer(server_timing)}


def keep_headers(result: object, headers: Mapping[str, str]) -> None:
    """Let a parsed answer know its headers, beside its fields: nothing of them is in `model_dump`."""
    if isinstance(result, openai.BaseModel):
        object.__setattr__(result, _KEPT_AS, headers)


def headers_of(result: object) -> Mapping[str, str]:
    """The headers of whatever the SDK gave: a parsed answer, a chunk, a stream, a raw response, an error.

    Raises LookupError where it has none.
    """
    for holder in (result, getattr(result, "response", None), getattr(result, "http_response", None)):
        for name in (_KEPT_AS, "headers"):
            headers = getattr(holder, name, None)
            if isinstance(headers, Mapping):
                return headers
    raise LookupError(f"this {type(result).__name__} has no headers: it did not come from a gateway's Client")


def _listed(header: str | None) -> tuple[str, ...]:
    return tuple(part.strip() for part in header.split(",")) if header else ()
