"""The hot paths, as plain ASGI: from a request's bytes to the last byte of its answer.

They stand before FastAPI, which serves everything else. One function per request, one account, settled once,
however the call ends: answered, refused, cut off by the client, or failed half-way.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import replace
from typing import Any, Final

from gateway.access.roles import require_endpoint, require_role
from gateway.api.answering import write_error, write_plain, write_stream
from gateway.api.cors import readable
from gateway.api.errors import internal
from gateway.api.headers import credential, read_headers
from gateway.api.inbound import Inbound, Told
from gateway.cache.wishes import wish
from gateway.chat import JSON, ChatRequest, EmbeddingsRequest, ModerationsRequest, Request, RerankRequest
from gateway.errors import BadRequest, GatewayError, Overloaded, TooLarge
from gateway.exchange import Exchange
from gateway.front_ends.dialects import dialect
from gateway.records.journal import NO_ROOM
from gateway.runtime import Gateway
from gateway.telemetry.running import RUNNING
from gateway.values import CacheWish

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_SANE_ID: Final = re.compile(rb"[A-Za-z0-9._:-]{1,128}").fullmatch
# A version to come may say more behind these: https://www.w3.org/TR/trace-context/#versioning-of-traceparent
_TRACEPARENT: Final = re.compile(rb"(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?").fullmatch
_TRACESTATE: Final = re.compile(rb"[\x20-\x7e]{1,512}").fullmatch
_REFUSALS_A_SECOND: Final = 1_000  # by a gateway that has server.max_in_flight calls: some four hundredths of a core

_ROUTES: Final[dict[str, type[Request]]] = {
    "/v1/chat/completions": ChatRequest,
    "/v1/embeddings": EmbeddingsRequest,
    "/v1/rerank": RerankRequest,
    "/v1/moderations": ModerationsRequest,
}


class ClientGone(Exception):
    """The client closed its connection before its request had come whole."""


class Front:
    """The whole application: hot paths here, the rest in `app`."""

    def __init__(self, app: App, gateway: Gateway, inbound: Mapping[str, Inbound]) -> None:
        """`inbound`: the APIs other than OpenAI's chat and embeddings, by path."""
        self._app = app
        self._gateway = gateway
        self._doors: dict[str, type[Request] | Inbound] = {**_ROUTES, **inbound}
        self._next_refusal = 0.0  # loop time
        full = Overloaded("This gateway has more calls than it can take. Try again shortly.", retry_after="1")
        self._no_room: dict[str, bytes] = {
            door.endpoint: JSON.encode(full.body()) if isinstance(door, type) else door.refusal(full)
            for door in self._doors.values()
        }

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        door = self._doors.get(scope["path"]) if scope["type"] == "http" else None
        if door is None or scope["method"] != "POST":
            return self._app(scope, receive, send)
        if self._gateway.metrics.running >= self._gateway.max_in_flight:
            return self._turn_away(door, scope, receive, send)
        return self._call(door, scope, receive, send)

    async def _turn_away(self, door: type[Request] | Inbound, scope: Scope, receive: Receive, send: Send) -> None:
        """Where too many calls run already: an answer that costs little, and no record.

        It costs a third of a call all the same, and there are clients that come back at once. So that these do not
        take the core from the calls that run, only so many are told in a second; the others hear of it later, or are
        served after all, where there is room by then.
        """
        gateway, loop, connection = self._gateway, asyncio.get_running_loop(), scope.get("connection")
        now = loop.time()
        self._next_refusal = max(now, self._next_refusal + 1 / _REFUSALS_A_SECOND)
        if self._next_refusal > now:
            await asyncio.sleep(self._next_refusal - now)
            if connection is not None and connection.disconnected:
                return
            if gateway.metrics.running < gateway.max_in_flight:
                await self._call(door, scope, receive, send)
                return
        gateway.metrics.turned_away += 1
        body = self._no_room[door.endpoint]
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        headers += (
            (b"retry-after", b"1"),
            *[(n, v) for n, v in scope["headers"] if n == b"x-request-id" and _SANE_ID(v)],
            *gateway.revision.browsers.granted(dict(scope["headers"]).get(b"origin")),
        )
        await send({"type": "http.response.start", "status": 503, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _call(self, door: type[Request] | Inbound, scope: Scope, receive: Receive, send: Send) -> None:
        gateway = self._gateway
        exchange = Exchange(door.endpoint)
        inbound = None if isinstance(door, type) else door
        told: Told | None = None
        exchange.account = gateway
        gateway.begin(exchange)
        connection = scope.get("connection")
        if connection is not None:
            connection.on_disconnect = scope["task"].cancel
        failed: GatewayError | None = None
        try:
            try:
                headers = read_headers(scope["headers"], gateway.revision.user_header)
                _read_known(headers, exchange)
                if b"origin" in headers or b"sec-fetch-site" in headers:  # a web page, not a program
                    send = _for_page(headers, gateway, send)
                RUNNING.set((exchange.trace_id, exchange.span_id, exchange.call_id))
                if gateway.draining:
                    raise Overloaded("This gateway is shutting down; another one takes over.", retry_after="1")
                if gateway.journal.full:
                    raise Overloaded(NO_ROOM, retry_after="5")
                revision = gateway.revision  # the one that this call begins and ends with
                exchange.revision = revision.name
                given, keyring = credential(headers), revision.keyring
                caller = keyring.known(given, scope) or await keyring.look_up(given, scope)
                exchange.caller = caller
                exchange.stage("authenticate", exchange.started)
                if caller.endpoints is not None:
                    require_endpoint(caller, door.endpoint)
                if scope["query_string"]:
                    _check_query(scope["query_string"])
                body = await _read_body(headers, receive, gateway.body_limit)
                if inbound is None:
                    request: Request = door(body)  # type: ignore[operator]  # it is a type
                    if caller.front_end is not None:
                        told = dialect(caller.front_end, request, scope["headers"], exchange)
                else:
                    told = inbound.open(body)
                    request = told.request
                exchange.requested_model = request.model
                exchange.stream = request.stream
                exchange.caller = keyring.speaking_for(caller, revision.claimed_user(request, headers))
                pipeline = revision.pipeline(request.model, exchange.caller)
                if exchange.wanted is not None:
                    _check_tester(exchange)
                if exchange.side_call is not None:
                    about = revision.pipeline(exchange.side_call.model, exchange.caller)
                    if about.features is not None:
                        about.features.stand_beside(exchange)
                    pipeline = pipeline.bare()
                exchange.model = pipeline.model
                if pipeline.features is not None and pipeline.features.headers:
                    exchange.headers = {name: headers[name] for name in pipeline.features.headers if name in headers}
                gateway.sample(request, exchange)
                if told is not None:
                    await told.begin(exchange)
                    request = told.request
                if (limits := revision.limits) is not None and (limits.rules or exchange.caller.limits):
                    await limits.admit(request, exchange)
                chunks = await pipeline.answer(request, exchange)
                try:
                    if request.stream:
                        await write_stream(chunks, request, exchange, send, told)
                    else:
                        await write_plain(chunks, exchange, send, told)
                finally:
                    chunks.close()
            except GatewayError as error:
                failed = error
            except (asyncio.CancelledError, ClientGone):
                exchange.outcome = "cancelled"
                exchange.status = exchange.status or 499
                if connection is None or not connection.disconnected:
                    raise  # not the client but the server ends this call
            except Exception as failure:
                failed = internal(failure)
            if failed is not None:
                await write_error(failed, exchange, send, inbound, told, started=exchange.status != 0)
        finally:
            failed = None  # it holds this frame by its traceback, and all that the call has read
            if connection is not None:
                connection.on_disconnect = None
            exchange.settle()


def _read_known(headers: dict[bytes, bytes], exchange: Exchange) -> None:
    request_id = headers.get(b"x-request-id")
    if request_id is not None and _SANE_ID(request_id):
        exchange.request_id = request_id.decode("ascii")
    traceparent = headers.get(b"traceparent")
    if (
        traceparent is not None
        and (parent := _TRACEPARENT(traceparent))
        and (len(traceparent) == 55 or traceparent[:2] != b"00")
        and parent[1].strip(b"0")
        and parent[2].strip(b"0")
    ):
        exchange.trace_id, exchange.trace_parent, exchange.trace_flags = (part.decode() for part in parent.groups())
        # Several lines become one, and an empty one's end would be a blank that no header may end with.
        if (state := headers.get(b"tracestate")) is not None and _TRACESTATE(state := state.strip()):
            exchange.trace_state = state.decode("ascii")
    cache_control, own = headers.get(b"cache-control"), headers.get(b"x-gateway-cache")
    if cache_control is not None or own is not None:
        exchange.cache_wish = wish(cache_control, own)
    wanted = headers.get(b"x-gateway-use-target")
    if wanted is not None:
        exchange.wanted = wanted.decode("latin-1")


def _for_page(headers: dict[bytes, bytes], gateway: Gateway, send: Send) -> Send:
    """What to answer with, so that the page may read it where it may. Raises CrossOrigin."""
    revision = gateway.revision
    granted = revision.browsers.granted(headers.get(b"origin"))
    if revision.keyring.open:
        revision.browsers.refuse_strangers(headers, "POST")
    return readable(send, granted) if granted else send


def _check_tester(exchange: Exchange) -> None:
    """A call that names its target: of a tester, past the cache, whose answers come from whichever target. Raises
    Forbidden."""
    assert exchange.caller is not None
    require_role(exchange.caller, "operator", everywhere=False)
    exchange.cache_wish = replace(exchange.cache_wish or CacheWish(), look_up=False, keep=False)


def _check_query(query: bytes) -> None:
    for name in (b"api_base", b"base_url", b"api_key"):
        if name in query.lower():
            raise BadRequest(f"{name.decode()} can't be set by a request.", param=name.decode())


async def _read_body(headers: dict[bytes, bytes], receive: Receive, limit: int) -> bytes:
    """The request's body. Raises TooLarge, by its announced length before any of it is read."""
    announced = headers.get(b"content-length")
    if announced is not None and int(announced) > limit:
        raise TooLarge(f"The request body is larger than {limit} bytes.")
    message = await receive()
    if message["type"] == "http.request" and not message["more_body"]:
        if len(message["body"]) > limit:
            raise TooLarge(f"The request body is larger than {limit} bytes.")
        return message["body"]  # type: ignore[no-any-return]  # bytes, by the ASGI specification
    parts = []
    size = 0
    while True:
        if message["type"] == "http.disconnect":
            raise ClientGone
        parts.append(message["body"])
        size += len(message["body"])
        if size > limit:
            raise TooLarge(f"The request body is larger than {limit} bytes.")
        if not message["more_body"]:
            return b"".join(parts)
        message = await receive()
