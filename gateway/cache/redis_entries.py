"""Kept answers in Redis, for all workers of all gateways that share it.

    {prefix}:cache:answer:{key}       the answer (gateway/cache/encoding.py), for as long as it may be given
    {prefix}:cache:lead:{key}         who makes it now, for two seconds at a time; "-" where it can't be shared
    {prefix}:cache:of:{kind}:{value}  a sorted set of keys by the time they end: the index that purges read
    {prefix}:cache:purges             how many purges there were: what was begun before one is not kept after it

Keys are SHA-256 in hexadecimal, values in the index too, shortened: no name of a user or a document stands in Redis.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar, cast

from gateway.cache.encoding import Seal, Unreadable, decoded, encoded
from gateway.cache.protocol import CacheUnavailable, Kept, Origin, Purge
from gateway.state import RedisState, StateUnavailable

if TYPE_CHECKING:
    from redis.asyncio import Redis

T = TypeVar("T")

_LEASE = 2.0  # seconds; a worker that dies delays the others by no more
_RENEW = 0.5
_UNSHARED = 1.0  # seconds: those who wait look much more often
_FIRST_LOOK, _SLOWEST_LOOK = 0.01, 0.1  # seconds between two looks at what another worker makes
_BATCH = 1_000  # keys of a purge in one command
_PURGE_DEADLINE = 5.0  # seconds a command: nobody's answer waits for a purge

# KEYS: answer, purges, lead, index…  ARGV: purges at the beginning, answer, its life in ms, token, key in hexadecimal
_KEEP = """
if (redis.call('GET', KEYS[2]) or '0') ~= ARGV[1] then return 0 end
local life = tonumber(ARGV[3])
redis.call('SET', KEYS[1], ARGV[2], 'PX', life)
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for at = 4, #KEYS do
  redis.call('ZREMRANGEBYSCORE', KEYS[at], '-inf', now)
  redis.call('ZADD', KEYS[at], now + life, ARGV[5])
  if redis.call('PTTL', KEYS[at]) < life then redis.call('PEXPIRE', KEYS[at], life) end
end
if redis.call('GET', KEYS[3]) == ARGV[4] then redis.call('DEL', KEYS[3]) end
return 1
"""
# KEYS: lead  ARGV: token, ms
_RENEWED = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end return 0"
# KEYS: lead  ARGV: token, "-" or "", ms
_ENDED = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if ARGV[2] == '' then return redis.call('DEL', KEYS[1]) end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1
"""
_NOT_SHARED = b"-"


