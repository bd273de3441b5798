"""A vendor with a wire format of its own, behind the seam of every provider: its dialect translates, this calls."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec

from gateway.errors import BadRequest, UpstreamFailed
from gateway.providers import shapes
from gateway.providers.answers import PlainAnswer, StreamedAnswer, whole
from gateway.providers.dialect import ByModel, signed_by
from gateway.providers.fan_out import fan_out
from gateway.providers.refusals import refusal, request_id

if TYPE_CHECKING:
    from gateway.chat import Request
    from gateway.config.providers import Timeouts
    from gateway.exchange import Exchange
    from gateway.providers.dialect import Asked, Dialect, Signer
    from gateway.providers.protocol import Chunks
    from gateway.providers.reply import Transport
    from gateway.values import Attempt, Target

# What says something about the call to the gateway or the vendor's bookkeeping, and nothing about the answer.
_HINTS = frozenset(
    {
        "model", "messages", "stream", "stream_options", "user", "metadata", "safety_identifier", "prompt_cache_key",
        "prompt_cache_retention", "store", "service_tier", "n",
    }
)  # fmt: skip
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "logit_bias": ({},),
    "parallel_tool_calls": (True,),
    "temperature": (1,),
    "top_p": (1,),
    "stop": ([],),
    "tools": ([],),
    "modalities": (["text"],),
    "tool_choice": ("auto",),
    "response_format": ({"type": "text"},),
    "verbosity": ("medium",),
    "encoding_format": ("float",),
}


class Translated:
    """One vendor, spoken to in its dialect."""

    def __init__(
        self,
        name: str,
        dialect: Dialect,
        upstream: Transport,
        timeouts: Timeouts,
        secrets: tuple[str, ...] = (),
        signer: Signer | None = None,
        *,
        drop: bool = False,
    ) -> None:
        """`name` is the provider's in the configuration, for messages; `drop`: leave out what the vendor lacks."""
        self._name = name
        self._dialect = dialect
        self._upstream = upstream
        self._timeouts = timeouts
        self._secrets = secrets
        self._signer = signer
        self._drop = drop
        self._by_model = dialect if isinstance(dialect, ByModel) else None
        self._fields = dialect.capabilities.fields
        self.endpoints = frozenset(self._fields)

    def unfit(self, request: Request) -> BadRequest | None:
        """Why this request can't go to this vendor, by its fields alone; None when it can."""
        lacking = self._lacking(request)
        if not lacking or self._drop:
            return None
        return self._lack(lacking[0])

    async def open(self, request: Request, target: Target, exchange: Exchange, deadline: float) -> Chunks:
        error = self.unfit(request)
        if error is not None:
            raise error
        lacking = self._lacking(request)
        asked = {name: msgspec.json.decode(value) for name, value in request.fields.items() if name not in lacking}
        asked["model"] = target.model
        if self._by_model is not None:
            for name in self._by_model.lacking(request.endpoint, asked, target.model):
                if not self._drop:
                    raise self._lack(name)
                del asked[name]
                lacking.append(name)
        for name in lacking:
            if name not in exchange.left_out:
                exchange.left_out.append(name)
        attempt = exchange.trying or exchange.attempt(target)
        count = asked.get("n") or 1
        if count > 1 and not self._dialect.capabilities.choices:
            asked["n"] = 1
            calls = [self._one(request, asked, attempt, exchange, deadline) for _ in range(count)]
            return await fan_out(calls, stream=request.stream)
        return await self._one(request, asked, attempt, exchange, deadline)

    async def aclose(self) -> None:
        await self._upstream.aclose()

    def _lack(self, name: str) -> BadRequest:
        return BadRequest(
            f"The target's provider '{self._name}' has no {name}: leave it out, or choose another model.",
            param=name,
            code="unsupported_parameter",
        )

    def _lacking(self, request: Request) -> list[str]:
        """The fields that the vendor has no counterpart for and that are not neutral."""
        known = self._fields[request.endpoint]
        return [
            name
            for name, raw in request.fields.items()
            if name not in known and name not in _HINTS and not _neutral(name, raw)
        ]

    async def _one(
        self, request: Request, asked: Asked, attempt: Attempt, exchange: Exchange, deadline: float
    ) -> PlainAnswer | StreamedAnswer:
        loop = asyncio.get_running_loop()
        timeouts, dialect, stream = self._timeouts, self._dialect, request.stream
        first = loop.time() + timeouts.first_token
        by, timer = (first, "first_token") if stream and first < deadline else (deadline, "total")
        outgoing = dialect.outgoing(request.endpoint, asked, attempt.target.model, stream=stream)
        headers = outgoing.headers
        if self._signer is not None:
            headers += await signed_by(self._signer, outgoing, by)
        lines = [exchange.trace_headers(attempt)]
        lines += [f"{name}: {value}\r\n" for name, value in headers]
        extra = "".join(lines).encode("latin-1")
        attempt.sent = self._upstream.origin, outgoing.path
        reply = await self._upstream.post(outgoing.path, extra, outgoing.body, by, timer)
        try:
            attempt.http_status = reply.status
            attempt.upstream_id = request_id(reply.headers)
            if reply.status != 200:
                raise await refusal(reply, dialect.read_error, self._secrets)
            if reply.headers.get(b"content-encoding", b"identity") != b"identity":
                raise UpstreamFailed("The provider compressed its answer unasked.", code="upstream_bad_answer")
            if not stream:
                plain = PlainAnswer(shapes.chunk(dialect.answer(request.endpoint, await whole(reply), asked)))
                reply.close()  # last of all: a connection that is given back twice would serve two calls at once
                return plain
            answer = StreamedAnswer(reply, dialect.decoder(asked), loop, timeouts.between_tokens, deadline)
            await answer.begin(dialect.stream_type)
            return answer
        except BaseException:
            reply.close()
            raise


def _neutral(name: str, raw: msgspec.Raw) -> bool:
    """Whether a field says no more than its absence would."""
    if raw == b"null":
        return True
    neutral = _NEUTRAL.get(name)
    return neutral is not None and msgspec.json.decode(raw) in neutral
