"""The record store's keys as this process knows them: looked up when first used, then held, and kept in step.

A round twice a second takes over what was changed in the store, so that a key that was revoked, rotated or granted
less is so in every worker within a second. What is held is bounded, what is known to be no key as well. While the
store is away, the keys that are held go on for the grace; others can't be told from no key, and are refused as such.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, TypeVar
from weakref import WeakSet

from gateway.access.callers import Refusal, stored
from gateway.access.directory import Directory
from gateway.errors import Overloaded, StageFailed
from gateway.tenancy import Changes, DirectoryUnavailable, Found, StoredKey, Tenant, User
from gateway.values import Caller

log = logging.getLogger(__name__)

T = TypeVar("T")

_MOST = 50_000  # secrets held, and as many that are known to be none
_STRANGER = 30.0  # seconds that no key stays none without another look
_THREADS = 4  # that ask the store
_WAITING = 500  # look-ups at a time
_NOTHING = -1  # the sequence number before anything was read
_PATIENCE = 1.0  # seconds that the store is waited for; it may go on for longer in its thread


class Watcher(Protocol):
    def tenants_changed(self) -> None: ...


class StoredKeys:
    """Belongs to the event loop; outlives revisions."""

    def __init__(
        self, directory: Directory, *, grace: float, every: float = 0.5, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`grace` is how long held keys go on without the store, `every` the time between rounds, in seconds."""
        self._directory = directory
        self._grace = grace
        self._every = every
        self._clock = clock
        self.callers: dict[bytes, Caller] = {}
        """By their secret's SHA-256: those that may call from anywhere, for good."""
        self.others: dict[bytes, Caller | Refusal] = {}
        """The rest: with an end, bound to networks, or refused."""
        self.tenants: Mapping[str, Tenant] = {}
        self.users: Mapping[tuple[str, str], User] = {}
        """By tenant and id: those of whom the store knows something."""
        self.administered: bool | None = None
        """Whether there has ever been a key that administers everything; None while the store was never reached."""
        self.healthy = True
        self._keys: dict[str, StoredKey] = {}
        self._strangers: dict[bytes, float] = {}  # digest to when it is looked up again
        self._sequence = _NOTHING
        self._reached = clock()
        self._looking: dict[bytes, asyncio.Future[Caller | Refusal | None]] = {}
        self._threads = ThreadPoolExecutor(_THREADS, "stored-keys")
        self._watchers: WeakSet[Watcher] = WeakSet()
        self._one_round = asyncio.Lock()

    def watch(self, watcher: Watcher) -> None:
        """Tell `watcher` when tenants change, as long as it lives."""
        self._watchers.add(watcher)

    async def run(self) -> None:
        """Rounds until cancelled."""
        try:
            while True:
                await asyncio.sleep(self._every)
                await self.round()
        finally:
            self._threads.shutdown(wait=False, cancel_futures=True)

    async def round(self) -> None:
        """Take over what was changed in the store."""
        async with self._one_round:
            await self._round()

    async def _round(self) -> None:
        asked = self._ask(self._directory.changes, self._sequence)
        await asyncio.wait((asked,), timeout=_PATIENCE)
        if not asked.done():
            self._away("it does not answer")  # its thread's own end comes later: no second one is started until then
        try:
            changes = await asked
        except DirectoryUnavailable as failure:
            self._away(str(failure))
        except Exception:
            log.exception("the keys' store can't be read")
            self._away("it can't be read")
        else:
            self._back()
            self._take_over(changes)

    def is_stranger(self, digest: bytes) -> bool:
        """Whether it is known that no key has this digest."""
        until = self._strangers.get(digest)
        return until is not None and (not self.healthy or self._clock() < until)

    async def look_up(self, digest: bytes) -> Caller | Refusal | None:
        """Who has the secret of this digest; None where it is nobody's. Raises StageFailed or Overloaded."""
        looking = self._looking.get(digest)
        if looking is None:
            if len(self._looking) >= _WAITING:
                raise Overloaded("Too many keys are being looked up. Try again in a moment.", retry_after="1")
            looking = self._looking[digest] = asyncio.ensure_future(self._look_up(digest))
            looking.add_done_callback(_looked_at)
        return await asyncio.shield(looking)  # whoever else waits for it goes on if this caller leaves

    async def _look_up(self, digest: bytes) -> Caller | Refusal | None:
        try:
            if self._sequence == _NOTHING:  # no key is held before there is a number from which on changes are seen
                async with self._one_round:
                    if self._sequence == _NOTHING:
                        await self._round()
            found = await self._found(digest)
            while found.sequence < self._sequence:  # what was read may have been changed since
                found = await self._found(digest)
            if found.key is None:
                if len(self._strangers) >= _MOST:
                    del self._strangers[next(iter(self._strangers))]
                self._strangers[digest] = self._clock() + _STRANGER
                return None
            self._hold(found.key)
            return self.callers.get(digest) or self.others.get(digest)
        finally:
            del self._looking[digest]

    async def _found(self, digest: bytes) -> Found:
        if not self.healthy:
            raise _unavailable()
        try:
            return await asyncio.wait_for(self._ask(self._directory.find, digest), _PATIENCE)
        except TimeoutError:
            raise _unavailable() from None
        except DirectoryUnavailable as failure:
            self._away(str(failure))
            raise _unavailable() from None

    def _ask(self, question: Callable[..., T], *about: object) -> asyncio.Future[T]:
        asked = asyncio.get_running_loop().run_in_executor(self._threads, question, *about)
        asked.add_done_callback(_looked_at)
        return asked

    def _away(self, reason: str) -> None:
        if self.healthy:
            self.healthy = False
            log.error("the store of keys is away, those that are known go on for %g s: %s", self._grace, reason)
        if self._keys and self._clock() - self._reached > self._grace:
            log.error("the store of keys has been away for too long: its keys are refused from now on")
            self._forget()

    def _back(self) -> None:
        if not self.healthy:
            log.warning("the store of keys is back")
        self.healthy = True
        self._reached = self._clock()

    def _take_over(self, changes: Changes) -> None:
        if changes.sequence < self._sequence:
            log.warning("the store of keys is another one, or an older copy: all of it is read again")
            self._forget()
            self.tenants = {}
            self._sequence = _NOTHING
            self.administered = None
            return  # the next round begins from nothing
        if changes.users is not None:
            self.users = {(user.tenant, user.id): user for user in changes.users}
        if changes.administered is not None:
            self.administered = changes.administered
        self._sequence = changes.sequence
        for key in changes.keys:
            for secret in key.secrets:
                self._strangers.pop(secret.digest, None)
            if key.id in self._keys:
                self._drop(key.id)
                self._hold(key)
        if changes.tenants:
            self.tenants = {**self.tenants, **{tenant.id: tenant for tenant in changes.tenants}}
            changed = {tenant.id for tenant in changes.tenants}
            self._place(key for key in list(self._keys.values()) if key.tenant in changed)
            for watcher in list(self._watchers):
                watcher.tenants_changed()

    def _hold(self, key: StoredKey) -> None:
        while self._keys and len(self.callers) + len(self.others) + len(key.secrets) > _MOST:
            self._drop(next(iter(self._keys)))
        self._keys[key.id] = key
        self._place((key,))

    def _place(self, keys: Iterable[StoredKey]) -> None:
        for key in keys:
            for secret in key.secrets:
                who = stored(key, secret, self.tenants)
                plain = isinstance(who, Caller) and who.expires_at is None and not who.networks
                self.callers.pop(secret.digest, None)
                self.others.pop(secret.digest, None)
                if plain:
                    assert isinstance(who, Caller)
                    self.callers[secret.digest] = who
                else:
                    self.others[secret.digest] = who

    def _drop(self, key_id: str) -> None:
        for secret in self._keys.pop(key_id).secrets:
            self.callers.pop(secret.digest, None)
            self.others.pop(secret.digest, None)

    def _forget(self) -> None:
        self._keys.clear()
        self.callers.clear()
        self.others.clear()
        self._strangers.clear()


def _unavailable() -> StageFailed:
    return StageFailed(
        "Keys can't be looked up right now. Try again in a moment.", code="keys_unavailable", retry_after="1"
    )


def _looked_at(asked: asyncio.Future[Any]) -> None:
    """Whoever waited for it may have gone; its failure is nobody's then."""
    if not asked.cancelled():
        asked.exception()
