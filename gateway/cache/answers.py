"""The cache's stage: the same question, shaped by the same things, gets the same answer without a call.

In this order: an answer that is kept, one that is just being made in this process, one to a question that means the
same, one that another worker makes or has made, a new one. Whatever keeps the answers may be away: calls go on without
it, and are counted.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from gateway.cache.flight import Flight
from gateway.cache.key import key_of
from gateway.cache.protocol import CacheUnavailable, Kept, Lead, origin_of
from gateway.cache.rechecking import Screen, still_passes
from gateway.cache.revalidation import Revalidations, gathered
from gateway.errors import NotCached
from gateway.identifiers import answer_id_of
from gateway.providers.replay import Renamed, Replayed, Reshaped, split, under_id, whole
from gateway.values import CacheKey, CacheWish

if TYPE_CHECKING:
    from gateway.cache.meter import CacheMeter
    from gateway.cache.protocol import Entries, Semantic
    from gateway.chat import Request
    from gateway.chunks import Chunk
    from gateway.exchange import Exchange
    from gateway.providers.protocol import Chunks

Generate = Callable[["Request", "Exchange"], Awaitable["Chunks"]]

_NO_WISH: Final = CacheWish()
_ONLY_CACHED: Final = "There is no kept answer to this request, and Cache-Control: only-if-cached wants no other."


@dataclass(frozen=True, slots=True)
class CacheTerms:
    """How long answers of a model are given: `ttl` fresh, `stale` longer while a new one is made; all in seconds.

    `wait`: for how long a call waits for another worker's. `charge`: the share of its price that a kept answer costs.
    """

    ttl: float = 600.0
    stale: float = 0.0
    wait: float = 10.0
    charge: float = 0.0
    recheck: bool = True


class AnswerCache:
    """Answers of one public model, in `entries` that many models may share.

    `scope` names the model and all of its settings that shape an answer; it is part of every key.
    """

    def __init__(
        self, scope: str, terms: CacheTerms, entries: Entries, meter: CacheMeter, semantic: Semantic | None = None
    ) -> None:
        self._scope = scope
        self._terms = terms
        self._entries = entries
        self._meter = meter
        self._semantic = semantic
        self._flights: dict[bytes, Flight] = {}
        self._revalidations = Revalidations()

    def narrowed(self, more: str) -> AnswerCache:
        """The same memory for answers that `more` has shaped too: neither gets the other's."""
        semantic = self._semantic.narrowed(more) if self._semantic is not None else None
        made = AnswerCache(f"{self._scope} {more}", self._terms, self._entries, self._meter, semantic)
        made._flights, made._revalidations = self._flights, self._revalidations
        return made

    async def answer(
        self, request: Request, exchange: Exchange, generate: Generate, screen: Screen | None = None
    ) -> Chunks:
        """A kept answer, the one that is just being made for somebody else, or a new one.

        `screen` is the model's output guardrails, through which a kept answer passes again. Raises NotCached where the
        caller wants no other than a kept one.
        """
        wish = exchange.cache_wish or _NO_WISH
        if not wish.keep or (request.rag is not None and request.rag.cache is False) or _is_sensitive(exchange):
            if wish.only_if_cached:
                raise NotCached(_ONLY_CACHED)
            return await generate(request, exchange)
        started = time.perf_counter_ns()
        call = _Call(request, exchange, generate, screen, wish, key_of(self._scope, request, exchange))
        exchange.cache_key = call.key
        exchange.cache = "miss"
        after = 0.0  # what was kept until then is not what this caller wants
        if wish.look_up:
            kept = await self._found(call.key.digest)
            if kept is not None:
                chunks = await self._given(kept, call)
                if chunks is not None:
                    exchange.stage("cache", started)
                    return chunks
                after = kept.made_at
        if wish.only_if_cached:
            chunks = await self._alike(call) if wish.look_up else None
            if chunks is None:
                raise NotCached(_ONLY_CACHED)
            return chunks
        flight = self._flights.get(self._path(call)) if wish.look_up else None
        exchange.stage("cache", started)
        if flight is None:
            flight = self._take_off(call, after)
            return _in_form(await flight.join(exchange), flight, request)
        exchange.cost_share = self._terms.charge  # the first caller pays, as long as it is there
        reader = await flight.join(exchange)
        self._share(flight, exchange)
        return Renamed(_in_form(reader, flight, request), answer_id_of(exchange.call_id))

    def _share(self, flight: Flight, exchange: Exchange) -> None:
        """Tell a call what it gets of the one that it waited for."""
        first = flight.exchange
        exchange.cache = "hit" if first.cache == "miss" else first.cache
        exchange.cache_age = first.cache_age or 0.0
        exchange.cost_share = self._share_of(flight, exchange)
        exchange.target = first.target
        exchange.sensitivity = exchange.sensitivity or first.sensitivity
        exchange.degraded += [stage for stage in first.degraded if stage not in exchange.degraded]

    def _share_of(self, flight: Flight, exchange: Exchange) -> float:
        """Of its price: one of all who read a new answer pays it."""
        return 1.0 if exchange is flight.payer and flight.exchange.cache == "miss" else self._terms.charge

    async def _found(self, key: bytes) -> Kept | None:
        try:
            return await self._entries.find(key)
        except CacheUnavailable:
            self._meter.failures += 1
            return None

    async def _given(self, kept: Kept, call: _Call) -> Chunks | None:
        """This kept answer, where this caller may have it now; a stale one is made anew beside."""
        age = max(0.0, time.time() - kept.made_at)
        fresh = min(kept.fresh, self._terms.ttl)  # which a reload may have shortened
        wish = call.wish
        if age > fresh if wish.max_age is None else age > min(wish.max_age, fresh):
            # RFC 9111, section 5.2.1.1: who says how old an answer may be wants no stale one.
            if wish.max_age is not None or age > fresh + self._terms.stale:
                return None
            self._meter.stale += 1
            self._refresh(kept, call)
        if not await self._passes(kept, call):
            await self._forget(call.key.digest)
            return None
        return self._replayed(kept, call, "hit", age)

    async def _passes(self, kept: Kept, call: _Call) -> bool:
        """Whether the output guardrails let this answer out once more."""
        if call.screen is None or not self._terms.recheck:
            return True
        if await still_passes(kept.completion, call.request, call.exchange, call.screen):
            return True
        self._meter.rejected += 1
        return False

    async def _alike(self, call: _Call) -> Chunks | None:
        """An answer to a question that means the same."""
        semantic, wish = self._semantic, call.wish
        if semantic is None or not wish.semantic or not semantic.applies(call.request, call.exchange):
            return None
        started = time.perf_counter_ns()
        try:
            kept = await semantic.find(call.request, call.exchange)
        finally:
            call.exchange.stage("semantic_cache", started)
        if kept is None:
            return None
        age = max(0.0, time.time() - kept.made_at)
        if wish.max_age is not None and age > wish.max_age:
            return None
        if not await self._passes(kept, call):
            return None
        return self._replayed(kept, call, "semantic", age)

    def _replayed(self, kept: Kept, call: _Call, how: str, age: float) -> Chunks:
        exchange = call.exchange
        exchange.cache = how
        exchange.cache_age = age
        exchange.cost_share = self._terms.charge
        exchange.target = kept.served_by
        exchange.sensitivity = exchange.sensitivity or kept.sensitivity
        return Replayed(_shaped(kept, answer_id_of(exchange.call_id), stream=call.request.stream))

    def _path(self, call: _Call) -> bytes:
        """What flights are known by.

        One may end with an answer to a question that means the same, which was made for its first caller and fits the
        bounds that this caller has set.
        """
        if self._semantic is None:
            return call.key.digest
        caller = call.exchange.caller
        assert caller is not None
        return call.key.digest + repr((call.wish, caller.user, sorted(caller.groups))).encode()

    def _take_off(self, call: _Call, after: float) -> Flight:
        path, exchange = self._path(call), call.exchange
        lead: Lead | None = None
        given = False

        async def begin() -> Chunks:
            nonlocal lead, given
            chunks = await self._alike(call) if call.wish.look_up else None
            if chunks is None:
                # Who asks afresh neither waits for another's answer nor takes what is there.
                patience, since = (self._terms.wait, after) if call.wish.look_up else (0.0, time.time())
                got = await self._leave(call, patience, since)
                if isinstance(got, Kept):
                    chunks = self._replayed(got, call, "hit", max(0.0, time.time() - got.made_at))
                else:
                    lead = got
            given = chunks is not None
            if chunks is not None:
                return chunks
            made = await call.generate(call.request, exchange)
            return self._semantic.watched(made, exchange) if self._semantic is not None else made

        async def landed(chunks: list[Chunk]) -> None:
            if not given:
                await self._keep(chunks, call, lead)

        def ended() -> None:
            if self._flights.get(path) is flight:
                del self._flights[path]
            if lead is not None:
                lead.end(unshared=not flight.abandoned)

        def taken_over(left: Exchange, stays: Exchange) -> None:
            left.cost_share, stays.cost_share = self._terms.charge, self._share_of(flight, stays)
            left.bequeath(stays)

        flight = Flight(begin, landed, ended, taken_over, exchange, stream=call.request.stream)
        self._flights[path] = flight
        return flight

    async def _leave(self, call: _Call, patience: float, after: float) -> Kept | Lead | None:
        """Leave to make the answer, or another worker's; None where that can't be asked for."""
        try:
            return await self._entries.lead(call.key.digest, patience, after)
        except CacheUnavailable:
            self._meter.failures += 1
            return None

    async def _keep(self, chunks: list[Chunk], call: _Call, lead: Lead | None) -> bool:
        """Whether this answer is kept now."""
        exchange, terms, wish = call.exchange, self._terms, call.wish
        fresh = terms.ttl if wish.ttl is None else min(terms.ttl, wish.ttl)
        completion = whole(chunks)
        # One that went on without a stage, or without a guardrail's verdict, was let go for this once.
        if lead is None or fresh <= 0 or exchange.degraded or not _may_be_kept(call.request, completion):
            return False
        kept = Kept(completion, exchange.target, time.time(), fresh, exchange.sensitivity, origin_of(exchange))
        try:
            if not await lead.keep(kept, fresh + (terms.stale if wish.ttl is None else 0.0)):
                return False
        except CacheUnavailable:
            self._meter.failures += 1
            return False
        semantic = self._semantic
        if semantic is not None and semantic.applies(call.request, exchange):
            await semantic.keep(
                call.request, exchange, call.key.digest, completion, exchange.target, wish.ttl, lead.purged
            )
        return True

    async def _forget(self, key: bytes) -> None:
        try:
            await self._entries.forget(key)
        except CacheUnavailable:
            self._meter.failures += 1

    def _refresh(self, kept: Kept, call: _Call) -> None:
        """A new answer in place of a stale one, beside the call that got it; by one worker only."""

        async def leave() -> Lead | None:
            got = await self._leave(call, 0.0, kept.made_at)
            return got if got is not None and not isinstance(got, Kept) and got.sole else None

        async def make(request: Request, made: Exchange, lead: Lead) -> None:
            chunks = await gathered(await call.generate(request, made), made)
            await self._keep(chunks, call._replace(request=request, exchange=made), lead)

        self._revalidations.begin(call.key.digest, call.request, call.exchange, leave, make)


class _Call(NamedTuple):
    request: Request
    exchange: Exchange
    generate: Generate
    screen: Screen | None
    wish: CacheWish
    key: CacheKey


def _is_sensitive(exchange: Exchange) -> bool:
    """Whether it is made of features that may come to rest nowhere."""
    return exchange.features is not None and bool(exchange.features.sensitive)


def _in_form(reader: Chunks, flight: Flight, request: Request) -> Chunks:
    return reader if flight.stream == request.stream else Reshaped(reader, stream=request.stream)


def _shaped(kept: Kept, new_id: str, *, stream: bool) -> list[Chunk]:
    if not stream:
        return [under_id(new_id, kept.completion)]
    if kept.split is None:
        kept.split = split(kept.completion)
    return [under_id(new_id, chunk) for chunk in kept.split]


def _may_be_kept(request: Request, completion: Chunk) -> bool:
    """Only what ended by itself and says something: nothing cut, blocked or calling a tool."""
    choices = completion.facts.choices
    if request.endpoint != "chat.completions":
        return choices is None  # numbers
    return bool(choices) and all(
        choice.finish_reason == "stop"
        and choice.message is not None
        and not choice.message.tool_calls
        and bool(choice.message.content or choice.message.refusal)
        for choice in choices or ()
    )
