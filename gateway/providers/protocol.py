"""The seam to every provider: a request goes in, an answer of chunks comes out."""

from __future__ import annotations

from typing import Literal, Protocol, runtime_checkable

from gateway.chat import Request
from gateway.chunks import Chunk
from gateway.errors import BadRequest
from gateway.exchange import Exchange
from gateway.values import Target


class Chunks(Protocol):
    """An answer on its way. Stages wrap it in another of the same kind.

    Pulled, never pushed: a slow reader slows the provider. Not an async generator, because a generator that
    was never started is never cleaned up, while `close` always works and takes effect at once.
    """

    async def next(self) -> list[Chunk]:
        """The chunks that have come since; an empty list at the end. Raises UpstreamError."""

    def close(self) -> None:
        """Let go of what feeds this answer: an unfinished upstream call is cut off. Safe to call twice."""


class Provider(Protocol):
    """One vendor: its wire format, its errors. A leaf; it knows no other stage."""

    endpoints: frozenset[str]

    def unfit(self, request: Request) -> BadRequest | None:
        """Why `request` can't go to this provider, by its form alone; None when it can."""

    async def open(self, request: Request, target: Target, exchange: Exchange, deadline: float) -> Chunks:
        """Send `request` to `target` and wait for the first content of its answer.

        `deadline` is loop time; the whole answer must have come by then. Raises UpstreamError, after which
        nothing of this attempt is left open.
        """

    async def aclose(self) -> None:
        """Drop idle connections."""


@runtime_checkable
class Attended(Protocol):
    """A provider with something that runs beside its calls, until `aclose`: its own server, a look at its load."""

    load: float | None  # how many calls it has, from whomever; None where that is not known
    watched: bool  # set where some model goes by `load`

    @property
    def state(self) -> Literal["loading", "ok", "unavailable"] | None:
        """Of a server of its own; None where it has none."""

    def start(self) -> None:
        """Begin what does not run yet. In the event loop."""
