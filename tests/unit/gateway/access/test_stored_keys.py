"""Keys of the record store: looked up once, held, kept in step, and held on to while the store is away."""

from __future__ import annotations

import asyncio
import hashlib
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from gateway.access import stored_keys
from gateway.access.keyring import Keyring
from gateway.access.keys import hash_key, new_key, revoked, rotated
from gateway.access.stored_keys import StoredKeys
from gateway.config.access import Access, Key, TenantGrants
from gateway.errors import Forbidden, Overloaded, StageFailed, Unauthenticated
from gateway.tenancy import Changes, DirectoryUnavailable, Found, StoredKey, Tenant, User
from gateway.values import Caller

HERE: dict[str, Any] = {"client": ("127.0.0.1", 5), "headers": []}


class Shelf:
    """A directory in memory, which counts what it is asked and can be away."""

    def __init__(self) -> None:
        self.sequence = 0
        self.keys: dict[str, tuple[StoredKey, int]] = {}
        self.tenants: dict[str, tuple[Tenant, int]] = {}
        self.users: dict[tuple[str, str], User] = {}
        self.away = False
        self.asked = 0
        self.before_telling = threading.Event()
        self.before_telling.set()

    def put(self, thing: StoredKey | Tenant | User) -> None:
        self.sequence += 1
        if isinstance(thing, User):
            self.users[thing.tenant, thing.id] = thing
            return
        if isinstance(thing, StoredKey):
            self.keys[thing.id] = (thing, self.sequence)
        else:
            self.tenants[thing.id] = (thing, self.sequence)

    def find(self, digest: bytes) -> Found:
        self.asked += 1
        self._reached()
        held = [key for key, _ in self.keys.values() if any(secret.digest == digest for secret in key.secrets)]
        found = Found(held[0] if held else None, self.sequence)
        self.before_telling.wait(60)
        return found

    def changes(self, since: int) -> Changes:
        self._reached()
        return Changes(
            self.sequence,
            tuple(key for key, number in self.keys.values() if number > since) if since >= 0 else (),
            tuple(tenant for tenant, number in self.tenants.values() if number > since),
            any(key.administers for key, _ in self.keys.values()),
            tuple(self.users.values()),
        )

    def _reached(self) -> None:
        if self.away:
            raise DirectoryUnavailable("away")


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def held(shelf: Shelf, clock: Clock) -> Iterator[StoredKeys]:
    made = StoredKeys(shelf, grace=3600, clock=clock)
    yield made
    made._threads.shutdown()


@pytest.fixture
def keyring(held: StoredKeys) -> Keyring:
    return Keyring(Access(open_on_loopback=False), open=False, stored=held)


def made(shelf: Shelf, **written: Any) -> tuple[bytes, StoredKey]:
    """A key on the shelf, and the header that shows it."""
    tenant = written.pop("tenant", "default")
    secret, key = new_key(written, tenant=tenant, created_by="test", name="k")
    shelf.put(key)
    return b"Bearer " + secret.encode(), key


def tenant(name: str, **more: Any) -> Tenant:
    return Tenant(name, name, None, {}, TenantGrants(**more), 1.0, "test")


async def refused(keyring: Keyring, header: bytes) -> str:
    with pytest.raises(Unauthenticated) as caught:
        await keyring.identify(header, HERE)
    return str(caught.value)


async def test_a_key_is_looked_up_once_and_then_known(shelf: Shelf, keyring: Keyring) -> None:
    header, key = made(shelf, models=["m"], user="ada", groups=["g"], endpoints=["embeddings"])
    assert keyring.known(header, HERE) is None
    caller = await keyring.look_up(header, HERE)
    assert caller == Caller(
        "k", "default", "ada", frozenset({"m"}), groups=frozenset({"g"}), key_id=key.id, scope="tenant",
        endpoints=frozenset({"embeddings"}),
    )  # fmt: skip
    assert keyring.known(header, HERE) is caller
    assert shelf.asked == 1


async def test_what_is_no_key_is_known_to_be_none_until_it_is_one(shelf: Shelf, keyring: Keyring, clock: Clock) -> None:
    secret, key = new_key({}, tenant="default", created_by="test")
    header = b"Bearer " + secret.encode()
    for _ in range(3):
        assert "Incorrect API key" in await refused(keyring, header)
    assert shelf.asked == 1
    clock.now += 31
    assert "Incorrect API key" in await refused(keyring, header)
    assert shelf.asked == 2
    await keyring.refresh()
    shelf.put(key)
    await keyring.refresh()
    assert (await keyring.identify(header, HERE)).key_id == key.id


