"""The seams of the cache: what is kept, where it is kept, and what finds an answer by its meaning."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from gateway.chat import Request
    from gateway.chunks import Chunk
    from gateway.exchange import Exchange
    from gateway.providers.protocol import Chunks
    from gateway.values import Target


class CacheUnavailable(Exception):
    """Whatever keeps the answers is away."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Whose answer it is and what it was made of: by these it is purged."""

    model: str
    tenant: str
    user: str | None = None
    collections: frozenset[str] = frozenset()
    documents: frozenset[str] = frozenset()


_NOBODYS = Origin("", "")


@dataclass(slots=True)
class Kept:
    """An answer that was kept. `completion` is whole, as its first caller got it: screened, with its sources.

    `made_at` is in seconds since the epoch; `fresh` the seconds from then on for which it may be given without
    asking anew. `sensitivity` is the label that its call went by.
    """

    completion: Chunk
    served_by: Target | None
    made_at: float
    fresh: float = 0.0
    sensitivity: str | None = None
    origin: Origin = _NOBODYS
    split: list[Chunk] | None = field(default=None, compare=False)  # as a stream, once that was asked for


@dataclass(frozen=True, slots=True)
class Purge:
    """Which answers are to go: those that fit all of what is said here. With nothing said, all of them."""

    key: bytes | None = None
    model: str | None = None
    tenant: str | None = None
    user: str | None = None
    collection: str | None = None
    document: str | None = None

    def fits(self, origin: Origin) -> bool:
        """Whether an answer of this origin is meant; `key` is not looked at."""
        return (
            (self.model is None or self.model == origin.model)
            and (self.tenant is None or self.tenant == origin.tenant)
            and (self.user is None or self.user == origin.user)
            and (self.collection is None or self.collection in origin.collections)
            and (self.document is None or self.document in origin.documents)
        )


class Lead(Protocol):
    """Leave to make the answer of one key. `sole`: whoever else asks for it waits for this one meanwhile."""

    sole: bool

    async def keep(self, kept: Kept, life: float) -> bool:
        """Keep it for `life` seconds; False where it was purged while it was made, or is too large.

        Raises CacheUnavailable.
        """

    async def purged(self) -> bool:
        """Whether there was a purge since it was given: what is kept elsewhere too may have been meant.

        Raises CacheUnavailable.
        """

    def end(self, *, unshared: bool) -> None:
        """Let nobody wait any longer. `unshared`: what came can't be kept, so each of those makes its own.

        Never raises, never waits; safe to call twice.
        """


class Entries(Protocol):
    """Exact answers by their keys: 32 bytes that nobody can choose.

    All of its coroutines raise CacheUnavailable where the entries are somewhere that is away.
    """

    async def find(self, key: bytes) -> Kept | None:
        """What is kept under this key, fresh or stale."""

    async def lead(self, key: bytes, patience: float, after: float) -> Kept | Lead:
        """Leave to make this answer; or the answer, where somebody else has made it while this call waited.

        Waits for as long as somebody makes it, at most `patience` seconds; then everybody may. `after` (seconds since
        the epoch): what was made before is not the answer that is asked for.
        """

    async def forget(self, key: bytes) -> None:
        """Let go of one answer."""

    async def purge(self, what: Purge) -> int:
        """Let go of what fits, also of what is being made just now; how many answers went."""


class Semantic(Protocol):
    """Answers to questions that mean the same, of one pipeline."""

    def applies(self, request: Request, exchange: Exchange) -> bool:
        """Whether this request can have such an answer at all. No I/O."""

    async def find(self, request: Request, exchange: Exchange) -> Kept | None:
        """An answer to a question like this one that this caller may have. Never raises for a store that is away."""

    def watched(self, chunks: Chunks, exchange: Exchange) -> Chunks:
        """The new answer, compared with the one that would have been given where hits are only tried out."""

    async def keep(
        self,
        request: Request,
        exchange: Exchange,
        key: bytes,
        completion: Chunk,
        served_by: Target | None,
        ttl: float | None,
        purged: Callable[[], Awaitable[bool]],
    ) -> None:
        """Keep an answer that may be kept, after its caller has it. `ttl` is the most that the caller allows, seconds.

        `key` is the exact one, by which it is purged too; `purged` is asked once it is kept, and is `Lead.purged`.
        Never raises for a store that is away.
        """

    async def purge(self, what: Purge) -> int:
        """Let go of what fits; how many answers went. Raises CacheUnavailable where they could not be let go."""

    def narrowed(self, more: str) -> Semantic:
        """The same for answers that `more` has shaped too: neither gets the other's."""


class Purgeable(Protocol):
    """Whatever keeps answers."""

    async def purge(self, what: Purge) -> int: ...


def origin_of(exchange: Exchange) -> Origin:
    """Where an answer comes from that has just been made."""
    caller, passages = exchange.caller, exchange.passages
    assert caller is not None
    assert exchange.model is not None
    return Origin(
        exchange.model,
        caller.tenant,
        caller.user,
        frozenset([passage.collection for passage in passages]),
        frozenset([passage.document_id for passage in passages]),
    )
