"""What FastAPI serves, for web pages: preflights, and what lets a page of another origin read an answer.

The hot paths do the same with the headers that they have read (gateway/api/front.py).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from gateway.access.browsers import CrossOrigin, Headers
from gateway.chat import JSON
from gateway.runtime import Gateway

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class ForBrowsers:
    """An application, as far as web pages may use it."""

    def __init__(self, app: App, gateway: Gateway) -> None:
        self._app = app
        self._gateway = gateway

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        revision, method = self._gateway.revision, scope["method"]
        headers = dict(scope["headers"])
        origin = headers.get(b"origin")
        try:
            if method == "OPTIONS" and origin is not None and b"access-control-request-method" in headers:
                await _answer(send, 204, revision.browsers.preflight(headers))
                return
            if revision.keyring.open:
                revision.browsers.refuse_strangers(headers, method)
        except CrossOrigin as refused:
            body = JSON.encode(refused.body())
            length = (b"content-length", b"%d" % len(body))
            await _answer(send, refused.status, [(b"content-type", b"application/json"), length], body)
            return
        if granted := revision.browsers.granted(origin):
            send = readable(send, granted)
        await self._app(scope, receive, send)


def readable(send: Send, granted: Headers) -> Send:
    """`send`, with what lets a page read the answer."""

    async def sending(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            # What a route says itself for all pages, as the widget's script does, stands.
            own = {name for name, _ in message.get("headers", ())}
            more = [line for line in granted if line[0] == b"vary" or line[0] not in own]
            message = {**message, "headers": [*message.get("headers", ()), *more]}
        await send(message)

    return sending


async def _answer(send: Send, status: int, headers: Headers, body: bytes = b"") -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
