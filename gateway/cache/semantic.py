"""The semantic cache: an answer to a question may serve a question that means the same.

What must be equal is a partition, by which every search filters: tenant, public model with all of its settings, every
field of the request but the last question, the conversation before it, the features used and whose they are. Inside a
partition two questions are compared as vectors, then by their words (gateway/cache/likeness.py), then by the passages
that the answer was made of (gateway/cache/evidence.py). Only text answers to questions in text take part.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from copy import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from gateway.cache.agreement import agree, cosine
from gateway.cache.asking import asked_in, can_be_asked, sources_of, text_of
from gateway.cache.evidence import evidence, outdated
from gateway.cache.likeness import difference
from gateway.cache.protocol import CacheUnavailable, Kept, Purge, origin_of
from gateway.cache.questions import EVERYBODY, Alike, Asked, KeptAnswer
from gateway.cache.watching import Watched
from gateway.values import SemanticLook
from retrieval.breaking import Breaker, Tripped
from retrieval.passages import RetrievalUnavailable

if TYPE_CHECKING:
    from gateway.cache.questions import Questions
    from gateway.cache.semantic_meter import SemanticMeter
    from gateway.chat import Request
    from gateway.chunks import Chunk
    from gateway.exchange import Exchange
    from gateway.providers.protocol import Chunks
    from gateway.values import Target
    from retrieval.embedding import Kind
    from retrieval.passages import OfDocument

log = logging.getLogger(__name__)

_COMPARED = 4_000  # characters of an answer
_COMPARES_FOR = 1.0  # seconds; more where a look-up may take more


class Meaning(Protocol):
    """What a semantic cache asks of the knowledge: the embedder and who may read what. Raises RetrievalUnavailable."""

    async def embed(self, texts: Sequence[str], *, kind: Kind) -> list[list[float]]: ...

    async def still_readable(
        self,
        passages: Sequence[OfDocument],
        *,
        tenant: str,
        user: str | None = None,
        groups: frozenset[str] = frozenset(),
    ) -> bool: ...


@dataclass(frozen=True, slots=True)
class SemanticTerms:
    """`ttl` and `budget` in seconds; `threshold` and `agreement` are cosines of questions and of answers."""

    ttl: float = 3600.0
    threshold: float = 0.9
    budget: float = 0.1
    shadow: bool = False
    agreement: float = 0.85


class SemanticCache:
    """Of one public model; `scope` names all of its settings that shape an answer.

    `later` runs what an answer need not wait for, or gives it up where there is too much of it.
    """

    def __init__(
        self,
        model: str,
        scope: str,
        terms: SemanticTerms,
        questions: Questions,
        meaning: Meaning,
        meter: SemanticMeter,
        later: Callable[[Coroutine[Any, Any, None]], None],
    ) -> None:
        self._model = model
        self._scope = scope
        self._terms = terms
        self._questions = questions
        self._meaning = meaning
        self._meter = meter
        self._later = later
        self._breaker = Breaker()

    def narrowed(self, more: str) -> SemanticCache:
        made = copy(self)
        made._scope = f"{self._scope} {more}"
        return made

    def applies(self, request: Request, exchange: Exchange) -> bool:
        """Text in and text out, nothing degraded, and nothing in it that stands for somebody's secret."""
        return not exchange.degraded and not exchange.pseudonyms and can_be_asked(request, exchange)

    async def find(self, request: Request, exchange: Exchange) -> Kept | None:
        """See Semantic. In shadow mode nothing is given; `watched` compares what would have been."""
        asked = asked_in(self._scope, request, exchange)
        if asked is None:
            return None
        look = exchange.semantic = SemanticLook()
        try:
            self._breaker.check()
            async with asyncio.timeout(self._terms.budget):
                found = await self._first_fit(asked, request, exchange, look)
            self._breaker.worked()
        except Tripped:
            look.outcome = "unavailable"
            found = None
        except (TimeoutError, RetrievalUnavailable) as failure:
            look.outcome = "late" if isinstance(failure, TimeoutError) else "unavailable"
            self._breaker.failed()
            found = None
        if found is not None and self._terms.shadow:
            look.outcome, look.carried = "shadow", found.kept
            return None
        self._meter.count(self._model, look.outcome)
        return found.kept if found is not None else None

    def watched(self, chunks: Chunks, exchange: Exchange) -> Chunks:
        """See Semantic."""
        look = exchange.semantic
        if look is None or not isinstance(would := look.carried, Kept):
            return chunks
        look.carried = None
        return Watched(chunks, lambda text: self._compare(would, text, look))

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
        """See Semantic. It is kept a little later."""
        asked, text = asked_in(self._scope, request, exchange), text_of(completion)
        if asked is None or text is None:
            return
        caller, now = exchange.caller, time.time()
        assert caller is not None
        life = self._terms.ttl if ttl is None else min(self._terms.ttl, ttl)
        sources = sources_of(completion, exchange)
        kept = Kept(completion, served_by, now, life, exchange.sensitivity, origin_of(exchange))

        async def keep() -> None:
            vector = (await self._meaning.embed([asked.question], kind="query"))[0]
            audience = EVERYBODY
            if sources and not await self._meaning.still_readable(sources, tenant=caller.tenant):
                audience = asked.audience
            answer = KeptAnswer(key.hex(), asked.question, asked.partition, audience, sources, now + life, kept)
            await self._questions.keep(answer, vector)
            if await _may_be_purged(purged):  # it may have been meant
                await self._questions.purge(Purge(key=key))

        self._later(self._unless_away(keep))

    async def purge(self, what: Purge) -> int:
        return await self._questions.purge(what)

    async def _first_fit(
        self, asked: Asked, request: Request, exchange: Exchange, look: SemanticLook
    ) -> KeptAnswer | None:
        wish = exchange.cache_wish
        least = max(self._terms.threshold, (wish.threshold if wish is not None else None) or 0.0)
        vector = (await self._meaning.embed([asked.question], kind="query"))[0]
        for alike in await self._questions.alike(asked, vector, least):
            reason = await self._against(asked, alike, request, exchange)
            if reason == "passages" and outdated(alike.answer.sources, exchange.passages):
                self._later(self._forget(alike.answer.key))  # or it hides what was made since, and is as much alike
            if look.likeness is None or reason is None:
                look.likeness, look.reason = alike.likeness, reason
                look.outcome = "hit" if reason is None else "unfit" if reason == "passages" else "refused"
            if reason is None:
                look.key = alike.answer.key
                return alike.answer
        return None

    async def _forget(self, key: str) -> None:
        with suppress(RetrievalUnavailable):
            await self._questions.purge(Purge(key=bytes.fromhex(key)))

    async def _against(self, asked: Asked, alike: Alike, request: Request, exchange: Exchange) -> str | None:
        """What speaks against giving this answer; None where nothing does."""
        apart = difference(asked.question, alike.answer.question)
        if apart is not None:
            return apart
        held = evidence(alike.answer.sources, exchange.passages)
        if not held.holds:
            return "passages"
        if held.unseen:
            caller = exchange.caller
            assert caller is not None
            # Whether a file still is in the vector store that was searched, its readers do not tell.
            if request.file_search is not None or not await self._meaning.still_readable(
                held.unseen, tenant=caller.tenant, user=caller.user, groups=caller.groups
            ):
                return "passages"
        return None

    async def _compare(self, would: Kept, text: str, look: SemanticLook) -> None:
        """Count whether the answer that would have been given says what the new one does."""
        other = text_of(would.completion) or ""
        try:
            async with asyncio.timeout(max(_COMPARES_FOR, self._terms.budget)):
                vectors = await self._meaning.embed([text[:_COMPARED], other[:_COMPARED]], kind="document")
        except (TimeoutError, RetrievalUnavailable):
            look.outcome = "unavailable"
        else:
            same = agree(text, other, cosine(*vectors), self._terms.agreement)
            look.outcome = "agreed" if same else "false_hit"
        self._meter.count(self._model, look.outcome)

    async def _unless_away(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except RetrievalUnavailable as failure:
            self._meter.count(self._model, "not_kept")
            log.warning("an answer was not kept for questions that mean the same: %s", failure)


async def _may_be_purged(purged: Callable[[], Awaitable[bool]]) -> bool:
    """True also where nobody can tell."""
    try:
        return await purged()
    except CacheUnavailable:
        return True
