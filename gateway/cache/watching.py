"""An answer that passes while it is gathered: what a semantic cache in shadow mode compares a would-be hit with."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.chunks import Chunk
    from gateway.providers.protocol import Chunks

Told = Callable[[str], Awaitable[None]]


class Watched:
    """`told` gets the whole text of the first choice, before the end of the answer is passed on: so that what it finds
    is known when the call is settled. An answer that breaks off is told to nobody.
    """

    def __init__(self, chunks: Chunks, told: Told) -> None:
        self._chunks = chunks
        self._told: Told | None = told
        self._said: list[str] = []

    async def next(self) -> list[Chunk]:
        burst = await self._chunks.next()
        whole = False
        for chunk in burst:
            for choice in chunk.facts.choices or ():
                fragment = choice.message or choice.delta
                if choice.index == 0 and fragment is not None and fragment.content:
                    self._said.append(fragment.content)
                whole = whole or choice.message is not None
        told = self._told
        if told is not None and (whole or not burst):
            self._told = None
            await told("".join(self._said))
        return burst

    def close(self) -> None:
        self._told = None
        self._chunks.close()
