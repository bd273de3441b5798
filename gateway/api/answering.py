"""Answers and errors onto the wire: one writer for plain answers, one for streams, one for errors."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from functools import lru_cache
from typing import Any, Final
from urllib.parse import quote

from gateway.api.errors import error_headers
from gateway.api.inbound import Inbound, Told
from gateway.api.tool_calls import gathered
from gateway.chat import JSON, Request
from gateway.chunks import Chunk, Fragment, read_usage
from gateway.errors import GatewayError, TooLarge
from gateway.exchange import Exchange
from gateway.providers.protocol import Chunks
from gateway.values import Usage

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

_JSON: Final = (b"content-type", b"application/json")
_SSE: Final[Headers] = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),  # nginx would gather the stream otherwise
]
_DONE: Final = b"data: [DONE]\n\n"


async def write_plain(chunks: Chunks, exchange: Exchange, send: Send, told: Told | None = None) -> None:
    """A whole answer: its one chunk, with its length known; in the shape of `told` where it has another."""
    (chunk,) = await chunks.next()
    _take_facts(chunk, exchange)
    exchange.first_chunk = time.perf_counter_ns()
    body = chunk.data
    if told is not None:
        body = await told.whole(chunk, exchange)
    exchange.status = 200
    headers = _common(exchange)
    headers += (_JSON, (b"content-length", b"%d" % len(body)))
    if exchange.account is not None and exchange.account.recorded is not None:
        try:
            await exchange.account.recorded(exchange)
        except GatewayError:
            exchange.status = 0  # nothing has been sent: the status can still be true
            raise
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def write_stream(
    chunks: Chunks, request: Request, exchange: Exchange, send: Send, told: Told | None = None
) -> None:
    """A stream, event by event as it comes. The first chunks are awaited before the status is sent."""
    burst = await chunks.next()
    exchange.first_chunk = time.perf_counter_ns()
    headers = _common(exchange)
    headers += _SSE
    exchange.status = 200
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    said: list[str] = []
    generated = [0, 0]
    called: list[tuple[int, Any]] | None = [] if exchange.keep_content else None
    keep_usage = request.include_usage
    try:
        while burst:
            events: list[bytes] = []
            for chunk in burst:
                facts = chunk.facts
                _take_facts(chunk, exchange)
                for choice in facts.choices or ():
                    if choice.delta is not None:
                        _hear(choice.delta, said, generated)
                        if called is not None and choice.delta.tool_calls:
                            called.append((choice.index, choice.delta.tool_calls))
                if not keep_usage and facts.usage is not None and not facts.choices:
                    continue  # asked for by the gateway, not by the caller
                events += (b"data: ", chunk.data, b"\n\n")
            body = b"".join(events) if told is None else told.events(burst, exchange)
            if body:
                await send({"type": "http.response.body", "body": body, "more_body": True})
            burst = await chunks.next()
        last = _DONE if told is None else await told.end(exchange)
        if exchange.account is not None and exchange.account.recorded is not None:
            _take_said(said, generated, called, request, exchange)
            await exchange.account.recorded(exchange)
        await send({"type": "http.response.body", "body": last})
    finally:
        if not exchange.ended:  # what has been settled may have been masked since
            _take_said(said, generated, called, request, exchange)


async def write_error(
    error: GatewayError,
    exchange: Exchange,
    send: Send,
    inbound: Inbound | None = None,
    told: Told | None = None,
    *,
    started: bool,
) -> None:
    """An error with its status; or, where the answer had begun, as the last event of its stream.

    Such a stream has no [DONE] and no finish_reason, so nobody takes it for whole.
    """
    exchange.outcome = "error" if error.code != "content_filter" else "blocked"
    exchange.error_code = error.code or error.type
    exchange.error_message = error.recorded(exchange.record_content)
    body = JSON.encode(error.body()) if inbound is None else inbound.refusal(error)
    if not started:
        exchange.status = error.status
    if not exchange.ended and exchange.account is not None and exchange.account.recorded is not None:
        with suppress(GatewayError):  # which error the caller is told of matters little: it is no answer
            await exchange.account.recorded(exchange)
    if started:
        last = b"data: " + body + b"\n\n" if told is None else told.broken(error)
        await send({"type": "http.response.body", "body": last})
        return
    headers = _common(exchange)
    headers += (_JSON, (b"content-length", b"%d" % len(body)))
    headers += error_headers(error)
    if isinstance(error, TooLarge) or error.status == 401:
        headers.append((b"connection", b"close"))  # the body was not read; the connection can't go on
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _common(exchange: Exchange) -> Headers:
    """The headers that every answer of the hot paths carries."""
    timing = "".join([f"{name};dur={_ms(end - begin)}, " for name, begin, end in exchange.stages])
    headers: Headers = [
        (b"x-request-id", exchange.request_id.encode("ascii")),
        (b"x-gateway-call-id", exchange.call_id.encode("ascii")),
        (b"x-gateway-cache", exchange.cache.encode("ascii")),
        (b"server-timing", f"{timing}total;dur={_ms(time.perf_counter_ns() - exchange.started)}".encode("ascii")),
    ]
    if exchange.cache_age is not None:
        headers.append((b"age", b"%d" % exchange.cache_age))  # RFC 9111, section 5.1
    if exchange.target is not None:
        headers.append((b"x-gateway-target", _header_value(exchange.target.label)))
    if exchange.arm is not None:
        headers.append((b"x-gateway-arm", _header_value(exchange.arm)))
    if exchange.left_out:
        headers.append((b"x-gateway-left-out", _header_value(", ".join(exchange.left_out))))
    if exchange.permit is not None:
        headers += exchange.permit.headers()
    if exchange.degraded:
        headers.append((b"x-gateway-degraded", ", ".join(exchange.degraded).encode("ascii")))
    return headers


# Formatting a float takes longer than all else.
_SHORT: Final = [f"{hundredths / 100:.2f}" for hundredths in range(1_000)]


def _ms(ns: int) -> str:
    """Milliseconds, with two decimals."""
    hundredths = (ns + 5_000) // 10_000
    return _SHORT[hundredths] if hundredths < 1_000 else f"{ns / 1e6:.2f}"


@lru_cache(maxsize=1_000)  # a target's name goes out with every call
def _header_value(text: str) -> bytes:
    """A caller may have chosen this text: whatever could end a header line is percent-encoded."""
    return (text if text.isascii() and text.isprintable() else quote(text, safe="/:@ ", errors="replace")).encode(
        "ascii"
    )


def _hear(delta: Fragment, said: list[str], generated: list[int]) -> None:
    """Note what a piece of a stream says: its words, and of all that was generated how many pieces and characters."""
    if delta.content:
        said.append(delta.content)
        generated[0] += 1
        generated[1] += len(delta.content)
    elif delta.tool_calls or delta.reasoning_content or delta.refusal:
        generated[0] += 1
        generated[1] += len(delta.reasoning_content or delta.refusal or "")
        for call in delta.tool_calls if isinstance(delta.tool_calls, list) else ():
            function = call.get("function") if isinstance(call, dict) else None
            arguments = function.get("arguments") if isinstance(function, dict) else None
            generated[1] += len(arguments) if isinstance(arguments, str) else 0


def _take_said(
    said: list[str], generated: list[int], called: list[tuple[int, Any]] | None, request: Request, exchange: Exchange
) -> None:
    """Note in the account what a stream has said, at its end or where it was cut."""
    exchange.output_chunks = generated[0]
    if exchange.keep_content:
        exchange.answer_text = "".join(said)
        if called:
            exchange.answer_calls = gathered(called)
    if exchange.usage is None:
        # Cut off before the provider told: a piece of a stream is a token, or where vendors send larger ones each
        # four characters are, near enough to be accounted.
        pieces, characters = generated
        asked = sum(len(memoryview(request.fields[name])) for name in ("messages", "tools") if name in request.fields)
        exchange.usage = Usage(asked // 4, max(pieces, characters // 4), estimated=True)


def _take_facts(chunk: Chunk, exchange: Exchange) -> None:
    """Note in the account what a chunk says of the answer."""
    facts = chunk.facts
    if facts.id is not None:
        exchange.answer_id = facts.id
    if facts.model is not None:
        exchange.served_model = facts.model
    if facts.choices:
        choice = facts.choices[0]
        if choice.finish_reason:
            exchange.finish_reason = choice.finish_reason
        if exchange.keep_content and choice.message is not None:
            exchange.answer_text = choice.message.content
            if choice.message.tool_calls:
                exchange.answer_calls = gathered([(choice.index, choice.message.tool_calls)])
    if facts.usage is not None:
        exchange.usage = read_usage(facts) or exchange.usage
