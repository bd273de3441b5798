"""A provider's error answer, as one of ours: its own words kept where they concern the caller's request."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from gateway.errors import (
    CredentialRefused,
    UpstreamError,
    UpstreamFailed,
    UpstreamLimited,
    UpstreamRefused,
    UpstreamTimeout,
)
from gateway.providers.answers import whole
from gateway.providers.reply import Reply

_MAX_ERROR: Final = 65_536
_REQUEST_ID_HEADERS: Final = (
    b"x-request-id",
    b"request-id",
    b"x-amzn-requestid",
    b"apim-request-id",
    b"x-goog-request-id",
    b"x-debug-trace-id",
)


@dataclass(frozen=True, slots=True)
class Said:
    """What a vendor's error body says, in OpenAI's terms. `type` and `code` are None where the vendor has none.

    `status` overrides the HTTP status where the vendor means another one than it sent.
    """

    message: str = ""
    type: str | None = None
    param: str | None = None
    code: str | None = None
    status: int | None = None


ReadError = Callable[[int, Mapping[bytes, bytes], bytes], Said]


def request_id(headers: Mapping[bytes, bytes]) -> str | None:
    """The id under which the vendor's support finds this request."""
    for name in _REQUEST_ID_HEADERS:
        if (value := headers.get(name)) is not None:
            return value[:200].decode("latin-1")
    return None


def without(secrets: tuple[str, ...], words: str) -> str:
    """`words` as they may be shown to a caller: short, and free of the gateway's own credentials."""
    for secret in secrets:
        words = words.replace(secret, "***")
    return words[:2000]


async def refusal(reply: Reply, read: ReadError, secrets: tuple[str, ...]) -> UpstreamError:
    """The error that an answer with a bad status means; `read` knows the vendor's shape."""
    said = Said()
    try:
        body = await whole(reply, _MAX_ERROR)
        said = read(reply.status, reply.headers, body)
    except UpstreamError:
        pass
    return as_error(said.status or reply.status, reply.headers, said, secrets)


def as_error(status: int, headers: Mapping[bytes, bytes], said: Said, secrets: tuple[str, ...]) -> UpstreamError:
    """One of our errors for a vendor's status and words."""
    message = without(secrets, said.message)
    if status == 429:
        return UpstreamLimited(message or "The provider's rate limit is reached.", retry_after=_retry_after(headers))
    if status in (401, 403) or status < 400:
        # The gateway's own credentials or address are at fault: an operator's matter, not the caller's.
        return CredentialRefused("The provider refused the gateway's credentials or address.")
    if status == 408:
        return UpstreamTimeout("The provider gave up waiting.", code="upstream_timeout")
    if status < 500:
        return UpstreamRefused(
            message or f"The provider refused the request (HTTP {status}).",
            status=status,
            type=without(secrets, said.type) if said.type else "invalid_request_error",
            param=without(secrets, said.param) if said.param else None,
            code=without(secrets, said.code) if said.code else None,
        )
    return UpstreamFailed(f"The provider failed (HTTP {status}).", retry_after=_retry_after(headers))


def _retry_after(headers: Mapping[bytes, bytes]) -> str | None:
    """Seconds or a date, as the vendor wrote it; `retry-after-ms`, which some send, is more exact."""
    if (ms := headers.get(b"retry-after-ms")) is not None:
        try:
            return f"{max(0.0, float(ms) / 1000):.3f}"
        except ValueError:
            pass
    return headers.get(b"retry-after", b"").decode("latin-1") or None