async def test_strangers_are_bounded(
    shelf: Shelf, held: StoredKeys, keyring: Keyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored_keys, "_MOST", 10)
    for number in range(30):
        await refused(keyring, b"Bearer guess-%d" % number)
        made(shelf)
    headers = [made(shelf)[0] for _ in range(30)]
    for header in headers:
        await keyring.identify(header, HERE)
    assert len(held._strangers) == 10
    assert len(held.callers) + len(held.others) == len(held._keys) == 10
    assert (await keyring.identify(headers[0], HERE)).key_name == "k"  # looked up again


async def test_a_revoked_key_is_dead_with_the_next_round(shelf: Shelf, keyring: Keyring) -> None:
    header, key = made(shelf)
    await keyring.identify(header, HERE)
    shelf.put(revoked(key, "admin"))
    await keyring.refresh()
    assert "revoked" in await refused(keyring, header)


async def test_what_was_revoked_while_it_was_looked_up_is_dead(shelf: Shelf, keyring: Keyring) -> None:
    """The look-up has read the key as it was; it must not come in after the round that saw it go."""
    header, key = made(shelf)
    await keyring.refresh()
    shelf.before_telling.clear()
    looking = asyncio.create_task(keyring.look_up(header, HERE))
    while not shelf.asked:
        await asyncio.sleep(0)
    shelf.put(revoked(key, "admin"))
    await keyring.refresh()
    shelf.before_telling.set()
    with pytest.raises(Unauthenticated, match="revoked"):
        await looking
    assert "revoked" in await refused(keyring, header)


async def test_a_change_is_in_force_with_the_next_round(shelf: Shelf, keyring: Keyring) -> None:
    header, key = made(shelf, models=["a"])
    assert (await keyring.identify(header, HERE)).models == frozenset({"a"})
    shelf.put(replace(key, written={"models": ["b"]}, grants=key.grants.model_copy(update={"models": ["b"]})))  # type: ignore[union-attr]  # new_key reads them
    await keyring.refresh()
    assert keyring.known(header, HERE).models == frozenset({"b"})  # type: ignore[union-attr]  # it was known before


async def test_an_expired_key_is_dead_without_another_look(shelf: Shelf, keyring: Keyring) -> None:
    header, key = made(shelf)
    shelf.put(replace(key, expires_at=time.time() + 0.05))
    assert (await keyring.identify(header, HERE)).key_id == key.id
    while time.time() < shelf.keys[key.id][0].expires_at:  # type: ignore[operator]  # it has just been set
        await asyncio.sleep(0.01)
    assert "expired" in await refused(keyring, header)
    assert shelf.asked == 1


async def test_a_rotated_key_works_beside_the_new_one_for_the_overlap(shelf: Shelf, keyring: Keyring) -> None:
    header, key = made(shelf)
    await keyring.identify(header, HERE)
    secret, after = rotated(key, overlap=60)
    shelf.put(after)
    await keyring.refresh()
    for each in (header, b"Bearer " + secret.encode()):
        assert (await keyring.identify(each, HERE)).key_id == key.id
    _, at_once = rotated(after, overlap=0)
    shelf.put(at_once)
    await keyring.refresh()
    for each in (header, b"Bearer " + secret.encode()):
        await refused(keyring, each)


async def test_many_who_show_the_same_key_ask_once(shelf: Shelf, keyring: Keyring) -> None:
    header, key = made(shelf)
    callers = await asyncio.gather(*(keyring.identify(header, HERE) for _ in range(50)))
    assert {caller.key_id for caller in callers} == {key.id}
    assert shelf.asked == 1


async def test_too_many_look_ups_are_refused_and_known_keys_are_not(
    shelf: Shelf, keyring: Keyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored_keys, "_WAITING", 5)
    header, _ = made(shelf)
    await keyring.identify(header, HERE)
    shelf.before_telling.clear()
    looking = [asyncio.create_task(keyring.look_up(b"Bearer guess-%d" % n, HERE)) for n in range(5)]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await keyring.look_up(b"Bearer one more", HERE)
    assert keyring.known(header, HERE) is not None
    shelf.before_telling.set()
    assert all(isinstance(end, Unauthenticated) for end in await asyncio.gather(*looking, return_exceptions=True))


