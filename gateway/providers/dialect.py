"""What a vendor with a wire format of its own says of itself. A dialect is pure translation: no I/O, no clock.

It is given a request as OpenAI's API has it, decoded, and gives the vendor's; it is given the vendor's answer and
gives OpenAI's. `translated.Translated` does all the rest: calling, timeouts, what the vendor lacks, errors.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

from gateway.errors import UpstreamTimeout
from gateway.providers.answers import Decoder
from gateway.providers.refusals import Said

Asked = Mapping[str, Any]
"""A request's top-level fields, decoded. `messages` holds OpenAI's messages."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One HTTP POST in the vendor's format. `path` stands after the base URL, its query included."""

    path: bytes
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What the vendor's API has a counterpart for; docs/providers.md's table is made from it.

    `fields`: top-level fields of OpenAI's request that are translated, by endpoint. Any other that would change the
    answer is refused, or left out where the provider's configuration says `unsupported: drop`.
    `choices`: whether one call can give several (`n`); else the gateway makes `n` calls side by side.
    `images`, `tools`, `json_schema`, `reasoning`: for the table and for routing by capability.
    `notes`: one sentence for each thing that a reader of the table must know.
    """

    fields: Mapping[str, frozenset[str]]
    choices: bool = False
    images: bool = False
    tools: bool = False
    json_schema: bool = False
    reasoning: bool = False
    notes: tuple[str, ...] = ()


class Dialect(Protocol):
    """One vendor's wire format."""

    capabilities: ClassVar[Capabilities]
    stream_type: ClassVar[bytes]  # how the content-type of its streams begins

    def outgoing(self, endpoint: str, asked: Asked, model: str, *, stream: bool) -> Outgoing:
        """The vendor's request. Raises BadRequest, naming the `param`, for what the vendor can't take."""

    def answer(self, endpoint: str, body: bytes, asked: Asked) -> dict[str, Any]:
        """The vendor's whole answer in OpenAI's shape. Raises UpstreamError when it can't be read."""

    def decoder(self, asked: Asked) -> Decoder:
        """For one stream. Its chunks end with one that has `usage` and no choices, as `include_usage` asks."""

    def read_error(self, status: int, headers: Mapping[bytes, bytes], body: bytes) -> Said:
        """What an error answer says; nothing at all when it can't be read."""


@runtime_checkable
class ByModel(Protocol):
    """A dialect whose vendor's models differ in what they take."""

    def lacking(self, endpoint: str, asked: Asked, model: str) -> Sequence[str]:
        """The fields, of those that the vendor's API has a counterpart for, that this model does not take."""


class Signer(Protocol):
    """Credentials that are not a fixed header: tokens that expire, signatures over the request."""

    async def headers(self, outgoing: Outgoing) -> tuple[tuple[str, str], ...]:
        """The headers that prove who calls. Raises UpstreamError when no credential can be had."""


async def signed_by(signer: Signer, outgoing: Outgoing, deadline: float) -> tuple[tuple[str, str], ...]:
    """The signer's headers, by `deadline` (loop time). Raises UpstreamError."""
    try:
        async with asyncio.timeout_at(deadline):
            return await signer.headers(outgoing)
    except TimeoutError:
        raise UpstreamTimeout("No credential for the provider in time.", code="upstream_timeout_connect") from None
