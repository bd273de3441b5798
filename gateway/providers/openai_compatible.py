"""Any server that speaks OpenAI's API: OpenAI itself, vLLM, and every vendor's compatible endpoint.

What goes out is the caller's request with the target's model name; what comes back is relayed to the byte.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, ClassVar

import msgspec

from gateway.chat import Chunk, Request, has_content
from gateway.errors import UpstreamError, UpstreamFailed, UpstreamLimited, UpstreamRefused, UpstreamTimeout
from gateway.providers.sse import SseReader
from gateway.providers.upstream import Connection, Upstream

if TYPE_CHECKING:
    from gateway.config.models import Timeouts
    from gateway.exchange import Exchange
    from gateway.values import Target

_MAX_ANSWER = 32_000_000
_MAX_ERROR = 65_536
_DONE = b"[DONE]"


class OpenAICompatible:
    endpoints = frozenset({"chat.completions", "embeddings"})

    def __init__(self, upstream: Upstream, timeouts: Timeouts, secrets: tuple[str, ...] = ()) -> None:
        """`secrets` are cut out of whatever text of the provider's reaches a caller."""
        self._upstream = upstream
        self._timeouts = timeouts
        self._secrets = secrets

    async def open(
        self, request: Request, target: Target, exchange: Exchange, deadline: float
    ) -> PlainAnswer | StreamedAnswer:
        loop = asyncio.get_running_loop()
        timeouts = self._timeouts
        body = request.body_for(target.model)
        trace = f"traceparent: 00-{exchange.trace_id}-{exchange.span_id}-{exchange.trace_flags or '00'}\r\n"
        extra = f"{trace}x-request-id: {exchange.request_id}\r\n".encode("ascii")
        first = loop.time() + timeouts.first_token
        by, timer = (first, "first_token") if request.stream and first < deadline else (deadline, "total")
        connection = await self._upstream.post(request.path, extra, body, by, timer)
        try:
            if connection.status != 200:
                raise await self._refusal(connection)
            if connection.headers.get(b"content-encoding", b"identity") != b"identity":
                raise UpstreamFailed("The provider compressed its answer unasked.", code="upstream_bad_answer")
            if not request.stream:
                return PlainAnswer(connection, await _whole(connection, _MAX_ANSWER))
            answer = StreamedAnswer(connection, loop, timeouts.between_tokens, deadline, self._secrets)
            await answer.begin()
            return answer
        except BaseException:
            connection.close()
            raise

    async def aclose(self) -> None:
        await self._upstream.aclose()

    async def _refusal(self, connection: Connection) -> UpstreamError:
        """The provider's error as ours, its own words kept where they concern the caller's request."""
        status = connection.status
        said = _ErrorFacts()
        try:
            body = await _whole(connection, _MAX_ERROR)
            said = _read_error(body, self._secrets)
        except UpstreamError:
            pass
        message = said.message
        if status == 429:
            headers = connection.headers
            after = headers.get(b"retry-after", b"").decode("latin-1") or None
            if b"retry-after-ms" in headers:
                after = _ms_as_seconds(headers[b"retry-after-ms"]) or after
            return UpstreamLimited(message or "The provider's rate limit is reached.", retry_after=after)
        if status in (401, 403) or status < 400:
            # The gateway's own credentials or address are at fault: an operator's matter, not the caller's.
            error = UpstreamFailed(
                "The provider refused the gateway's credentials or address.", code="upstream_refused"
            )
            error.retryable = False
            return error
        if status == 408:
            return UpstreamTimeout("The provider gave up waiting.", code="upstream_timeout")
        if status < 500:
            return UpstreamRefused(
                message or f"The provider refused the request (HTTP {status}).",
                status=status,
                type=said.type or "invalid_request_error",
                param=said.param,
                code=said.code,
            )
        after = connection.headers.get(b"retry-after", b"").decode("latin-1") or None
        return UpstreamFailed(f"The provider failed (HTTP {status}).", retry_after=after)


class PlainAnswer:
    """A whole answer: one chunk."""

    __slots__ = ("_chunks",)

    def __init__(self, connection: Connection, body: bytes) -> None:
        chunk = Chunk(body)
        if chunk.facts.error is not None:
            raise UpstreamFailed("The provider answered with an error.")
        connection.close()
        self._chunks = [chunk]

    async def next(self) -> list[Chunk]:
        chunks, self._chunks = self._chunks, []
        return chunks

    def close(self) -> None:
        pass