class RedisEntries:
    def __init__(self, state: RedisState, max_entry: int, seal: Seal | None = None) -> None:
        """`max_entry`: bytes of the largest answer that is kept. `seal` encrypts all of them."""
        self._state = state
        self._max_entry = max_entry
        self._seal = seal
        self._base = f"{state.prefix}:cache:"
        self._ending: set[asyncio.Task[None]] = set()

    async def find(self, key: bytes) -> Kept | None:
        place = self._answer(key)
        value = await self._run(lambda redis: redis.get(place))
        return self._read(value, place)

    async def lead(self, key: bytes, patience: float, after: float) -> Kept | RedisLead:
        answer, lead, purges = self._answer(key), self._lead(key), self._base + "purges"
        token = secrets.token_hex(8)
        until = time.monotonic() + patience
        pause = _FIRST_LOOK

        def look(redis: Redis) -> Awaitable[list[Any]]:
            together = redis.pipeline(transaction=False)
            together.set(lead, token, nx=True, px=int(_LEASE * 1000))
            for each in (purges, lead, answer):
                together.get(each)
            return together.execute()

        while True:
            taken, counted, leader, value = await self._run(look)
            kept = self._read(value, answer)
            if kept is not None and kept.made_at > after:
                if taken:
                    self._end(lead, token, unshared=False)
                return kept
            alone = leader == _NOT_SHARED or time.monotonic() + pause > until
            if taken or alone:
                return RedisLead(self, key, token if taken else "", counted or b"0")
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, _SLOWEST_LOOK)

    async def forget(self, key: bytes) -> None:
        place = self._answer(key)
        await self._run(lambda redis: redis.delete(place))

    async def announce(self) -> None:
        """Have nothing kept any more that is being made just now, by anybody who shares the Redis."""
        counter = self._base + "purges"
        await self._run(lambda redis: redis.incr(counter), deadline=_PURGE_DEADLINE)

    async def purge(self, what: Purge) -> int:
        await self.announce()
        going = list(await self._meant(what))
        gone = 0
        for at in range(0, len(going), _BATCH):
            places = [self._base + "answer:" + key for key in going[at : at + _BATCH]]
            gone += await self._run(lambda redis, places=places: redis.unlink(*places), deadline=_PURGE_DEADLINE)  # type: ignore[misc]  # mypy knows no lambda's default
        return gone

    async def size(self) -> tuple[int, None]:
        """Answers; only Redis knows their bytes."""
        everything = self._index(Purge())[0]
        now = int(time.time() * 1000)
        return await self._run(lambda redis: redis.zcount(everything, now, "+inf")), None

    async def _meant(self, what: Purge) -> set[str]:
        """Keys, in hexadecimal, of all that fits; some may have ended."""
        sets = self._index(what)
        if what.key is not None and len(sets) == 1:
            return {what.key.hex()}
        meant: set[str] | None = {what.key.hex()} if what.key is not None else None
        for name in sets:
            members = await self._run(
                lambda redis, name=name: redis.zrange(name, 0, -1),  # type: ignore[misc]  # mypy knows no lambda's default
                deadline=_PURGE_DEADLINE,
            )
            found = {member.decode() for member in members}
            meant = found if meant is None else meant & found
        return meant or set()

    async def _keep(self, key: bytes, kept: Kept, life: float, token: str, purges: bytes) -> bool:
        if len(kept.completion.data) > self._max_entry:
            return False
        place, origin = self._answer(key), kept.origin
        keys = [place, self._base + "purges", self._lead(key), *self._index_of(origin)]
        given = [purges, encoded(kept, self._seal, place.encode()), int(life * 1000), token, key.hex()]
        return bool(await self._run(lambda redis: _script(redis, _KEEP, keys, given)))

    def _read(self, value: bytes | None, place: str) -> Kept | None:
        if value is None:
            return None
        try:
            return decoded(value, self._seal, place.encode(), 2 * self._max_entry + 10_000)
        except Unreadable:
            return None

    async def _run(self, work: Callable[[Redis], Awaitable[T]], *, deadline: float | None = None) -> T:
        try:
            return await self._state.run(work, deadline=deadline)
        except StateUnavailable as away:
            raise CacheUnavailable(str(away)) from None

    def _end(self, lead: str, token: str, *, unshared: bool) -> None:
        task = asyncio.get_running_loop().create_task(self._ended(lead, token, unshared=unshared))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def _ended(self, lead: str, token: str, *, unshared: bool) -> None:
        given = [token, _NOT_SHARED if unshared else b"", int(_UNSHARED * 1000)]
        with contextlib.suppress(CacheUnavailable):  # the lease ends by itself
            await self._run(lambda redis: _script(redis, _ENDED, [lead], given))

    def _answer(self, key: bytes) -> str:
        return f"{self._base}answer:{key.hex()}"

    def _lead(self, key: bytes) -> str:
        return f"{self._base}lead:{key.hex()}"

    def _index_of(self, origin: Origin) -> list[str]:
        every = [Purge(), Purge(model=origin.model), Purge(tenant=origin.tenant)]
        every += [Purge(user=origin.user)] if origin.user is not None else []
        every += [Purge(collection=name) for name in origin.collections]
        every += [Purge(document=name) for name in origin.documents]
        return [self._index(one)[-1] for one in every]

    def _index(self, what: Purge) -> list[str]:
        """The sorted sets whose common members are meant; the first one is of everything."""
        named = (
            ("model", what.model), ("tenant", what.tenant), ("user", what.user), ("collection", what.collection),
            ("document", what.document),
        )  # fmt: skip
        sets = [self._base + "of:all"]
        for kind, value in named:
            if value is not None:
                digest = hashlib.sha256(f"{kind} {value}".encode("utf-8", "replace")).hexdigest()[:32]
                sets.append(f"{self._base}of:{kind}:{digest}")
        return sets


class RedisLead:
    """Renewed until it ends; without a token it is nobody's but this call's."""

    def __init__(self, entries: RedisEntries, key: bytes, token: str, purges: bytes) -> None:
        self.sole = token != ""
        self._entries = entries
        self._key = key
        self._token = token
        self._purges = purges
        self._renewing = asyncio.get_running_loop().create_task(self._renew()) if token else None

    async def keep(self, kept: Kept, life: float) -> bool:
        done = await self._entries._keep(self._key, kept, life, self._token, self._purges)
        if done and self._renewing is not None:  # nobody waits any longer
            self._renewing.cancel()
            self._renewing = None
        return done

    async def purged(self) -> bool:
        counter = self._entries._base + "purges"
        return (await self._entries._run(lambda redis: redis.get(counter)) or b"0") != self._purges

    def end(self, *, unshared: bool) -> None:
        if self._renewing is None:
            return
        self._renewing.cancel()
        self._renewing = None
        self._entries._end(self._entries._lead(self._key), self._token, unshared=unshared)

    async def _renew(self) -> None:
        entries, given = self._entries, [self._token, int(_LEASE * 1000)]
        lead = entries._lead(self._key)
        while True:
            await asyncio.sleep(_RENEW)
            with contextlib.suppress(CacheUnavailable):
                await entries._run(lambda redis: _script(redis, _RENEWED, [lead], given))


def _script(redis: Redis, text: str, keys: Iterable[Any], given: Iterable[Any]) -> Awaitable[Any]:
    every = list(keys)
    return cast(Awaitable[Any], redis.eval(text, len(every), *every, *given))