# -- the store is away -------------------------------------------------------------------------------------
async def test_known_keys_go_on_for_the_grace_and_unknown_ones_get_503(
    shelf: Shelf, held: StoredKeys, keyring: Keyring, clock: Clock
) -> None:
    header, _ = made(shelf)
    other, _ = made(shelf)
    await keyring.refresh()
    await keyring.identify(header, HERE)
    await refused(keyring, b"Bearer stranger")
    shelf.away = True
    await keyring.refresh()
    assert not held.healthy
    for _ in range(2):
        assert (await keyring.identify(header, HERE)).key_name == "k"
        with pytest.raises(StageFailed) as caught:
            await keyring.identify(other, HERE)
        assert (caught.value.status, caught.value.code) == (503, "keys_unavailable")
        clock.now += 3599
        await refused(keyring, b"Bearer stranger")  # known to be none, which nothing can have changed
    clock.now += 2
    await keyring.refresh()
    for each in (header, other, b"Bearer stranger"):
        with pytest.raises(StageFailed):
            await keyring.identify(each, HERE)
    shelf.away = False
    await keyring.refresh()
    assert held.healthy
    assert (await keyring.identify(header, HERE)).key_name == "k"


async def test_what_was_revoked_while_the_store_was_away_is_dead_when_it_is_back(
    shelf: Shelf, keyring: Keyring
) -> None:
    header, key = made(shelf)
    await keyring.refresh()
    await keyring.identify(header, HERE)
    shelf.away = True
    await keyring.refresh()
    shelf.put(revoked(key, "admin"))
    shelf.away = False
    await keyring.refresh()
    assert "revoked" in await refused(keyring, header)


async def test_a_store_that_was_put_back_from_an_older_copy_is_read_anew(shelf: Shelf, keyring: Keyring) -> None:
    header, key = made(shelf)
    for _ in range(5):
        made(shelf)
    await keyring.refresh()
    await keyring.identify(header, HERE)
    del shelf.keys[key.id]
    shelf.sequence = 2
    await keyring.refresh()
    assert "Incorrect" in await refused(keyring, header)


async def test_configured_keys_need_no_store(shelf: Shelf, held: StoredKeys) -> None:
    shelf.away = True
    keyring = Keyring(Access(keys=[Key(name="c", hash=hash_key("c"))]), open=False, stored=held)
    await keyring.refresh()
    assert (await keyring.identify(b"Bearer c", HERE)).key_name == "c"


# -- tenants -----------------------------------------------------------------------------------------------
async def test_a_tenant_bounds_its_keys_wherever_they_are_written(shelf: Shelf, held: StoredKeys) -> None:
    entry = Key(name="c", hash=hash_key("c"), tenant="a")
    keyring = Keyring(Access(keys=[entry]), open=False, stored=held)
    header, _ = made(shelf, tenant="a", models=["x", "p/*"])
    free = await keyring.identify(header, HERE)
    assert [free.may_use(name) for name in ("x", "p/m", "y")] == [True, True, False]
    await keyring.refresh()
    shelf.put(tenant("a", models=["p/m", "y"]))
    await keyring.refresh()
    bound, configured = await keyring.identify(header, HERE), await keyring.identify(b"Bearer c", HERE)
    assert [bound.may_use(name) for name in ("x", "p/m", "p/n", "y")] == [False, True, False, False]
    assert [configured.may_use(name) for name in ("x", "p/m", "y")] == [False, True, True]


async def test_keys_of_a_suspended_tenant_are_refused(shelf: Shelf, held: StoredKeys) -> None:
    keyring = Keyring(Access(keys=[Key(name="c", hash=hash_key("c"), tenant="a")]), open=False, stored=held)
    header, _ = made(shelf, tenant="a")
    await keyring.identify(header, HERE)
    await keyring.refresh()
    shelf.put(replace(tenant("a"), suspended_at=1.0))
    await keyring.refresh()
    for each in (header, b"Bearer c"):
        with pytest.raises(Forbidden, match="suspended"):
            await keyring.identify(each, HERE)
    shelf.put(tenant("a"))
    await keyring.refresh()
    for each in (header, b"Bearer c"):
        assert (await keyring.identify(each, HERE)).tenant == "a"


