"""What a kept question and its answer are to a semantic cache, and the seam to where they are kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from gateway.cache.protocol import Kept, Purge

EVERYBODY = ""
"""The audience of an answer that was made of nothing but what everybody in the tenant may read."""


@dataclass(frozen=True, slots=True)
class Source:
    """A passage that an answer was made of. `cited`: its text names it."""

    collection: str
    document_id: str
    section_id: str
    version: str
    cited: bool = False


@dataclass(frozen=True, slots=True)
class Asked:
    """A question, and everything else that must be equal: `partition` is 64 hexadecimal digits, a filter and no text.

    `audience` are 32 such digits for this caller's user and groups.
    """

    question: str
    partition: str
    audience: str


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """An answer under the question that it was given to. `expires` is in seconds since the epoch.

    `audience` is who alone may have it, EVERYBODY in its partition or one `Asked.audience`; `key` names the exact
    request in hexadecimal digits: a second answer to the same request takes the place of the first.
    """

    key: str
    question: str
    partition: str
    audience: str
    sources: tuple[Source, ...]
    expires: float
    kept: Kept


@dataclass(frozen=True, slots=True)
class Alike:
    """A kept answer whose question is like another: `likeness` is the cosine of their vectors."""

    likeness: float
    answer: KeptAnswer


class Questions(Protocol):
    """Where questions are kept with their answers. Each method raises RetrievalUnavailable where that is away."""

    @property
    def full(self) -> bool:
        """Whether enough has been kept since it was last tidied that it should be tidied again."""

    async def alike(self, asked: Asked, vector: Sequence[float], least: float) -> list[Alike]:
        """The most alike in the same partition and for the same audience or everybody, from `least` on, best first."""

    async def keep(self, answer: KeptAnswer, vector: Sequence[float]) -> None: ...

    async def purge(self, what: Purge) -> int:
        """Let go of what fits, so that no later search finds it; how many went."""

    async def tidy(self) -> int:
        """Let go of what is past its time, and of the oldest beyond the bound; how many went."""

    async def size(self) -> int: ...
