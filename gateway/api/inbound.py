"""The seam for APIs other than OpenAI's chat: another shape of request in, the same journey, another shape out.

The hot paths of OpenAI's own API have no such shape: what a provider says is what they write.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from gateway.chat import Request
from gateway.chunks import Chunk
from gateway.errors import GatewayError
from gateway.exchange import Exchange


class Told(Protocol):
    """One call's answer in an inbound API's shape. `request` is what goes through the pipeline."""

    @property
    def request(self) -> Request: ...

    async def begin(self, exchange: Exchange) -> None:
        """Called once the caller is known, before `request` is answered: where it continues something that was kept.

        Raises GatewayError.
        """

    async def whole(self, chunk: Chunk, exchange: Exchange) -> bytes:
        """The body of a plain answer. Raises GatewayError."""

    def events(self, chunks: Sequence[Chunk], exchange: Exchange) -> bytes:
        """The stream's next bytes, framed; b"" where `chunks` say nothing in this API."""

    async def end(self, exchange: Exchange) -> bytes:
        """The last bytes of a stream that has come whole."""

    def broken(self, error: GatewayError) -> bytes:
        """The last bytes of a stream that breaks off: an error event, and nothing that would make it look whole."""


class Inbound(Protocol):
    """One API. `endpoint` names it in records and metrics."""

    @property
    def endpoint(self) -> str: ...

    def open(self, body: bytes) -> Told:
        """Read a request. Raises BadRequest naming the field at fault."""

    def refusal(self, error: GatewayError) -> bytes:
        """The body of an error's answer."""