# -- users -------------------------------------------------------------------------------------------------
async def test_a_user_who_is_known_has_groups_and_can_be_suspended(shelf: Shelf, held: StoredKeys) -> None:
    entry = Key(name="ui", hash=hash_key("ui"), tenant="a", groups=["all"], speaks_for_users=True)
    keyring = Keyring(Access(keys=[entry]), open=False, stored=held)
    front = await keyring.identify(b"Bearer ui", HERE)
    await keyring.refresh()
    shelf.put(User("a", "ada", "", ("board",), 1.0, "test"))
    shelf.put(User("b", "ben", "", ("board",), 1.0, "test"))
    shelf.put(User("a", "eve", "", (), 1.0, "test", suspended_at=1.0))
    await keyring.refresh()
    assert keyring.speaking_for(front, "ada").groups == frozenset({"all", "board"})
    assert keyring.speaking_for(front, "ben").groups == frozenset({"all"})  # known in another tenant only
    assert keyring.speaking_for(front, None) is front
    with pytest.raises(Forbidden, match="suspended"):
        keyring.speaking_for(front, "eve")
    header, _ = made(shelf, tenant="a", user="eve")
    own = await keyring.identify(header, HERE)
    with pytest.raises(Forbidden, match="suspended"):
        keyring.speaking_for(own, None)
    shelf.users.clear()
    shelf.sequence += 1
    await keyring.refresh()
    assert keyring.speaking_for(front, "eve").user == "eve"


# -- open mode ---------------------------------------------------------------------------------------------
async def test_in_open_mode_a_stored_key_is_itself_and_a_revoked_one_is_none(shelf: Shelf, held: StoredKeys) -> None:
    keyring = Keyring(Access(), open=True, stored=held)
    await keyring.refresh()
    header, key = made(shelf, models=["m"])
    assert (await keyring.identify(b"Bearer anything", HERE)).key_id == "open"
    assert (await keyring.identify(header, HERE)).models == frozenset({"m"})
    shelf.put(revoked(key, "admin"))
    await keyring.refresh()
    assert "revoked" in await refused(keyring, header)
    assert (await keyring.identify(None, HERE)).key_id == "open"


async def test_open_mode_ends_for_good_with_a_key_that_administers(shelf: Shelf, held: StoredKeys) -> None:
    keyring = Keyring(Access(), open=True, stored=held)
    await keyring.refresh()
    assert keyring.known(None, HERE) is not None
    _, key = made(shelf, role="admin", scope="gateway")
    await keyring.refresh()
    with pytest.raises(Unauthenticated):
        keyring.known(None, HERE)
    shelf.put(revoked(key, "admin"))
    await keyring.refresh()
    with pytest.raises(Unauthenticated):
        keyring.known(None, HERE)


async def test_nobody_is_let_in_before_it_is_known_whether_the_mode_is_open(shelf: Shelf, held: StoredKeys) -> None:
    shelf.away = True
    keyring = Keyring(Access(), open=True, stored=held)
    await keyring.refresh()
    for header in (None, b"Bearer anything"):
        with pytest.raises(StageFailed):
            await keyring.identify(header, HERE)


# -- F7, F9: nothing but the whole key ---------------------------------------------------------------------
async def test_neither_parts_of_a_key_nor_its_hash_are_one(shelf: Shelf, keyring: Keyring) -> None:
    header, key = made(shelf)
    secret = header.removeprefix(b"Bearer ")
    digest = hashlib.sha256(secret)
    assert key.secrets[0].digest == digest.digest()
    wrong = [secret[:-1], secret + b"A", secret[:20], secret[:20] + b"A" * 29, secret.swapcase(), digest.digest(),
             digest.hexdigest().encode(), b"sha256:" + digest.hexdigest().encode(), key.id.encode(),
             key.secrets[0].prefix.encode(), digest.hexdigest()[:16].encode()]  # fmt: skip
    for each in (*wrong, *wrong):
        assert "Incorrect API key" in await refused(keyring, b"Bearer " + each)
    assert (await keyring.identify(header, HERE)).key_id == key.id