class StreamedAnswer:
    """A stream, its first content already here, so that until then another target could still take over."""

    __slots__ = ("_between", "_connection", "_deadline", "_done", "_finished", "_held", "_loop", "_reader", "_secrets")

    def __init__(
        self,
        connection: Connection,
        loop: asyncio.AbstractEventLoop,
        between: float,
        deadline: float,
        secrets: tuple[str, ...],
    ) -> None:
        self._connection = connection
        self._secrets = secrets
        self._loop = loop
        self._between = between
        self._deadline = deadline
        self._reader = SseReader()
        self._held: list[Chunk] = []
        self._done = False
        self._finished = False

    async def begin(self) -> None:
        """Read up to the first content. Raises UpstreamError; the connection is then the caller's to close."""
        if not self._connection.headers.get(b"content-type", b"").startswith(b"text/event-stream"):
            raise UpstreamFailed("The provider did not answer with a stream.", code="upstream_bad_answer")
        held: list[Chunk] = []
        while not self._done:
            chunks = await self._read()
            held += chunks
            if any(has_content(chunk.facts) for chunk in chunks):
                break
        self._held = held

    async def next(self) -> list[Chunk]:
        if self._held:
            held, self._held = self._held, []
            return held
        return [] if self._done else await self._read()

    async def _read(self) -> list[Chunk]:
        chunks: list[Chunk] = []
        while not chunks and not self._done:
            segment = await self._connection.segment()
            if not segment:
                if self._finished and not self._reader.inside_event:
                    self._done = True  # the provider left out [DONE]; every choice had its finish_reason
                    self.close()
                    return []
                raise UpstreamFailed("The provider's stream broke off.", code="upstream_disconnected")
            for payload in self._reader.feed(segment):
                if payload == _DONE:
                    self._done = True
                    self._connection.finish()
                    self._connection = _CLOSED
                    break
                chunk = Chunk(payload)
                facts = chunk.facts
                if facts.error is not None:
                    raise _reported(payload, self._secrets)
                if facts.choices and facts.choices[0].finish_reason:
                    self._finished = True
                chunks.append(chunk)
            if chunks:
                # Only events move the clock: a provider that sends nothing but comments is cut off too.
                due = self._loop.time() + self._between
                if due < self._deadline:
                    self._connection.expect_by(due, "between_tokens")
                else:
                    self._connection.expect_by(self._deadline, "total")
        return chunks

    def close(self) -> None:
        connection, self._connection = self._connection, _CLOSED
        connection.close()


class _Closed:
    """In place of a connection that has been given back."""

    headers: ClassVar[dict[bytes, bytes]] = {}

    async def segment(self) -> bytes:
        return b""

    def expect_by(self, deadline: float, timer: str) -> None:
        pass

    def close(self) -> None:
        pass


_CLOSED: Connection = _Closed()  # type: ignore[assignment]  # has all that an answer calls


class _ErrorFacts(msgspec.Struct):
    message: str = ""
    type: str | None = None
    param: str | None = None
    code: str | None = None


def _read_error(body: bytes, secrets: tuple[str, ...]) -> _ErrorFacts:
    """OpenAI's `{"error": {…}}`, vLLM's and others' bare or nested forms; anything else says nothing."""

    def told(words: str) -> str:
        for secret in secrets:
            words = words.replace(secret, "***")
        return words[:2000]

    try:
        said = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _ErrorFacts()
    if isinstance(said, list) and said:
        said = said[0]
    inner = said.get("error", said) if isinstance(said, dict) else None
    if isinstance(inner, str):
        return _ErrorFacts(message=told(inner))
    if not isinstance(inner, dict):
        return _ErrorFacts()

    def text(name: str) -> str | None:
        value = inner.get(name)
        return None if value is None or isinstance(value, (dict, list)) else told(str(value))

    return _ErrorFacts(text("message") or "", text("type"), text("param"), text("code"))


def _reported(payload: bytes, secrets: tuple[str, ...]) -> UpstreamError:
    """An error that a stream holds as an event. vLLM tells even some faults of the request so, under status 200."""
    said = _read_error(payload, secrets)
    if said.code in ("400", "404", "422"):
        kind = said.type or "invalid_request_error"
        return UpstreamRefused(said.message, status=int(said.code), type=kind, param=said.param, code=said.code)
    return UpstreamFailed("The provider reported an error in its stream.")


def _ms_as_seconds(value: bytes) -> str | None:
    try:
        return f"{max(0.0, float(value) / 1000):.3f}"
    except ValueError:
        return None


async def _whole(connection: Connection, limit: int) -> bytes:
    """The rest of an answer. Raises UpstreamFailed past `limit` bytes."""
    first = await connection.segment()
    second = await connection.segment() if first else b""
    if not second:
        return first
    parts = [first, second]
    size = len(first) + len(second)
    while part := await connection.segment():
        parts.append(part)
        size += len(part)
        if size > limit:
            raise UpstreamFailed("The provider's answer is too large.", code="upstream_bad_answer")
    return b"".join(parts)
