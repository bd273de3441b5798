"""Any server that speaks OpenAI's API: OpenAI itself, vLLM, and every vendor's compatible endpoint.

What goes out is the caller's request with the target's model name; what comes back is relayed to the byte.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

import msgspec
from mypy_extensions import mypyc_attr

from gateway.chat import Request
from gateway.chunks import Chunk
from gateway.errors import BadRequest, UpstreamError, UpstreamFailed, UpstreamRefused
from gateway.providers.answers import PlainAnswer, StreamedAnswer, whole
from gateway.providers.dialect import Outgoing, Signer, signed_by
from gateway.providers.refusals import Said, refusal, request_id, without
from gateway.providers.reply import Transport
from gateway.providers.sse import SseReader

if TYPE_CHECKING:
    from gateway.config.providers import Timeouts
    from gateway.exchange import Exchange
    from gateway.providers.media import MediaHosts
    from gateway.values import Target

_DONE: Final = b"[DONE]"
_ENDPOINTS: Final = frozenset({"chat.completions", "embeddings", "rerank", "moderations"})


@mypyc_attr(allow_interpreted_subclasses=True)
class OpenAICompatible:
    def __init__(
        self,
        upstream: Transport,
        timeouts: Timeouts,
        secrets: tuple[str, ...] = (),
        path: Callable[[bytes, str], bytes] | None = None,
        signer: Signer | None = None,
        media: MediaHosts | None = None,
    ) -> None:
        """`secrets` are cut out of whatever text of the provider's reaches a caller.

        `path`: an endpoint's path and the model's name to the path that this server has for them, where it is not
        OpenAI's. `signer`: credentials that are not a fixed header. `media`: where a
        server in our own network may fetch from.
        """
        self.endpoints = _ENDPOINTS
        self._upstream = upstream
        self._timeouts = timeouts
        self._secrets = secrets
        self._path = path
        self._signer = signer
        self._media = media

    def unfit(self, request: Request) -> BadRequest | None:
        return None

    async def open(
        self, request: Request, target: Target, exchange: Exchange, deadline: float
    ) -> PlainAnswer | StreamedAnswer:
        if self._media is not None:
            self._media.check(request)
        timeouts = self._timeouts
        body = request.body_for(target.model)
        attempt = exchange.trying or exchange.attempt(target)
        extra = f"{exchange.trace_headers(attempt)}x-request-id: {exchange.request_id}\r\n".encode("ascii")
        first = time.monotonic() + timeouts.first_token
        by, timer = (first, "first_token") if request.stream and first < deadline else (deadline, "total")
        path = request.path if self._path is None else self._path(request.path, target.model)
        if self._signer is not None:
            signed = await signed_by(self._signer, Outgoing(path, body), by)
            extra += "".join([f"{name}: {value}\r\n" for name, value in signed]).encode("latin-1")
        attempt.sent = self._upstream.origin, path
        reply = await self._upstream.post(path, extra, body, by, timer)
        try:
            attempt.http_status = reply.status
            attempt.upstream_id = request_id(reply.headers)
            if reply.status != 200:
                raise await refusal(reply, read_error, self._secrets)
            if reply.headers.get(b"content-encoding", b"identity") != b"identity":
                raise UpstreamFailed("The provider compressed its answer unasked.", code="upstream_bad_answer")
            if not request.stream:
                plain = PlainAnswer(Chunk(await whole(reply)))
                reply.close()
                return plain
            decoder = OpenAIDecoder(self._secrets)
            loop = asyncio.get_running_loop()
            answer = StreamedAnswer(reply, decoder, loop, timeouts.between_tokens, deadline)
            await answer.begin(b"text/event-stream")
            return answer
        except BaseException:
            reply.close()
            raise

    async def aclose(self) -> None:
        await self._upstream.aclose()


class OpenAIDecoder:
    """Server-sent events whose payloads are chunks already: relayed to the byte, ended by `[DONE]`."""

    __slots__ = ("_finished", "_reader", "_secrets", "done")

    def __init__(self, secrets: tuple[str, ...] = ()) -> None:
        self._reader = SseReader()
        self._secrets = secrets
        self._finished = False
        self.done = False

    @property
    def may_end(self) -> bool:
        return self._finished and not self._reader.inside_event

    def feed(self, segment: bytes) -> list[Chunk]:
        chunks: list[Chunk] = []
        for payload in self._reader.feed(segment):
            if payload == _DONE:
                self.done = True
                break
            chunk = Chunk(payload)
            facts = chunk.facts
            if facts.error is not None:
                raise _reported(payload, self._secrets)
            if facts.choices and facts.choices[0].finish_reason:
                self._finished = True
            chunks.append(chunk)
        return chunks


def read_error(status: int, headers: Mapping[bytes, bytes], body: bytes) -> Said:
    """OpenAI's `{"error": {…}}`, vLLM's and others' bare or nested forms; anything else says nothing."""
    try:
        said = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Said()
    if isinstance(said, list) and said:
        said = said[0]
    inner = said.get("error", said) if isinstance(said, dict) else None
    if isinstance(inner, str):
        return Said(inner)
    if not isinstance(inner, dict):
        return Said()

    def text(name: str) -> str | None:
        value = inner.get(name)
        return None if value is None or isinstance(value, (dict, list)) else str(value)

    return Said(text("message") or "", text("type"), text("param"), text("code"))


def _reported(payload: bytes, secrets: tuple[str, ...]) -> UpstreamError:
    """An error that a stream holds as an event. vLLM tells even some faults of the request so, under status 200."""
    said = read_error(200, {}, payload)
    if said.code in ("400", "404", "422"):
        kind = said.type or "invalid_request_error"
        message = without(secrets, said.message)
        return UpstreamRefused(message, status=int(said.code), type=kind, param=said.param, code=said.code)
    return UpstreamFailed("The provider reported an error in its stream.")
