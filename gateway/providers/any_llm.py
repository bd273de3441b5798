"""The long tail of vendors, through Mozilla's any-llm: https://docs.mozilla.ai/any-llm/

It answers in OpenAI's shapes, as objects of the `openai` SDK; each vendor's own SDK does the calling.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

import msgspec
from any_llm import AnyLLM
from any_llm.exceptions import (
    AnyLLMError,
    AuthenticationError,
    ContentFilterError,
    ContextLengthExceededError,
    InvalidRequestError,
    MissingApiKeyError,
    ModelNotFoundError,
    RateLimitError,
    UnsupportedParameterError,
)
from any_llm.providers.openai.base import BaseOpenAIProvider

from gateway.chat import Request
from gateway.chunks import Chunk, has_content
from gateway.errors import (
    BadRequest,
    CredentialRefused,
    GatewayError,
    UpstreamFailed,
    UpstreamLimited,
    UpstreamRefused,
    UpstreamTimeout,
)
from gateway.providers.answers import PlainAnswer
from gateway.providers.refusals import without

if TYPE_CHECKING:
    from gateway.config.providers import Timeouts
    from gateway.exchange import Exchange
    from gateway.providers.protocol import Chunks
    from gateway.values import Target

_OURS = frozenset({"model", "messages", "input", "stream", "stream_options"})
_REFUSED: dict[type[AnyLLMError], tuple[int, str]] = {
    InvalidRequestError: (400, "invalid_request_error"),
    ContextLengthExceededError: (400, "context_length_exceeded"),
    ContentFilterError: (400, "content_filter"),
    ModelNotFoundError: (404, "model_not_found"),
}


class AnyLlm:
    """One vendor that any-llm knows."""

    endpoints = frozenset({"chat.completions", "embeddings"})

    def __init__(
        self, vendor: str, api_key: str | None, base_url: str | None, timeouts: Timeouts, secrets: tuple[str, ...]
    ) -> None:
        """Raises ValueError for a vendor that any-llm does not know, or whose SDK is not installed."""
        given: dict[str, Any] = {"api_key": api_key, "api_base": base_url, "unified_exceptions": True}
        try:
            try:
                self._llm = AnyLLM.create(vendor, **given, max_retries=0)
            except UnsupportedParameterError:  # its SDK takes no such option
                self._llm = AnyLLM.create(vendor, **given)
        except (AnyLLMError, ImportError) as fault:
            raise ValueError(f"any-llm can't serve the vendor {vendor}: {fault}") from None
        self._timeouts = timeouts
        self._secrets = secrets
        self._tells_usage = True  # in streams, where it is asked to
        # OpenAI's SDK takes them, and whatever any-llm makes of it; of the other SDKs some do and some fail.
        self._takes_headers = isinstance(self._llm, BaseOpenAIProvider)

    def unfit(self, request: Request) -> BadRequest | None:
        return None

    async def open(self, request: Request, target: Target, exchange: Exchange, deadline: float) -> Chunks:
        loop = asyncio.get_running_loop()
        first = loop.time() + self._timeouts.first_token
        by, timer = (first, "first_token") if request.stream and first < deadline else (deadline, "total")
        asked = {name: msgspec.json.decode(raw) for name, raw in request.fields.items() if name not in _OURS}
        if self._takes_headers:
            asked["extra_headers"] = _trace(exchange, target)
        try:
            async with asyncio.timeout_at(by):
                if request.endpoint == "embeddings":
                    given = msgspec.json.decode(request.fields["input"])
                    told = await self._llm.aembedding(target.model, given, **asked)
                elif request.stream:
                    chunks = await self._stream(target.model, request.messages, asked)
                    answer = StreamedObjects(chunks, self._timeouts.between_tokens, deadline, self._error)
                    await answer.begin()
                    return answer
                else:
                    told = await self._llm.acompletion(model=target.model, messages=request.messages, **asked)
        except TimeoutError:
            raise UpstreamTimeout("The provider did not answer in time.", code=f"upstream_timeout_{timer}") from None
        except (GatewayError, asyncio.CancelledError):
            raise
        except Exception as failure:
            raise self._error(failure) from None
        return PlainAnswer(Chunk(told.model_dump_json(exclude_none=True).encode()))

    async def aclose(self) -> None:
        """Its SDKs close their connections when they are collected."""

    async def _stream(self, model: str, messages: list[dict[str, Any]], asked: dict[str, Any]) -> AsyncIterator[Any]:
        if self._tells_usage:
            try:
                return await self._llm.acompletion(  # type: ignore[no-any-return]  # any-llm is not seen by mypy
                    model=model, messages=messages, stream=True, stream_options={"include_usage": True}, **asked
                )
            except UnsupportedParameterError as fault:
                if fault.parameter_name != "stream_options":
                    raise
                self._tells_usage = False
        return await self._llm.acompletion(model=model, messages=messages, stream=True, **asked)  # type: ignore[no-any-return]

    def _error(self, failure: Exception) -> GatewayError:
        """One of our errors for any-llm's; its words are shown only where they concern the request."""
        if isinstance(failure, UnsupportedParameterError):
            name = failure.parameter_name
            return BadRequest(
                f"The target's vendor has no {name}: leave it out, or choose another model.",
                param=name,
                code="unsupported_parameter",
            )
        if isinstance(failure, RateLimitError):
            return UpstreamLimited(without(self._secrets, failure.message), retry_after=failure.retry_after)
        if isinstance(failure, AuthenticationError | MissingApiKeyError):
            return CredentialRefused("The provider refused the gateway's credentials or address.")
        if isinstance(failure, TypeError | NotImplementedError):
            return BadRequest("The target's vendor can't take this request.", code="unsupported_parameter")
        for kind, (status, code) in _REFUSED.items():
            if isinstance(failure, kind):
                return UpstreamRefused(
                    without(self._secrets, failure.message),
                    status=status,
                    type="invalid_request_error",
                    param=failure.param,
                    code=failure.code or code,
                )
        return UpstreamFailed("The provider failed.")


