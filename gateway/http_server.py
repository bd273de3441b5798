"""uvicorn, told to drain: readiness falls with the first signal, calls that run may finish.

It listens on an address of its own, or on sockets that the processes of a gateway share.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import uvicorn

from gateway.config.models import Configuration
from gateway.connection import Bounds, ClientConnection
from gateway.runtime import Gateway

log = logging.getLogger(__name__)

_BACKLOG = 4096
_LINGER = 5.0  # seconds in which clients with an idle connection learn by their next answer that it is the last
_LOOK = 0.1


class HttpServer(uvicorn.Server):
    """One process's server. `serve` runs it until it is asked to end."""

    def __init__(
        self,
        app: Any,
        configuration: Configuration,
        gateway: Gateway,
        host: str,
        port: int,
        shared: Mapping[int, Sequence[socket.socket]] | None = None,
    ) -> None:
        """With `shared`, the sockets of every worker by its number, nothing is listened on before `listen_on`."""
        settings = configuration.server
        bounds = Bounds(settings.header_timeout, settings.body_timeout, settings.keep_alive, settings.header_limit)
        super().__init__(
            uvicorn.Config(
                app,
                host=host,
                port=port,
                http=partial(ClientConnection, bounds),  # type: ignore[arg-type]  # a class of its own there
                interface="asgi3",
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=int(settings.keep_alive),
                timeout_graceful_shutdown=int(settings.grace),
                backlog=_BACKLOG,
            )
        )
        self._gateway = gateway
        self._shared = shared
        self._listening: dict[int, list[asyncio.AbstractServer]] = {}
        self.on_signal: Callable[[], None] = self.drain  # what SIGTERM and SIGINT mean

    # -- ending --------------------------------------------------------------------------------------------
    def drain(self, *, now: bool = False) -> None:
        """Begin no call; end when those that run have, or `now`."""
        self._gateway.draining = True
        self.should_exit = True
        self.force_exit = self.force_exit or now

    async def retire(self) -> None:
        """End as one of several workers, unnoticed: the others have taken over new connections, and whoever has one
        here is answered, and told that it is the last answer on it."""
        await self.listen_on(())
        last = (b"connection", b"close")
        self.config.encoded_headers.append(last)  # where uvicorn takes its default headers from, each second
        self.server_state.default_headers = [*self.server_state.default_headers, last]
        loop = asyncio.get_running_loop()
        end = loop.time() + _LINGER
        await asyncio.sleep(_LOOK)  # what was accepted just now is a connection then
        while self.server_state.connections and loop.time() < end:
            await asyncio.sleep(_LOOK)
        self.should_exit = True

    def handle_exit(self, sig: int, frame: Any) -> None:
        if sig == signal.SIGINT and self.should_exit:
            self.drain(now=True)
        else:
            self.on_signal()

    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        """As uvicorn's, but a signal that was answered by a clean end is not raised again."""
        handled = (signal.SIGINT, signal.SIGTERM)
        before = {sig: signal.signal(sig, self.handle_exit) for sig in handled}
        try:
            yield
        finally:
            for sig, handler in before.items():
                signal.signal(sig, handler)

    # -- listening -----------------------------------------------------------------------------------------
    async def startup(self, sockets: Any = None) -> None:
        if self._shared is not None:
            await super().startup([])
            return
        await super().startup(sockets)
        address = self.servers[0].sockets[0].getsockname()
        greet(self._gateway, address[0], address[1])

    async def listen_on(self, numbers: Sequence[int]) -> None:
        """Accept connections on the sockets of these workers, and of no others."""
        assert self._shared is not None
        for number in [number for number in self._listening if number not in numbers]:
            for server in self._listening.pop(number):
                server.close()
                self.servers.remove(server)  # type: ignore[arg-type]  # uvloop's is its own class
        loop = asyncio.get_running_loop()
        for number in numbers:
            if number in self._listening or self.should_exit:
                continue
            made = [
                await loop.create_server(self._connection, sock=one.dup(), backlog=_BACKLOG)
                for one in self._shared[number]
                if one.fileno() >= 0  # they are closed when this process drains
            ]
            self._listening[number] = list(made)
            self.servers += made

    def _connection(self) -> asyncio.Protocol:
        """As uvicorn makes it for the addresses that it listens on itself."""
        return self.config.http_protocol_class(  # type: ignore[call-arg]  # one of several classes there
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )


def greet(gateway: Gateway, host: str, port: int) -> None:
    """What to type next, on a terminal; one log line elsewhere."""
    url = f"http://{'[' + host + ']' if ':' in host else host}:{port}"
    names = list(gateway.revision.pipelines)
    log.info("listening on %s, %d public models", url, len(names))
    if sys.stderr.isatty():
        first = names[0] if names else "provider/model"
        page = f"  Chat in the browser: {url}/\n" if gateway.revision.configuration.page.enabled else ""
        print(
            f"\n  rag-gateway answers at {url}/v1   (documentation: {url}/docs)\n{page}\n"
            f'  .venv/bin/rag-gateway ask "How do I add a provider?"\n'
            f"  curl {url}/v1/chat/completions -H 'content-type: application/json' \\\n"
            f'    -d \'{{"model": "{first}", "messages": [{{"role": "user", "content": "What is a guardrail?"}}]}}\'\n\n'
            "  Ctrl-C ends it.\n",
            file=sys.stderr,
        )
