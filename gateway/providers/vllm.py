"""vLLM: OpenAI's API, and what only a server of one's own has: its load, and its process."""

from __future__ import annotations

import asyncio
import contextlib
import re
from typing import TYPE_CHECKING, Any, Protocol

from gateway.errors import Overloaded
from gateway.providers.openai_compatible import OpenAICompatible

if TYPE_CHECKING:
    from gateway.chat import Request
    from gateway.config.providers import Timeouts
    from gateway.exchange import Exchange
    from gateway.providers.answers import PlainAnswer, StreamedAnswer
    from gateway.providers.media import MediaHosts
    from gateway.providers.reply import Transport
    from gateway.providers.vllm_server import State
    from gateway.values import Target

# https://docs.vllm.ai/en/latest/usage/metrics/
_GAUGE = re.compile(rb"^vllm:num_requests_(?:running|waiting)(?:\{[^}]*\})? (\S+)$", re.MULTILINE)


class ModelServer(Protocol):
    """A server of the gateway's own, in this process or in the one that supervises it."""

    @property
    def state(self) -> State: ...

    @property
    def url(self) -> str: ...

    @property
    def key(self) -> str: ...

    async def run(self) -> None:
        """Keep it running, or in use, until cancelled."""


class Vllm(OpenAICompatible):
    """`load` is how many requests run or wait there, whoever sent them; None where nobody looks or it does not say."""

    def __init__(
        self,
        upstream: Transport,
        timeouts: Timeouts,
        secrets: tuple[str, ...],
        root: str,
        load_every: float,
        server: ModelServer | None = None,
        media: MediaHosts | None = None,
    ) -> None:
        """`root` is the server's address, without /v1; `load_every`: seconds from one look at its load to the next.
        `server`: the gateway's own, which runs from `start` on."""
        super().__init__(upstream, timeouts, secrets, media=media)
        self.endpoints -= {"moderations"}
        self.load: float | None = None
        self.watched = False  # whether some model goes by the load
        self._root = root
        self._load_every = load_every
        self._server = server
        self._tasks: dict[str, asyncio.Task[Any]] = {}

    @property
    def state(self) -> State | None:
        """Of the gateway's own server."""
        return None if self._server is None else self._server.state

    def start(self) -> None:
        """Begin what runs beside the calls, as far as it does not run yet. In the event loop."""
        if self._server is not None and "server" not in self._tasks:
            self._tasks["server"] = asyncio.ensure_future(self._server.run())
        if self.watched and "load" not in self._tasks:
            self._tasks["load"] = asyncio.ensure_future(self._watch())

    async def open(
        self, request: Request, target: Target, exchange: Exchange, deadline: float
    ) -> PlainAnswer | StreamedAnswer:
        if self._server is not None and self._server.state != "ok":
            raise Overloaded("The model is being loaded; try again shortly.", retry_after="15")
        return await super().open(request, target, exchange, deadline)

    async def aclose(self) -> None:
        """Let the calls that run come to their end, then end the server."""
        await super().aclose()
        if self._server is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._timeouts.total):
                    await self._upstream.drained()
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _watch(self) -> None:
        import httpx

        async with httpx.AsyncClient(trust_env=False, timeout=2.0) as client:
            while True:
                try:
                    answer = await client.get(self._root + "/metrics")
                    found = _GAUGE.findall(answer.content) if answer.status_code == 200 else []
                    self.load = sum(map(float, found)) if found else None
                except (httpx.HTTPError, ValueError):
                    self.load = None
                await asyncio.sleep(self._load_every)