def _trace(exchange: Exchange, target: Target) -> dict[str, str]:
    """What the vendor is told of the trace, where its SDK can be given headers."""
    lines = exchange.trace_headers(exchange.trying or exchange.attempt(target)).splitlines()
    return dict(line.split(": ", 1) for line in lines)


class StreamedObjects:
    """A stream of the SDK's objects as chunks."""

    def __init__(
        self, objects: AsyncIterator[Any], between: float, deadline: float, error: Callable[[Exception], GatewayError]
    ) -> None:
        """`between`: seconds from one object to the next; `error` makes one of our errors of the SDK's."""
        self._objects = objects
        self._between = between
        self._deadline = deadline
        self._error = error
        self._held: list[Chunk] = []
        self._open: set[int] = set()
        self._begun = self._done = False
        self._closing: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        """Read up to the first content. Raises UpstreamError."""
        held: list[Chunk] = []
        try:
            while chunks := await self._read():
                held += chunks
                if any(has_content(chunk.facts) for chunk in chunks):
                    break
        except BaseException:
            self.close()
            raise
        self._held = held

    async def next(self) -> list[Chunk]:
        if self._held:
            held, self._held = self._held, []
            return held
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout_at(min(self._deadline, loop.time() + self._between)):
                return await self._read()
        except TimeoutError:
            raise UpstreamTimeout("The provider's stream stalled.", code="upstream_timeout_between_tokens") from None

    def close(self) -> None:
        self._done = True
        end = getattr(self._objects, "aclose", None)
        if end is not None and self._closing is None:
            self._closing = asyncio.ensure_future(end())

    async def _read(self) -> list[Chunk]:
        if self._done:
            return []
        try:
            told = await anext(self._objects)
        except StopAsyncIteration:
            self._done = True
            if self._open or not self._begun:
                raise UpstreamFailed("The provider's stream broke off.", code="upstream_disconnected") from None
            return []
        except (GatewayError, asyncio.CancelledError):
            raise
        except Exception as failure:
            raise self._error(failure) from None
        self._begun = True
        for choice in told.choices:
            (self._open.discard if choice.finish_reason else self._open.add)(choice.index)
        return [Chunk(told.model_dump_json(exclude_none=True).encode())]
